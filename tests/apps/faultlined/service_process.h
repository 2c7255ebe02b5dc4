// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "apps/session/keeper.h"
#include "kernel/base/clock.h"

extern char** environ;

namespace faultline::daemon {

/// A folder of a test's own, with a configuration in it that collides with nobody's service.
class TestFolder {
 public:
  TestFolder() {
    std::string path = (std::filesystem::temp_directory_path() / "faultlined-XXXXXX").string();
    path_ = ::mkdtemp(path.data());
    // Whoever the service becomes has to come to its socket.
    std::filesystem::permissions(path_, std::filesystem::perms::all);
    write();
  }
  ~TestFolder() { std::filesystem::remove_all(path_); }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;

  /// more   tables beside [service] and [metrics]; service, metrics: keys of those
  void write(const std::string& more = "", const std::string& service = "",
             const std::string& metrics = "listen = \"\"\ntelemetry = false\n") const {
    std::ofstream out(config());
    out << "[service]\nsocket = \"" << socket() << "\"\ninstance = \""
        << std::filesystem::path(path_).filename().string() << "\"\n"
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
        << "seccomp = false\n"  // their runtimes make calls of their own
#endif
        << service << "[metrics]\n"
        << metrics << more;
  }
  [[nodiscard]] std::string config() const {
    return path_ + "/f.toml";
  }
  [[nodiscard]] std::string socket() const {
    return path_ + "/s.sock";
  }
  [[nodiscard]] const std::string& path() const noexcept {
    return path_;
  }

 private:
  std::string path_;
};

/// A program that was built beside this test, in a process of its own; what it says is collected.
class Program {
 public:
  /// passed   as systemd passes them; stay the caller's
  Program(const std::string& name, const std::vector<std::string>& arguments,
          const std::vector<session::KeptFd>& passed = {}) {
    std::array<int, 2> pipe{};
    if (::pipe2(pipe.data(), O_CLOEXEC) != 0) return;
    out_ = pipe[0];
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pipe[1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, pipe[1], STDERR_FILENO);
    const auto self = std::filesystem::read_symlink("/proc/self/exe");
    std::vector<std::string> words;
    std::vector<int> copies;
    if (!passed.empty()) {
      // Only the process itself knows its number.
      words = {"sh", "-c", "LISTEN_PID=$$ exec \"$@\"", "sh"};
      std::string names;
      for (const session::KeptFd& k : passed) {
        copies.push_back(::fcntl(k.fd, F_DUPFD_CLOEXEC, 1000));  // beyond where they go
        posix_spawn_file_actions_adddup2(&actions, copies.back(),
                                         3 + static_cast<int>(copies.size()) - 1);
        names += (names.empty() ? "" : ":") + k.name;
      }
      words.insert(words.begin(), {"env", "LISTEN_FDS=" + std::to_string(copies.size()),
                                   "LISTEN_FDNAMES=" + names});
    }
    words.push_back((self.parent_path().parent_path() / "apps" / name).string());
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& w : words) argv.push_back(w.data());
    argv.push_back(nullptr);
    // Looking for leaks at the end takes system calls that the service has given up by then.
    std::string sanitizer = "ASAN_OPTIONS=abort_on_error=1:detect_leaks=0";
    std::vector<char*> environment = {sanitizer.data()};
    for (char** e = environ; *e != nullptr; ++e) {
      if (std::string_view(*e).rfind("ASAN_OPTIONS=", 0) != 0) environment.push_back(*e);
    }
    environment.push_back(nullptr);
    if (::posix_spawnp(&pid_, argv.front(), &actions, nullptr, argv.data(), environment.data()) !=
        0) {
      pid_ = -1;
    }
    posix_spawn_file_actions_destroy(&actions);
    ::close(pipe[1]);
    for (const int fd : copies) ::close(fd);
  }
  ~Program() {
    if (pid_ > 0) {
      kill(SIGKILL);
      (void)wait();
    }
    ::close(out_);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  /// Nothing once it was waited for: to -1 would be to everybody.
  void kill(int signal) const {
    if (pid_ > 0) ::kill(pid_, signal);
  }
  /// It has not ended yet; takes what it says meanwhile.
  bool running() {
    siginfo_t info{};
    (void)read_some();
    return ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == 0;
  }
  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  [[nodiscard]] const std::string& said() const noexcept { return said_; }

  /// Until it has said this since the last time it was waited for; false: it ended, or 60 s passed.
  bool says(const std::string& what) {
    const Nanos until = monotonic_ns() + Nanos{60} * 1'000'000'000;
    for (;;) {
      const std::size_t at = said_.find(what, seen_);
      if (at != std::string::npos) {
        seen_ = at + what.size();
        return true;
      }
      if (monotonic_ns() > until || !read_some()) return false;
    }
  }

  /// Its exit status, 128 + signal where one ended it; -1: it did not end within 120 s.
  int wait() {
    const Nanos until = monotonic_ns() + Nanos{120} * 1'000'000'000;
    int status = 0;
    for (;;) {
      const pid_t ended = ::waitpid(pid_, &status, WNOHANG);
      if (ended == pid_) break;
      if (ended < 0 || monotonic_ns() > until) return -1;
      (void)read_some();
    }
    while (read_some()) {
    }
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  /// returns  false at the end of its output
  bool read_some() {
    pollfd p{out_, POLLIN, 0};
    if (::poll(&p, 1, 20) <= 0) return true;
    std::array<char, 4096> buffer;
    const ssize_t n = ::read(out_, buffer.data(), buffer.size());
    if (n <= 0) return false;
    said_.append(buffer.data(), static_cast<std::size_t>(n));
    return true;
  }

  pid_t pid_ = -1;
  int out_ = -1;
  std::string said_;
  std::size_t seen_ = 0;
};

}  // namespace faultline::daemon
