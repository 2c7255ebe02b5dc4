// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>

#include "kernel/base/result.h"

namespace faultline::soft {

/// Pages of the kernel that userspace may map: a memfd and this process's mapping of it. Zeroed,
/// sealed in size; the same pages after a fork.
class SharedMemory {
 public:
  SharedMemory() = default;
  /// name   for /proc; size is rounded up to pages
  static Result<SharedMemory> make(const char* name, std::size_t size);
  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&& other) noexcept;
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  ~SharedMemory();

  [[nodiscard]] void* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] int fd() const noexcept { return fd_; }
  /// The same memory through a descriptor that cannot be mapped writable, not even by mprotect.
  [[nodiscard]] int read_only_fd() const noexcept { return read_only_fd_; }

 private:
  void* data_ = nullptr;
  std::size_t size_ = 0;
  int fd_ = -1;
  int read_only_fd_ = -1;
};

}  // namespace faultline::soft
