// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/drain.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "apps/faultline/status_socket.h"

namespace faultline {

Result<void> drain_command(const std::string& socket, unsigned limit_s) {
  constexpr Nanos kSecond = 1'000'000'000;
  auto service = ServiceSocket::open(socket, std::min(ServiceSocket::kPatience, limit_s * kSecond));
  if (!service) return tl::unexpected(service.error());
  // One that tells no status, or one of another version, can be drained all the same.
  if (const auto moment = ask_moment(*service)) {
    fmt::print("draining {} guests on node {}\n", moment->engine.guests.size(), moment->node);
    std::fflush(stdout);
  } else if (moment.error().code == ETIMEDOUT) {
    return tl::unexpected(moment.error());
  }
  const auto asked = service->ask("drain");
  // It may be gone before its answer is read.
  if (!asked && asked.error().code != ECONNRESET) return tl::unexpected(asked.error());
  for (unsigned second = 0; asked && !service->closed_within(kSecond);) {
    if (++second >= limit_s) {
      return fail(ETIMEDOUT, fmt::format("{}: still there after {} s", socket, limit_s));
    }
    fmt::print("{} s\n", second);
    std::fflush(stdout);
  }
  fmt::print("drained: the service has ended\n");
  return {};
}

}  // namespace faultline
