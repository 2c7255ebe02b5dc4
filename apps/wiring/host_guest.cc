// SPDX-License-Identifier: BSD-3-Clause
#include "apps/wiring/host_guest.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace faultline {
namespace {

// Queues, tables and pages of a device's workload need less than 2 MiB each.
constexpr std::size_t kGuestBytes = std::size_t{4} << 20;
constexpr std::size_t kDeviceBytes = std::size_t{2} << 20;

}  // namespace

std::vector<HostGuest> make_guests(unsigned guests, const std::vector<StreamId>& vsids) {
  std::vector<HostGuest> made(guests);
  unsigned number = 0;
  for (unsigned g = 0; g < guests; ++g) {
    made[g].name = fmt::format("guest{}", g);
    made[g].bytes = kGuestBytes + vsids.size() * kDeviceBytes;
    for (const StreamId vsid : vsids) {
      ++number;
      // The host's StreamIDs resemble none of the guests'.
      made[g].devices.push_back({fmt::format("0000:{:02x}:{:02x}.0", 1 + number / 32, number % 32),
                                 number, 0x4000 + 8 * number, vsid});
    }
  }
  return made;
}

Result<void> make_descriptors(HostGuest& guest) {
  guest.memfd = ::memfd_create(guest.name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (guest.memfd < 0) return fail(errno, guest.name + ": memfd_create");
  if (::ftruncate(guest.memfd, static_cast<off_t>(guest.bytes)) != 0) {
    return fail(errno, guest.name + ": cannot make its memory of " + std::to_string(guest.bytes) +
                           " bytes");
  }
  if (::fcntl(guest.memfd, F_ADD_SEALS, F_SEAL_SHRINK) != 0) {
    return fail(errno, guest.name + ": cannot seal its memory against shrinking");
  }
  guest.evtq_eventfd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  guest.gerror_eventfd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (guest.evtq_eventfd < 0 || guest.gerror_eventfd < 0) {
    return fail(errno, guest.name + ": eventfd");
  }
  return {};
}

Result<void> lock_memory(const std::vector<HostGuest>& guests) {
  for (const HostGuest& guest : guests) {
    if (::mlock(guest.memory, guest.bytes) == 0) continue;
    rlimit limit{};
    ::getrlimit(RLIMIT_MEMLOCK, &limit);
    const std::size_t total = guests.size() * guest.bytes;
    return fail(0, fmt::format("--lock-memory: {}: cannot lock {} KiB; all guests need {} KiB, "
                               "the limit is {} KiB: raise it (ulimit -l, LimitMEMLOCK=)",
                               guest.name, guest.bytes >> 10U, total >> 10U,
                               static_cast<std::size_t>(limit.rlim_cur) >> 10U));
  }
  return {};
}

void close_descriptors(HostGuest& guest) noexcept {
  for (int* fd : {&guest.memfd, &guest.evtq_eventfd, &guest.gerror_eventfd}) {
    if (*fd >= 0) ::close(std::exchange(*fd, -1));
  }
}

engine::GuestSpec spec_of(const HostGuest& guest, engine::PolicyKind policy,
                          const merge::MergeOptions& merge) {
  engine::GuestSpec spec;
  spec.name = guest.name;
  spec.memory.push_back({HostGuest::kBase, guest.bytes, guest.memory, guest.memfd});
  spec.registers = guest.registers();
  spec.mode = engine::RegisterMode::kExitless;
  spec.policy = policy;
  spec.merge = merge;
  for (const HostDevice& d : guest.devices) spec.devices.push_back({d.name, d.vsid});
  spec.evtq_eventfd = guest.evtq_eventfd;
  spec.gerror_eventfd = guest.gerror_eventfd;
  return spec;
}

}  // namespace faultline
