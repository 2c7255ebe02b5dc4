// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <memory>

#include "kernel/sys.h"

namespace faultline::soft {

/// System calls with a soft kernel in another process. An open soft file is a real descriptor, a
/// SOCK_SEQPACKET connection: it can be duplicated, inherited and passed, and the kernel closes the
/// file with the last duplicate. A descriptor from elsewhere is recognised at its first use.
///
/// Memory for MAP_DMA must have been mapped (shared) through this object, because the kernel needs
/// its descriptor; anonymous memory is given one. The kernel seals it against shrinking, which is
/// this kernel's way to pin. mmap(MAP_PRIVATE | MAP_ANONYMOUS) is therefore shared across a fork.
///
/// Each process makes its own object: the state here is not shared, and calls on a descriptor that
/// two processes hold do not disturb each other. A process killed in a call leaves nothing behind.
///
/// thread   any; calls on one descriptor are made one after the other
class SoftProcessSys {
 public:
  /// socket   SoftProcess::socket() or what was inherited of it; stays the caller's
  explicit SoftProcessSys(int socket);
  ~SoftProcessSys();
  SoftProcessSys(const SoftProcessSys&) = delete;
  SoftProcessSys& operator=(const SoftProcessSys&) = delete;

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

 private:
  struct State;
  std::unique_ptr<State> state_;
  LinuxSys linux_;
};
static_assert(Syscalls<SoftProcessSys>);

}  // namespace faultline::soft
