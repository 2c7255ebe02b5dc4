// SPDX-License-Identifier: BSD-3-Clause
// hot path: the bytes that reads of an event file yield.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

#include "kernel/sys.h"

namespace faultline::iommufd {

/// What one read did.
enum class ReadResult : std::uint8_t { kSome, kEmpty, kAgain, kFailed };

/// A file whose empty read returns 0, and the bytes read and not yet looked at. What a read leaves
/// of a record stays in front of what the next one brings.
///
/// thread   one at a time
template <Syscalls Sys>
class EventFile {
 public:
  /// fd      non-blocking, open as long as this object lives
  /// bytes   of one read at most
  EventFile(Sys& sys, int fd, std::size_t bytes)
      : sys_(&sys), fd_(fd), bytes_(bytes), buffer_(std::make_unique<unsigned char[]>(bytes)) {}

  /// Read once, behind what is left.
  /// cost   one system call
  ReadResult read() noexcept {
    const std::size_t left = tail_ - head_;
    if (head_ != 0) {
      std::memmove(buffer_.get(), buffer_.get() + head_, left);
      head_ = 0;
      tail_ = left;
    }
    const ssize_t got = sys_->read(fd_, buffer_.get() + tail_, bytes_ - tail_);
    if (got > 0) {
      tail_ += std::min(static_cast<std::size_t>(got), bytes_ - tail_);
      return ReadResult::kSome;
    }
    if (got == 0 || got == -EAGAIN) return ReadResult::kEmpty;
    return got == -EINTR ? ReadResult::kAgain : ReadResult::kFailed;
  }

  [[nodiscard]] std::size_t left() const noexcept { return tail_ - head_; }

  /// Copy the next bytes without taking them. Requires left() >= sizeof(T).
  template <class T>
  [[nodiscard]] T peek(std::size_t at = 0) const noexcept {
    T out;
    std::memcpy(&out, buffer_.get() + head_ + at, sizeof out);
    return out;
  }
  void take(std::size_t bytes) noexcept { head_ += bytes; }

  [[nodiscard]] int fd() const noexcept { return fd_; }

 private:
  Sys* sys_;
  int fd_;
  std::size_t head_ = 0;
  std::size_t tail_ = 0;
  std::size_t bytes_;
  std::unique_ptr<unsigned char[]> buffer_;
};

}  // namespace faultline::iommufd
