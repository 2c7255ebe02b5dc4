// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/sys.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace faultline {
namespace {

template <class T>
T raw(T result) noexcept {
  return result < 0 ? static_cast<T>(-errno) : result;
}

}  // namespace

int LinuxSys::open(const char* path, int flags) noexcept {
  return raw(::open(path, flags | O_CLOEXEC));
}

int LinuxSys::close(int fd) noexcept {
  return raw(::close(fd));
}

int LinuxSys::ioctl(int fd, unsigned long request, void* argument) noexcept {
  return raw(::ioctl(fd, request, argument));
}

std::intptr_t LinuxSys::mmap(void* hint, std::size_t size, int prot, int flags, int fd,
                             off_t at) noexcept {
  void* p = ::mmap(hint, size, prot, flags, fd, at);
  return p == MAP_FAILED ? -errno : reinterpret_cast<std::intptr_t>(p);
}

int LinuxSys::munmap(void* at, std::size_t size) noexcept {
  return raw(::munmap(at, size));
}

ssize_t LinuxSys::pread(int fd, void* out, std::size_t size, off_t at) noexcept {
  return despite_signals([&] { return raw(::pread(fd, out, size, at)); });
}

ssize_t LinuxSys::pwrite(int fd, const void* in, std::size_t size, off_t at) noexcept {
  return despite_signals([&] { return raw(::pwrite(fd, in, size, at)); });
}

ssize_t LinuxSys::read(int fd, void* out, std::size_t size) noexcept {
  return despite_signals([&] { return raw(::read(fd, out, size)); });
}

ssize_t LinuxSys::write(int fd, const void* in, std::size_t size) noexcept {
  return despite_signals([&] { return raw(::write(fd, in, size)); });
}

int LinuxSys::eventfd(unsigned initial, int flags) noexcept {
  return raw(::eventfd(initial, flags));
}

int LinuxSys::epoll_create1(int flags) noexcept {
  return raw(::epoll_create1(flags));
}

int LinuxSys::epoll_ctl(int epfd, int op, int fd, epoll_event* event) noexcept {
  return raw(::epoll_ctl(epfd, op, fd, event));
}

int LinuxSys::epoll_wait(int epfd, epoll_event* events, int max, int timeout_ms) noexcept {
  return raw(::epoll_wait(epfd, events, max, timeout_ms));
}

int LinuxSys::io_uring_setup(unsigned entries, void* params) noexcept {
  return static_cast<int>(raw(::syscall(SYS_io_uring_setup, entries, params)));
}

int LinuxSys::io_uring_enter(int fd, unsigned submit, unsigned wait, unsigned flags) noexcept {
  return static_cast<int>(
      raw(::syscall(SYS_io_uring_enter, fd, submit, wait, flags, nullptr, std::size_t{0})));
}

int LinuxSys::io_uring_register(int fd, unsigned what, void* argument, unsigned n) noexcept {
  return static_cast<int>(raw(::syscall(SYS_io_uring_register, fd, what, argument, n)));
}

}  // namespace faultline
