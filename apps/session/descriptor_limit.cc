// SPDX-License-Identifier: BSD-3-Clause
#include "apps/session/descriptor_limit.h"

#include <fmt/format.h>

#include <cerrno>

namespace faultline::session {
namespace {

constexpr std::uint64_t kEach = 2;

}  // namespace

std::uint64_t descriptors_of(const GuestParts& parts) noexcept {
  std::uint64_t n = parts.memory.size() + parts.backend_fds.size() + parts.routes.size() +
                    parts.object_fds.size();
  for (const OwnedDevice& device : parts.devices) n += device.fds.size();
  for (const Fd* fd : {&parts.evtq, &parts.gerror, &parts.sync, &parts.doorbell, &parts.arm,
                       &parts.armed, &parts.journal}) {
    n += *fd ? 1U : 0U;
  }
  return n * kEach;
}

Result<void> check_room(const Request& request, unsigned uid, std::uint64_t has,
                        std::uint64_t most) {
  const std::uint64_t more = request.fds.size() * kEach;
  if (more == 0 || (has <= most && more <= most - has)) return {};
  return fail(EINVAL, fmt::format("uid {}: its guests have {} of the {} descriptors that they may "
                                  "have (sessions.descriptors-per-uid), and this takes {} more",
                                  uid, has, most, more));
}

}  // namespace faultline::session
