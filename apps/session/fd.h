// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <fcntl.h>

#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "apps/session/close.h"
#include "kernel/base/result.h"

namespace faultline::session {

/// A descriptor of this process, closed once. A VMM may have sent it, so that to close it never
/// waits (close.h).
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) noexcept : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(other.release()) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = other.release();
    }
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { reset(); }

  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] explicit operator bool() const noexcept { return fd_ >= 0; }
  int release() noexcept { return std::exchange(fd_, -1); }
  void reset() noexcept {
    if (fd_ >= 0) close_passed(std::exchange(fd_, -1));
  }

  /// Another descriptor of the same file; of none, none.
  [[nodiscard]] Result<Fd> duplicate() const {
    if (fd_ < 0) return Fd();
    const int copy = ::fcntl(fd_, F_DUPFD_CLOEXEC, 3);
    if (copy < 0) return fail(errno, "duplicate a descriptor (raise the service's LimitNOFILE)");
    return Fd(copy);
  }

 private:
  int fd_ = -1;
};

}  // namespace faultline::session
