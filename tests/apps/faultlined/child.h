// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <functional>

namespace faultline::daemon {

/// How a forked child ended.
struct Ended {
  int status = -1;  ///< what it returned, -1 when a signal ended it
  int signal = 0;
};

/// Run something that cannot be taken back in a process of its own.
///
/// body   returns the exit status, below 128; no test macros in it
inline Ended in_child(const std::function<int()>& body) {
  const pid_t pid = fork();
  if (pid == 0) _exit(body());
  int status = 0;
  if (pid < 0 || waitpid(pid, &status, 0) != pid) return {};
  if (WIFSIGNALED(status)) return {-1, WTERMSIG(status)};
  return {WEXITSTATUS(status), 0};
}

}  // namespace faultline::daemon
