// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultlined/check.h"

#include <utility>

#include "apps/faultlined/listener.h"
#include "apps/faultlined/outlets.h"
#include "apps/faultlined/privileges.h"

namespace faultline::daemon {
namespace {

Result<void> check_user(const config::Options& o) {
  if (o.user.empty()) return {};
  auto who = find_identity(o.user, o.group);
  if (!who) return fail(std::move(who.error()), "service.user");
  if (who->uid != 0 && who->gid != 0) return {};
  return fail(0, "service.user: it must not stay root: name another user and group");
}

}  // namespace

std::vector<std::string> check(const config::Options& options, bool own_socket) {
  std::vector<std::string> wrong;
  const auto note = [&](const Result<void>& ok) {
    if (!ok) wrong.push_back(ok.error().message());
  };
  note(check_user(options));
  if (own_socket) note(check_socket(options));
  note(check_metrics(options));
  return wrong;
}

}  // namespace faultline::daemon
