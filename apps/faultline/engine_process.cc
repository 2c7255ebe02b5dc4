// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/engine_process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

#include "kernel/base/shared.h"

extern char** environ;

namespace faultline {
namespace {

int memory_file(const char* name, std::size_t bytes) {
  const int fd = ::memfd_create(name, MFD_CLOEXEC);
  if (fd >= 0 && ::ftruncate(fd, static_cast<off_t>(bytes)) != 0) {
    ::close(fd);
    return -1;
  }
  return fd;
}

}  // namespace

Result<std::unique_ptr<EngineProcess>> EngineProcess::spawn(Description d) {
  auto process = std::unique_ptr<EngineProcess>(new EngineProcess);
  process->go_ = d.go = ::eventfd(0, EFD_CLOEXEC);
  d.status = memory_file("engine-status", sizeof(EngineStatus));
  void* page = d.status < 0 ? MAP_FAILED
                            : ::mmap(nullptr, sizeof(EngineStatus), PROT_READ | PROT_WRITE,
                                     MAP_SHARED, d.status, 0);
  if (page != MAP_FAILED) process->status_ = static_cast<EngineStatus*>(page);
  const std::string text = to_json(d);
  const int description = memory_file("engine-description", text.size());
  const bool made =
      d.go >= 0 && page != MAP_FAILED && description >= 0 &&
      ::pwrite(description, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size());
  int error = errno;
  if (made) {
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    std::vector<int> inherited = d.descriptors();
    inherited.push_back(description);
    // Onto itself: that takes the close-on-exec mark away, in the child only.
    for (const int fd : inherited) posix_spawn_file_actions_adddup2(&actions, fd, fd);
    // A group of its own: Ctrl-C is for the supervisor, who says when this one ends.
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
    posix_spawnattr_setpgroup(&attributes, 0);
    std::string number = std::to_string(description);
    char program[] = "faultline";
    char command[] = "engine";
    char option[] = "--description";
    char* argv[] = {program, command, option, number.data(), nullptr};
    error = ::posix_spawn(&process->pid_, "/proc/self/exe", &actions, &attributes, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (error != 0) process->pid_ = -1;
  }
  if (description >= 0) ::close(description);
  if (d.status >= 0) ::close(d.status);
  if (!made || error != 0) return fail(error, "cannot start an engine process");
  return process;
}

EngineProcess::~EngineProcess() {
  kill();
  if (go_ >= 0) ::close(go_);
  if (status_ != nullptr) ::munmap(status_, sizeof(EngineStatus));
}

bool EngineProcess::spare() const noexcept {
  return load_acquire(status_->spare) != 0;
}

bool EngineProcess::running() const noexcept {
  return load_acquire(status_->running) != 0;
}

void EngineProcess::go() noexcept {
  const std::uint64_t one = 1;
  (void)!::write(go_, &one, sizeof one);
}

bool EngineProcess::ended() noexcept {
  if (pid_ < 0) return true;
  int status = 0;
  if (::waitpid(pid_, &status, WNOHANG) != pid_) return false;
  pid_ = -1;
  exit_ = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  signal_ = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  return true;
}

void EngineProcess::pause() noexcept {
  if (pid_ >= 0) ::kill(pid_, SIGSTOP);
}

void EngineProcess::resume() noexcept {
  if (pid_ >= 0) ::kill(pid_, SIGCONT);
}

void EngineProcess::kill() noexcept {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(std::exchange(pid_, -1), nullptr, 0);
  signal_ = SIGKILL;
}

bool EngineProcess::stop(Nanos limit) noexcept {
  if (pid_ >= 0) ::kill(pid_, SIGTERM);
  const Nanos until = monotonic_ns() + limit;
  while (!ended()) {
    if (monotonic_ns() > until) {
      kill();
      return false;
    }
    ::usleep(1000);
  }
  return signal_ == 0 && exit_ == 0;
}

}  // namespace faultline
