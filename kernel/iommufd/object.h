// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <utility>

#include "kernel/sys.h"
#include "kernel/uapi/iommufd.h"

namespace faultline::iommufd {

/// One object of an iommufd, destroyed once; or one of somebody else's, left alone.
///
/// Objects in use cannot be destroyed, so an owner declares what uses another one after it. What
/// cannot be destroyed all the same goes with the last descriptor of the iommufd.
///
/// Sys   must outlive this object, as must the descriptor
template <Syscalls Sys>
class Object {
 public:
  Object() = default;
  Object(Sys& sys, int iommufd, std::uint32_t id) noexcept : sys_(&sys), fd_(iommufd), id_(id) {}
  /// An object that its maker destroys.
  static Object borrow(std::uint32_t id) noexcept {
    Object object;
    object.id_ = id;
    return object;
  }
  Object(Object&& other) noexcept
      : sys_(std::exchange(other.sys_, nullptr)),
        fd_(other.fd_),
        id_(std::exchange(other.id_, 0)) {}
  Object& operator=(Object&& other) noexcept {
    if (this != &other) {
      reset();
      sys_ = std::exchange(other.sys_, nullptr);
      fd_ = other.fd_;
      id_ = std::exchange(other.id_, 0);
    }
    return *this;
  }
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  ~Object() { reset(); }

  /// 0: there is none (the kernel starts at 1).
  [[nodiscard]] std::uint32_t id() const noexcept { return id_; }
  [[nodiscard]] explicit operator bool() const noexcept { return id_ != 0; }

  void reset() noexcept {
    if (sys_ != nullptr && id_ != 0) {
      uapi::iommu_destroy destroy{.size = sizeof destroy, .id = id_};
      sys_->ioctl(fd_, uapi::kIommuDestroy, &destroy);
    }
    sys_ = nullptr;
    id_ = 0;
  }
  /// Leave it to the kernel: a restarted engine finds it there.
  void release() noexcept {
    sys_ = nullptr;
    id_ = 0;
  }

 private:
  Sys* sys_ = nullptr;
  int fd_ = -1;
  std::uint32_t id_ = 0;
};

}  // namespace faultline::iommufd
