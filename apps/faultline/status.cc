// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/status.h"

#include <cstdio>

#include "apps/faultline/status_socket.h"
#include "apps/faultline/status_tables.h"
#include "apps/metrics/moment_json.h"

namespace faultline {

Result<void> status_command(const std::string& socket, bool json) {
  auto service = ServiceSocket::open(socket);
  if (!service) return tl::unexpected(service.error());
  if (json) {
    const auto answer = service->ask("status");
    if (!answer) return tl::unexpected(answer.error());
    // What is no answer is none for a script either.
    if (const auto read = metrics::moment_from_json(answer->dump()); !read) {
      return tl::unexpected(read.error());
    }
    std::puts(answer->dump(2).c_str());
    return {};
  }
  const auto before = ask_moment(*service);
  if (!before) return tl::unexpected(before.error());
  constexpr Nanos kSecond = 1'000'000'000;
  if (service->closed_within(kSecond)) return fail(0, socket + ": the service went away");
  const auto now = ask_moment(*service);
  if (!now) return tl::unexpected(now.error());
  std::fputs(status_text(*before, *now).c_str(), stdout);
  return {};
}

}  // namespace faultline
