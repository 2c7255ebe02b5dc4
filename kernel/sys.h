// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <sys/epoll.h>
#include <sys/types.h>

#include <cerrno>
#include <concepts>
#include <cstddef>
#include <cstdint>

namespace faultline {

/// The system-call seam: whatever serves these calls is "the kernel" to the backends.
///
/// Every call returns what the raw system call returns: a value >= 0, or the negative errno.
/// mmap returns an address, or the negative errno (-4095..-1); use mmap_failed().
/// All calls may be made from any thread, with the guarantees of the kernel they stand for.
template <class S>
concept Syscalls = requires(S& s, const char* path, int fd, int n, unsigned long request, void* p,
                            const void* cp, std::size_t size, off_t at, epoll_event* ev) {
  { s.open(path, n) }
  noexcept->std::same_as<int>;
  { s.close(fd) }
  noexcept->std::same_as<int>;
  { s.ioctl(fd, request, p) }
  noexcept->std::same_as<int>;
  { s.mmap(p, size, n, n, fd, at) }
  noexcept->std::same_as<std::intptr_t>;
  { s.munmap(p, size) }
  noexcept->std::same_as<int>;
  { s.pread(fd, p, size, at) }
  noexcept->std::same_as<ssize_t>;
  { s.pwrite(fd, cp, size, at) }
  noexcept->std::same_as<ssize_t>;
  { s.read(fd, p, size) }
  noexcept->std::same_as<ssize_t>;
  { s.write(fd, cp, size) }
  noexcept->std::same_as<ssize_t>;
  { s.eventfd(0U, n) }
  noexcept->std::same_as<int>;
  { s.epoll_create1(n) }
  noexcept->std::same_as<int>;
  { s.epoll_ctl(fd, n, fd, ev) }
  noexcept->std::same_as<int>;
  { s.epoll_wait(fd, ev, n, n) }
  noexcept->std::same_as<int>;
};

/// A kernel that has io_uring, too. What only watches files uses it where it is there.
template <class S>
concept RingSyscalls = Syscalls<S> && requires(S& s, unsigned n, void* p, int fd) {
  { s.io_uring_setup(n, p) }
  noexcept->std::same_as<int>;
  { s.io_uring_enter(fd, n, n, n) }
  noexcept->std::same_as<int>;
  { s.io_uring_register(fd, n, p, n) }
  noexcept->std::same_as<int>;
};

inline bool mmap_failed(std::intptr_t result) noexcept {
  return result < 0 && result >= -4095;
}

/// Make a call again where a signal ended it: nothing failed then. Not for ever, since a signal is
/// also what takes a thread out of a call that somebody made hang (engine/nudge.h).
///
/// call   is to make the call with all that it takes: an ioctl may have written to its argument
template <class Call>
auto despite_signals(Call call) noexcept {
  constexpr unsigned kTimes = 3;
  auto result = call();
  for (unsigned i = 0; result == -EINTR && i < kTimes; ++i) result = call();
  return result;
}

/// The real kernel. read, write, pread and pwrite are made despite_signals(); whoever makes an
/// ioctl knows whether that one can be.
class LinuxSys {
 public:
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
  /// params   an io_uring_params
  int io_uring_setup(unsigned entries, void* params) noexcept;
  int io_uring_enter(int fd, unsigned submit, unsigned wait, unsigned flags) noexcept;
  int io_uring_register(int fd, unsigned what, void* argument, unsigned n) noexcept;
};
static_assert(RingSyscalls<LinuxSys>);

}  // namespace faultline
