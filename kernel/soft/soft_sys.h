// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "kernel/soft/soft_kernel.h"
#include "kernel/sys.h"

namespace faultline::soft {

/// System calls with a soft kernel in this process: /dev/vfio/vfio and /dev/vfio/<n> are its files,
/// their numbers are kFirstFd and up; everything else goes to Linux. Memory given to MAP_DMA is
/// used in place and must stay mapped until it is unmapped.
///
/// thread   any
class SoftSys {
 public:
  static constexpr int kFirstFd = 1 << 20;

  /// kernel   must outlive this object; what is still open is closed with it
  explicit SoftSys(SoftKernel& kernel) noexcept : kernel_(kernel) {}

  int open(const char* path, int flags) noexcept;
  int close(int fd) noexcept;
  int ioctl(int fd, unsigned long request, void* argument) noexcept;
  std::intptr_t mmap(void* hint, std::size_t size, int prot, int flags, int fd, off_t at) noexcept;
  int munmap(void* at, std::size_t size) noexcept;
  ssize_t pread(int fd, void* out, std::size_t size, off_t at) noexcept;
  ssize_t pwrite(int fd, const void* in, std::size_t size, off_t at) noexcept;
  ssize_t read(int fd, void* out, std::size_t size) noexcept;
  ssize_t write(int fd, const void* in, std::size_t size) noexcept;
  int eventfd(unsigned initial, int flags) noexcept;
  int epoll_create1(int flags) noexcept;
  int epoll_ctl(int epfd, int op, int fd, epoll_event* event) noexcept;
  int epoll_wait(int epfd, epoll_event* events, int max, int timeout_ms) noexcept;

  /// The file with a number of ours, or null. For UserCall.
  [[nodiscard]] FilePtr file(int fd) noexcept;
  /// Give a file a number. For UserCall.
  int install(const FilePtr& file) noexcept;

 private:
  SoftKernel& kernel_;
  LinuxSys linux_;
  std::mutex mutex_;
  std::vector<FilePtr> files_;  ///< index + kFirstFd = number
};
static_assert(Syscalls<SoftSys>);

}  // namespace faultline::soft
