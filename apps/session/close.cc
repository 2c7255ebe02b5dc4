// SPDX-License-Identifier: BSD-3-Clause
#include "apps/session/close.h"

#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#include "apps/session/file_sort.h"

namespace faultline::session {
namespace {

/// Lives as long as the process, and so does its thread: nobody waits for a close at the end.
class Closer {
 public:
  static Closer& get() {
    static auto& closer = *new Closer();
    return closer;
  }

  void take(int fd) {
    const std::lock_guard lock(mutex_);
    fds_.push_back(fd);
    waiting_.store(waiting_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    // What could not be had now is asked for again with the next one.
    if (!started_) start();
    more_.notify_one();
  }
  [[nodiscard]] std::size_t waiting() const noexcept {
    return waiting_.load(std::memory_order_relaxed);
  }
  void wait_until_idle() {
    std::unique_lock lock(mutex_);
    idle_.wait(lock, [this] { return waiting() == 0; });
  }

 private:
  /// On the CPUs of whoever hands over the first one, which are the housekeeping ones.
  void start() {
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
      std::thread([this] { run(); }).detach();
      started_ = true;
    } catch (const std::exception&) {
      started_ = false;
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  [[noreturn]] void run() {
    pthread_setname_np(pthread_self(), "closer");
    std::unique_lock lock(mutex_);
    for (;;) {
      more_.wait(lock, [this] { return !fds_.empty(); });
      const int fd = fds_.front();
      fds_.pop_front();
      lock.unlock();
      ::close(fd);
      lock.lock();
      waiting_.store(waiting_.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
      if (fds_.empty()) idle_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable more_;
  std::condition_variable idle_;
  std::deque<int> fds_;
  std::atomic<std::size_t> waiting_{0};
  bool started_ = false;
};

/// Nothing is on its way in it; of one that listens nobody knows.
bool is_empty(int socket) noexcept {
  char byte = 0;
  return ::recv(socket, &byte, sizeof byte, MSG_PEEK | MSG_DONTWAIT) < 0 &&
         (errno == EAGAIN || errno == ENOTCONN);
}

bool closes_at_once(int fd) noexcept {
  switch (sort_of(fd)) {
    case FileSort::kMemory:
    case FileSort::kEventfd:
    case FileSort::kVfioDevice:
    case FileSort::kCharacterDevice:
    case FileSort::kQuiet:
      return true;
    case FileSort::kUnixSocket:
      return is_empty(fd);
    case FileSort::kUnknownDevice:
    case FileSort::kOther:
      return false;
  }
  return false;
}

}  // namespace

void close_passed(int fd) noexcept {
  if (fd < 0) return;
  if (closes_at_once(fd)) {
    ::close(fd);
  } else {
    close_elsewhere(fd);
  }
}

void close_elsewhere(int fd) noexcept {
  try {
    Closer::get().take(fd);
  } catch (const std::exception&) {
    return;  // no memory: it stays open
  }
}

std::size_t closing() noexcept {
  return Closer::get().waiting();
}

void wait_until_closed() noexcept {
  Closer::get().wait_until_idle();
}

}  // namespace faultline::session
