// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>

#include "kernel/base/shared.h"
#include "kernel/base/units.h"

namespace faultline::guest {

/// The guest's RAM as its driver sees it: one contiguous block of guest-physical memory that is
/// mapped into this process, handed out from the bottom and never given back.
///
/// thread  allocate() and zeroing: the guest's. Words are shared with the engine and the devices:
///         only through the functions of kernel/base/shared.h
class GuestMemory {
 public:
  /// base   page-aligned guest-physical address of host[0]
  /// size   bytes, the whole of it usable
  GuestMemory(Gpa base, void* host, std::size_t size) noexcept
      : base_(base), host_(static_cast<std::byte*>(host)), size_(size) {}

  /// returns zeroed memory, aligned to `align` (a power of two) in guest-physical terms
  /// errors  throws std::bad_alloc when the guest is too small (set-up only)
  Gpa allocate(std::size_t bytes, std::size_t align = kPage4K) {
    const std::uint64_t from = (base_.value + used_ + align - 1) & ~(std::uint64_t{align} - 1);
    const std::uint64_t offset = from - base_.value;
    if (offset > size_ || bytes > size_ - offset) throw std::bad_alloc();
    used_ = static_cast<std::size_t>(offset) + bytes;
    std::memset(host_ + offset, 0, bytes);
    return Gpa{from};
  }

  /// T& at gpa; gpa must come from allocate() and be aligned to T.
  template <class T>
  [[nodiscard]] T& at(Gpa gpa) const noexcept {
    return *reinterpret_cast<T*>(host_ + (gpa.value - base_.value));
  }

  [[nodiscard]] std::uint64_t& word(Gpa gpa) const noexcept { return at<std::uint64_t>(gpa); }
  [[nodiscard]] Gpa base() const noexcept { return base_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] std::size_t used() const noexcept { return used_; }

 private:
  Gpa base_;
  std::byte* host_;
  std::size_t size_;
  std::size_t used_ = 0;
};

}  // namespace faultline::guest
