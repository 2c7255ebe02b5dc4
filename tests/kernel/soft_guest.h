// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "kernel/base/shared.h"

namespace faultline::soft {

/// A little guest: its memory, one context descriptor and four-level tables of 4 KiB pages, written
/// as a guest driver writes them. Addresses given and returned are guest physical.
class GuestTables {
 public:
  static constexpr std::uint64_t kRw = 1U << 6U;        // AP[1]: user access
  static constexpr std::uint64_t kReadOnly = 3U << 6U;  // AP[2] too
  static constexpr std::uint64_t kNotGlobal = 1U << 11U;

  /// memory   `size` zeroed bytes that the guest sees at `gpa`; the first pages become tables
  GuestTables(void* memory, std::size_t size, std::uint64_t gpa)
      : memory_(static_cast<std::byte*>(memory)), size_(size), gpa_(gpa), next_(gpa) {
    cd_ = page();
    root_ = page();
  }

  [[nodiscard]] std::uint64_t cd() const { return cd_; }
  [[nodiscard]] std::uint64_t gpa() const { return gpa_; }

  /// A zeroed page of guest memory.
  std::uint64_t page() {
    const std::uint64_t at = next_;
    next_ += 4096;
    if (next_ > gpa_ + size_) std::abort();  // a test that needs more memory
    return at;
  }

  std::uint64_t& word(std::uint64_t gpa) {
    return *reinterpret_cast<std::uint64_t*>(memory_ + (gpa - gpa_));
  }

  /// Write the context descriptor at index `i` of the table at cd(): TTBR0 only, 48 bits.
  void write_cd(std::uint16_t asid, std::uint64_t root = 0, std::size_t i = 0) {
    constexpr std::uint64_t kTsz16 = 16, kEpd1 = 1U << 30U, kValid = 1U << 31U, kIps48 = 5UL << 32U,
                            kAa64 = 1UL << 41U, kRecord = 1UL << 45U, kAbort = 1UL << 46U;
    const std::uint64_t at = cd_ + 64 * i;
    store_relaxed(word(at + 8), root != 0 ? root : root_);
    store_release(word(at), kTsz16 | kEpd1 | kValid | kIps48 | kAa64 | kRecord | kAbort |
                                (std::uint64_t{asid} << 48U));
  }

  /// Map the page at `iova` to `gpa`, in the tables at `root` (0: the first ones).
  void map(std::uint64_t iova, std::uint64_t gpa, std::uint64_t attributes = kRw | kNotGlobal,
           std::uint64_t root = 0) {
    constexpr std::uint64_t kPage = 3, kAccessed = 1U << 10U;
    store_release(leaf(iova, root), gpa | attributes | kAccessed | kPage);
  }

  void unmap(std::uint64_t iova, std::uint64_t root = 0) {
    store_release(leaf(iova, root), std::uint64_t{0});
  }

  /// The level-3 descriptor of `iova`; tables above are made as needed.
  std::uint64_t& leaf(std::uint64_t iova, std::uint64_t root = 0) {
    std::uint64_t table = root != 0 ? root : root_;
    for (unsigned level = 0; level < 3; ++level) {
      std::uint64_t& entry = word(table + 8 * ((iova >> (39 - 9 * level)) & 511U));
      if (load_relaxed(entry) == 0) store_release(entry, page() | 3U);
      table = load_relaxed(entry) & 0x0000fffffffff000U;
    }
    return word(table + 8 * ((iova >> 12U) & 511U));
  }

 private:
  std::byte* memory_;
  std::size_t size_;
  std::uint64_t gpa_, next_;
  std::uint64_t cd_ = 0, root_ = 0;
};

}  // namespace faultline::soft
