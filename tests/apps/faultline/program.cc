// SPDX-License-Identifier: BSD-3-Clause
#include "tests/apps/faultline/program.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>

#include "kernel/base/clock.h"

extern char** environ;

namespace faultline {
namespace {

// build/tests/apps_faultline_test → build/apps/faultline
std::string program_path(const std::string& program) {
  const auto self = std::filesystem::read_symlink("/proc/self/exe");
  return (self.parent_path().parent_path() / "apps" / program).string();
}

}  // namespace

Finished run_program(const std::vector<std::string>& arguments, unsigned limit_s,
                     const std::string& interrupt_on, const std::vector<std::string>& prefix,
                     const std::string& program) {
  Finished result;
  std::array<int, 2> pipe{};
  if (::pipe2(pipe.data(), O_CLOEXEC) != 0) return result;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, pipe[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, pipe[1], STDERR_FILENO);
  const std::string path = program_path(program);
  std::vector<char*> argv;
  for (const std::string& a : prefix) argv.push_back(const_cast<char*>(a.c_str()));
  argv.push_back(const_cast<char*>(path.c_str()));
  for (const std::string& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
  argv.push_back(nullptr);
  pid_t pid = -1;
  const int spawned = ::posix_spawnp(&pid, argv.front(), &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  ::close(pipe[1]);
  if (spawned != 0) {
    result.out = "cannot start " + path;
    ::close(pipe[0]);
    return result;
  }
  const Nanos until = monotonic_ns() + Nanos{limit_s} * 1'000'000'000;
  std::array<char, 4096> buffer;
  bool interrupted = interrupt_on.empty();
  for (;;) {
    pollfd p{pipe[0], POLLIN, 0};
    if (monotonic_ns() > until) {
      ::kill(pid, SIGKILL);
      result.out += "\n(killed: it did not end in time)\n";
      break;
    }
    if (::poll(&p, 1, 200) <= 0) continue;
    const ssize_t n = ::read(pipe[0], buffer.data(), buffer.size());
    if (n <= 0) break;
    result.out.append(buffer.data(), static_cast<std::size_t>(n));
    if (!interrupted && result.out.find(interrupt_on) != std::string::npos) {
      ::kill(pid, SIGINT);
      interrupted = true;
    }
  }
  ::close(pipe[0]);
  int status = 0;
  ::waitpid(pid, &status, 0);
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

}  // namespace faultline
