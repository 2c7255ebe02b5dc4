// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <utility>

namespace faultline {

/// A descriptor of the kernel behind `sys`, closed once.
///
/// Sys   anything with close(fd); must outlive this object
template <class Sys>
class UniqueFd {
 public:
  UniqueFd() = default;
  UniqueFd(Sys& sys, int fd) noexcept : sys_(&sys), fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : sys_(other.sys_), fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) {
      reset();
      sys_ = other.sys_;
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { reset(); }

  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] explicit operator bool() const noexcept { return fd_ >= 0; }
  int release() noexcept { return std::exchange(fd_, -1); }
  void reset() noexcept {
    if (fd_ >= 0) sys_->close(std::exchange(fd_, -1));
  }

 private:
  Sys* sys_ = nullptr;
  int fd_ = -1;
};

}  // namespace faultline
