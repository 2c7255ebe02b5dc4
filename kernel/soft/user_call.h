// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace faultline::soft {

/// An open file of the soft kernel: container, group or device. The last FilePtr closes it.
class File;
using FilePtr = std::shared_ptr<File>;

/// Memory of a caller as the kernel reaches it, kept alive ("pinned") by `pin`.
struct UserMemory {
  void* at = nullptr;
  std::shared_ptr<void> pin;
};

/// What to map for a region: `size` bytes of the memfd from `at`.
struct RegionMapping {
  int fd = -1;  ///< the kernel's, not to be closed; opened read-only where the region is
  off_t at = 0;
};

/// The caller's side of one ioctl: where its argument lies, and what its numbers mean. One
/// implementation per way of calling (same process, other process).
class UserCall {
 public:
  virtual ~UserCall() = default;

  /// The argument when it is a number and not a pointer.
  [[nodiscard]] virtual unsigned long value() const noexcept = 0;

  /// Copy between the argument's bytes [at, at + size) and the kernel. 0 or -EFAULT.
  virtual int copy_in(std::size_t at, void* to, std::size_t size) noexcept = 0;
  virtual int copy_out(std::size_t at, const void* from, std::size_t size) noexcept = 0;

  /// The open file with this number; 0, -EBADF no such number, -EINVAL not one of this kernel's.
  virtual int file(int fd, FilePtr& file) noexcept = 0;

  /// Give the caller a number for a new open file; >= 0 or -errno.
  virtual int install(const FilePtr& file) noexcept = 0;

  /// A duplicate of the caller's eventfd, which the kernel closes; -EBADF, -EINVAL not an eventfd.
  virtual int eventfd(int fd) noexcept = 0;

  /// Reach and hold the caller's memory [vaddr, vaddr + size), writable where `write`. 0 or
  /// -EFAULT.
  virtual int pin(std::uint64_t vaddr, std::uint64_t size, bool write,
                  UserMemory& memory) noexcept = 0;
};

}  // namespace faultline::soft
