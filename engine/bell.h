// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>
#include <utility>

namespace faultline::engine {

/// An eventfd by which one shard tells another, which may sleep, that a message is in a ring. Until
/// hang() it is none, and ringing it costs a branch.
///
/// thread  ring(): any; drain(): the one that sleeps
class Bell {
 public:
  Bell() = default;
  Bell(const Bell&) = delete;
  Bell& operator=(const Bell&) = delete;
  ~Bell() {
    if (fd_ >= 0) ::close(fd_);
  }

  /// Before anybody rings. returns  false: no descriptors left
  bool hang() noexcept {
    fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fd_ >= 0;
  }

  /// After the message was pushed.
  void ring() const noexcept {
    if (fd_ < 0) [[likely]] {
      return;
    }
    (void)ring(fd_);
  }

  /// returns  false: errno says why
  static bool ring(int fd) noexcept {
    const std::uint64_t one = 1;
    return ::write(fd, &one, sizeof one) == static_cast<ssize_t>(sizeof one);
  }

  void drain() const noexcept { (void)drain(fd_); }

  /// Take back what any non-blocking eventfd signalled; -1 is none. returns  whether it had
  static bool drain(int fd) noexcept {
    if (fd < 0) return false;
    std::uint64_t count = 0;
    return ::read(fd, &count, sizeof count) == static_cast<ssize_t>(sizeof count);
  }

  [[nodiscard]] int fd() const noexcept { return fd_; }

 private:
  int fd_ = -1;
};

}  // namespace faultline::engine
