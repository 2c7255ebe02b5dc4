// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "kernel/base/result.h"

namespace faultline::daemon {

/// Who the service is after its start.
struct Identity {
  uid_t uid = 0;
  gid_t gid = 0;
};

/// The user and the group of these names or numbers; an empty group is the user's own.
///
/// errors   one line: who is not known and what creates it
Result<Identity> find_identity(const std::string& user, const std::string& group);

/// Give up what the service needs only to start: its user (all threads), every capability,
/// supplementary groups, whatever execve() could give it back, core dumps, and being traced by
/// others of the same user. Read back before it returns.
///
/// who      nothing: stay who it is, which must not be root then
/// errors   one line with what to do; the process should end then
/// thread   any, where it changes user; else before there are threads that hold capabilities
Result<void> drop_privileges(const std::optional<Identity>& who);

/// Whether every thread of this process is locked down, as /proc/self/task says: no user, group or
/// capability of root, no_new_privs; with `filtered`, seccomp mode 2.
///
/// errors   one line: the thread and what it still has
Result<void> check_locked_down(bool filtered);

}  // namespace faultline::daemon
