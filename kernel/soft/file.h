// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <sys/types.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>

#include "kernel/soft/soft_kernel.h"

namespace faultline::soft {

/// What a container, a group and a device do with the calls on their descriptors. What a file does
/// not offer fails as it does in Linux.
class File {
 public:
  File() = default;
  virtual ~File() = default;
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  virtual int ioctl(unsigned long request, UserCall& call) noexcept = 0;
  virtual ssize_t pread(void* out, std::size_t size, off_t at) noexcept;
  virtual ssize_t pwrite(const void* in, std::size_t size, off_t at) noexcept;
  virtual int mmap(std::size_t size, int prot, int flags, off_t at,
                   RegionMapping& mapping) noexcept;
};

/// Copy in the argument of an ioctl: a struct that begins with argsz, the size its caller knows.
///
/// returns  0, -EINVAL argsz too small, -EFAULT
template <class T>
int copy_argument(UserCall& call, T& argument, Mutation mutation) noexcept {
  if (const int error = call.copy_in(0, &argument.argsz, sizeof argument.argsz); error != 0) {
    return error;
  }
  if (argument.argsz < sizeof(T) && mutation != Mutation::kArgszUnchecked) return -EINVAL;
  return call.copy_in(0, &argument, sizeof(T));
}

}  // namespace faultline::soft
