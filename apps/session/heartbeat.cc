// SPDX-License-Identifier: BSD-3-Clause
#include "apps/session/heartbeat.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "kernel/base/shared.h"

namespace faultline::session {

Result<Heartbeat> Heartbeat::make() {
  Fd fd(::memfd_create("heartbeat", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd || ::ftruncate(fd.get(), kBytes) != 0) return fail(errno, "create the heartbeat page");
  void* at = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (at == MAP_FAILED) return fail(errno, "map the heartbeat page");
  Heartbeat out(std::move(fd), static_cast<std::uint64_t*>(at));
  // From here on this mapping is the only one that can write.
  if (::fcntl(out.memfd_.get(), F_ADD_SEALS,
              F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) != 0) {
    return fail(errno, "seal the heartbeat page");
  }
  return out;
}

Heartbeat::Heartbeat(Heartbeat&& other) noexcept
    : memfd_(std::move(other.memfd_)), at_(std::exchange(other.at_, nullptr)) {}

Heartbeat::~Heartbeat() {
  if (at_ != nullptr) ::munmap(at_, kBytes);
}

void Heartbeat::beat(Nanos oldest) noexcept {
  // A single number that says nothing of other memory: no order is needed.
  store_relaxed(*at_, static_cast<std::uint64_t>(oldest));
}

}  // namespace faultline::session
