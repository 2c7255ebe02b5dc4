// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>

#include "kernel/sys.h"
#include "kernel/uapi/iommufd_nested.h"
#include "kernel/uapi/vfio_cdev.h"

namespace faultline::vm {

/// The real kernel, but one call is refused before it gets there. What cleaning up does works: to
/// close, to unmap, to detach and to destroy.
///
/// thread   one
class FailingSys : public LinuxSys {
 public:
  /// From now on the nth call fails; 0: none does.
  void fail(unsigned nth) noexcept {
    left_ = nth;
    failed_ = false;
  }
  /// Whether it came to that.
  [[nodiscard]] bool failed() const noexcept { return failed_; }

  int open(const char* path, int flags) noexcept {
    return refuse() ? -EMFILE : LinuxSys::open(path, flags);
  }
  int ioctl(int fd, unsigned long request, void* argument) noexcept {
    const bool exempt =
        request == uapi::kIommuDestroy || request == uapi::kVfioDeviceDetachIommufdPt;
    return !exempt && refuse() ? -ENOMEM : LinuxSys::ioctl(fd, request, argument);
  }
  std::intptr_t mmap(void* hint, std::size_t size, int prot, int flags, int fd, off_t at) noexcept {
    return refuse() ? -ENOMEM : LinuxSys::mmap(hint, size, prot, flags, fd, at);
  }
  ssize_t read(int fd, void* out, std::size_t size) noexcept {
    return refuse() ? -EFAULT : LinuxSys::read(fd, out, size);
  }
  ssize_t write(int fd, const void* in, std::size_t size) noexcept {
    return refuse() ? -ENOMEM : LinuxSys::write(fd, in, size);
  }
  int eventfd(unsigned initial, int flags) noexcept {
    return refuse() ? -EMFILE : LinuxSys::eventfd(initial, flags);
  }
  int io_uring_setup(unsigned entries, void* params) noexcept {
    return refuse() ? -EPERM : LinuxSys::io_uring_setup(entries, params);
  }
  int io_uring_enter(int fd, unsigned submit, unsigned wait, unsigned flags) noexcept {
    return refuse() ? -ENXIO : LinuxSys::io_uring_enter(fd, submit, wait, flags);
  }
  int io_uring_register(int fd, unsigned what, void* argument, unsigned n) noexcept {
    return refuse() ? -ENOMEM : LinuxSys::io_uring_register(fd, what, argument, n);
  }

 private:
  bool refuse() noexcept {
    if (left_ == 0 || --left_ != 0) return false;
    failed_ = true;
    return true;
  }

  unsigned left_ = 0;
  bool failed_ = false;
};
static_assert(RingSyscalls<FailingSys>);

/// Files that this process has open.
inline std::size_t open_files() {
  std::size_t n = 0;
  for ([[maybe_unused]] const auto& e : std::filesystem::directory_iterator("/proc/self/fd")) ++n;
  return n;
}

}  // namespace faultline::vm
