// SPDX-License-Identifier: BSD-3-Clause
// hot path: which ASIDs may be live.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace faultline::vfio {

/// A set of 16-bit ASIDs: 8 KiB of bits, and a word of summary per 4,096 of them so that walking a
/// small set does not read it all.
class AsidSet {
 public:
  AsidSet() : bits_(kWords), summary_(kWords / 64) {}

  void add(std::uint16_t asid) noexcept {
    if (has(asid)) return;
    const std::size_t word = asid / 64U;
    bits_[word] |= std::uint64_t{1} << (asid % 64U);
    summary_[word / 64] |= std::uint64_t{1} << (word % 64);
    ++size_;
  }

  [[nodiscard]] bool has(std::uint16_t asid) const noexcept {
    return ((bits_[asid / 64U] >> (asid % 64U)) & 1U) != 0;
  }

  [[nodiscard]] std::size_t size() const noexcept { return size_; }

  void clear() noexcept {
    for (std::size_t s = 0; s < summary_.size(); ++s) {
      for (; summary_[s] != 0; summary_[s] &= summary_[s] - 1) {
        bits_[s * 64 + static_cast<std::size_t>(std::countr_zero(summary_[s]))] = 0;
      }
    }
    size_ = 0;
  }

  /// f(asid) for each in rising order, until one returns < 0; that, or 0.
  template <class F>
  int for_each(F f) const noexcept {
    for (std::size_t s = 0; s < summary_.size(); ++s) {
      for (std::uint64_t words = summary_[s]; words != 0; words &= words - 1) {
        const std::size_t w = s * 64 + static_cast<std::size_t>(std::countr_zero(words));
        for (std::uint64_t bits = bits_[w]; bits != 0; bits &= bits - 1) {
          const int rc = f(static_cast<std::uint16_t>(
              w * 64 + static_cast<std::size_t>(std::countr_zero(bits))));
          if (rc < 0) return rc;
        }
      }
    }
    return 0;
  }

 private:
  static constexpr std::size_t kWords = 65536 / 64;

  std::vector<std::uint64_t> bits_;
  std::vector<std::uint64_t> summary_;
  std::size_t size_ = 0;
};

}  // namespace faultline::vfio
