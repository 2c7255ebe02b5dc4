// SPDX-License-Identifier: BSD-3-Clause
// hot path: when version 1's producer finds its ring full, as the kernel itself judges.
#pragma once

#include <bit>
#include <cstdint>

namespace faultline::vfio {

/// v7 drops a fault in silence when its ring is full, so loss must be inferred from when that was.
///
/// The kernel asks CIRC_SPACE(prod, cons, nb) = (cons - prod - 1) & (nb - 1) for zero. The mask is
/// right for powers of two only; nb is 85 (or 1365), so that the answer is also 0 for some free
/// spaces that are not: it drops too early, never too late (one slot stays empty by either rule).
class FullRule {
 public:
  /// entries   of the ring, >= 2;  masked  false: by true free space
  FullRule(std::uint32_t entries, bool masked) noexcept
      : entries_(entries), mask_(entries - 1), masked_(masked) {
    // Wrapped (prod < cons), cons - prod - 1 is the true free space f < nb, and the rule says full
    // where f & mask == 0. The largest such f has every bit that the mask lacks, below its highest.
    const std::uint32_t highest = std::bit_floor(mask_);
    const std::uint32_t largest_free = masked ? (~mask_ & (highest - 1)) : 0;
    threshold_ = mask_ - largest_free;
  }

  /// Whether the kernel drops at these indices, both < entries.
  [[nodiscard]] bool full(std::uint32_t prod, std::uint32_t cons) const noexcept {
    if (masked_) return ((cons - prod - 1U) & mask_) == 0;
    return (prod + 1 == entries_ ? 0 : prod + 1) == cons;
  }

  /// With fewer records than this in the ring it never drops.
  [[nodiscard]] std::uint32_t threshold() const noexcept { return threshold_; }

 private:
  std::uint32_t entries_;
  std::uint32_t mask_;
  std::uint32_t threshold_ = 0;
  bool masked_;
};

}  // namespace faultline::vfio
