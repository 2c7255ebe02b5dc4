// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "kernel/base/populate.h"
#include "kernel/base/result.h"
#include "kernel/sys.h"

namespace faultline::vfio {

/// Memory mapped through the seam, unmapped once.
///
/// Sys   must outlive this object
template <Syscalls Sys>
class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& other) noexcept
      : sys_(other.sys_),
        at_(std::exchange(other.at_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept {
    if (this != &other) {
      reset();
      sys_ = other.sys_;
      at_ = std::exchange(other.at_, nullptr);
      size_ = std::exchange(other.size_, 0);
    }
    return *this;
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() { reset(); }

  /// Map [offset, offset + size) of a file, shared.
  ///
  /// prot     PROT_READ, PROT_WRITE
  /// errors   whatever mmap refuses, with `what` in front; an address that is not page aligned
  static Result<Mapping> map(Sys& sys, int fd, std::uint64_t offset, std::size_t size, int prot,
                             const std::string& what) {
    const std::intptr_t at =
        sys.mmap(nullptr, size, prot, MAP_SHARED, fd, static_cast<off_t>(offset));
    if (mmap_failed(at)) return fail(static_cast<int>(-at), what + ": mmap");
    if (at == 0) return fail(0, what + ": mmap gave address 0");
    populate(reinterpret_cast<void*>(at), size, (prot & PROT_WRITE) != 0);
    return Mapping(sys, reinterpret_cast<unsigned char*>(at), size);
  }

  [[nodiscard]] unsigned char* data() const noexcept { return at_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] explicit operator bool() const noexcept { return at_ != nullptr; }

  void reset() noexcept {
    if (at_ != nullptr) sys_->munmap(std::exchange(at_, nullptr), std::exchange(size_, 0));
  }

 private:
  Mapping(Sys& sys, unsigned char* at, std::size_t size) noexcept
      : sys_(&sys), at_(at), size_(size) {}

  Sys* sys_ = nullptr;
  unsigned char* at_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace faultline::vfio
