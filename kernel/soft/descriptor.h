// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <string_view>

namespace faultline::soft {

/// A duplicate of an eventfd: its number, -EBADF, or -EINVAL for another kind of descriptor.
inline int duplicate_eventfd(int fd) noexcept {
  char target[64] = {};
  char path[32] = "/proc/self/fd/";
  char* end = path + std::string_view(path).size();
  if (fd < 0) return -EBADF;
  std::string_view digits;
  const std::string number = std::to_string(fd);
  digits = number;
  digits.copy(end, digits.size());
  if (readlink(path, target, sizeof target - 1) < 0) return -EBADF;
  if (std::string_view(target) != "anon_inode:[eventfd]") return -EINVAL;
  const int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  return own >= 0 ? own : -errno;
}

}  // namespace faultline::soft
