// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/soft/soft_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "kernel/soft/process_server.h"

namespace faultline::soft {
namespace {

constexpr int kStopTimeoutMs = 5000;

// Close what was inherited and is not ours: a foreign descriptor kept here would never be seen
// closed by its other users.
void close_all_but(std::vector<int> keep) {
  std::sort(keep.begin(), keep.end());
  unsigned from = STDERR_FILENO + 1;
  for (const int fd : keep) {
    const auto at = static_cast<unsigned>(fd);
    if (at > from) close_range(from, at - 1, 0);
    if (at >= from) from = at + 1;
  }
  close_range(from, UINT_MAX, 0);
}

[[noreturn]] void kernel_process(SoftKernel& kernel, int root) {
  prctl(PR_SET_NAME, "faultline-kern");
  std::signal(SIGINT, SIG_IGN);
  std::signal(SIGPIPE, SIG_IGN);
  std::vector<int> keep = kernel.descriptors();
  keep.push_back(root);
  close_all_but(std::move(keep));
  // Standard error stays, for the sanitizers.
  if (const int null = open("/dev/null", O_RDWR | O_CLOEXEC); null >= 0) {
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    close(null);
  }
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  kernel.start();
  {
    ProcessServer server(kernel, root);
    server.run();
  }
  kernel.stop();
  _exit(0);
}

}  // namespace

Result<std::unique_ptr<SoftProcess>> SoftProcess::start(SoftKernelConfig config) {
  auto kernel = SoftKernel::create(std::move(config));
  if (!kernel) return tl::unexpected(kernel.error());
  int ends[2] = {-1, -1};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return fail(errno, "socketpair for the soft kernel");
  }
  std::fflush(nullptr);  // or the child might print it once more
  const pid_t pid = fork();
  if (pid < 0) {
    const int error = errno;
    close(ends[0]);
    close(ends[1]);
    return fail(error, "fork of the soft kernel");
  }
  if (pid == 0) kernel_process(**kernel, ends[0]);
  close(ends[0]);
  return std::unique_ptr<SoftProcess>(new SoftProcess(std::move(*kernel), ends[1], pid));
}

SoftProcess::SoftProcess(std::unique_ptr<SoftKernel> kernel, int socket, pid_t pid) noexcept
    : kernel_(std::move(kernel)), socket_(socket), pid_(pid) {}

SoftProcess::~SoftProcess() {
  static_cast<void>(stop());
}

bool SoftProcess::alive() const noexcept {
  siginfo_t info{};
  return pid_ > 0 &&
         waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         info.si_pid == 0;
}

Result<void> SoftProcess::stop() {
  if (pid_ <= 0) return {};
  close(std::exchange(socket_, -1));
  const pid_t pid = std::exchange(pid_, -1);
  const auto pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  pollfd ended{pidfd, POLLIN, 0};
  const bool in_time = pidfd >= 0 && poll(&ended, 1, kStopTimeoutMs) == 1;
  if (!in_time) kill(pid, SIGKILL);
  if (pidfd >= 0) close(pidfd);
  int status = 0;
  if (waitpid(pid, &status, 0) != pid) return fail(errno, "wait for the soft kernel");
  if (!in_time) return fail(ETIMEDOUT, "the soft kernel did not end and was killed");
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  if (WIFSIGNALED(status)) {
    return fail(0, "the soft kernel ended by signal " + std::to_string(WTERMSIG(status)));
  }
  return fail(0, "the soft kernel ended with status " + std::to_string(WEXITSTATUS(status)));
}

}  // namespace faultline::soft
