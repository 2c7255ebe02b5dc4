// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <set>
#include <vector>

#include "kernel/sys.h"
#include "tests/fuzz/input.h"

namespace faultline::fuzz {

/// A kernel that is nothing but one event file: reads yield what a target has put there, and writes
/// are answers, of which only those for open cookies are taken.
class EventSys {
 public:
  ssize_t read(int, void* out, std::size_t size) noexcept {
    if (fail_reads > 0) {
      --fail_reads;
      return fail_reads % 3 == 0 ? -EINTR : fail_reads % 3 == 1 ? -EAGAIN : -EIO;
    }
    const std::size_t n = std::min({size, bytes.size(), most});
    if (n != 0) std::memcpy(out, bytes.data(), n);
    bytes.erase(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n));
    return lie != 0 && n != 0 ? static_cast<ssize_t>(n + lie) : static_cast<ssize_t>(n);
  }
  ssize_t write(int, const void* in, std::size_t size) noexcept {
    hold(size != 0 && size % 8 == 0, "half an answer");
    if (fail_writes > 0 && fail_writes-- % 2 == 0) return -EINTR;
    std::size_t done = 0;
    for (; done < size; done += 8) {
      std::uint32_t answer[2];
      std::memcpy(answer, static_cast<const char*>(in) + done, sizeof answer);
      hold(answer[1] <= 1, "a code that does not exist");
      const auto at = cookies.find(answer[0]);
      if (at == cookies.end()) break;
      cookies.erase(at);
      ++answered;
    }
    return done == 0 ? -EINVAL : static_cast<ssize_t>(done);
  }
  template <class T>
  void put(const T& value) {
    const auto* at = reinterpret_cast<const unsigned char*>(&value);
    bytes.insert(bytes.end(), at, at + sizeof value);
  }

  int open(const char*, int) noexcept { return -ENOSYS; }
  int close(int) noexcept { return 0; }
  int ioctl(int, unsigned long, void*) noexcept { return -ENOSYS; }
  std::intptr_t mmap(void*, std::size_t, int, int, int, off_t) noexcept { return -ENOSYS; }
  int munmap(void*, std::size_t) noexcept { return 0; }
  ssize_t pread(int, void*, std::size_t, off_t) noexcept { return -ENOSYS; }
  ssize_t pwrite(int, const void*, std::size_t, off_t) noexcept { return -ENOSYS; }
  int eventfd(unsigned, int) noexcept { return -ENOSYS; }
  int epoll_create1(int) noexcept { return -ENOSYS; }
  int epoll_ctl(int, int, int, epoll_event*) noexcept { return -ENOSYS; }
  int epoll_wait(int, epoll_event*, int, int) noexcept { return -ENOSYS; }

  std::vector<unsigned char> bytes;  ///< not read yet
  std::size_t most = SIZE_MAX;       ///< of one read
  std::size_t lie = 0;               ///< a read says that it yielded so much more
  int fail_reads = 0;
  int fail_writes = 0;
  std::multiset<std::uint32_t> cookies;  ///< cookies
  std::uint64_t answered = 0;
};

}  // namespace faultline::fuzz
