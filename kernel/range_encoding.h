// SPDX-License-Identifier: BSD-3-Clause
// hot path: how many granules one TLB invalidation by range can name.
#pragma once

#include <bit>
#include <cstdint>

namespace faultline {

/// NUM and SCALE of an invalidation by range: (num + 1) << scale granules.
///
/// source  Arm IHI 0070, 4.4.1.1
struct RangeFields {
  std::uint8_t num = 0;    ///< 0..31
  std::uint8_t scale = 0;  ///< 0..31

  [[nodiscard]] constexpr std::uint64_t pages() const noexcept {
    return (std::uint64_t{num} + 1) << scale;
  }
};

/// The longest range that one operation can name and that is no longer than `pages`.
///
/// pages  >= 1. The result names more than half of them (unless they are more than 2^36, which no
///        48-bit address space has), so two overlapping ranges cover any number exactly
constexpr RangeFields longest_range(std::uint64_t pages) noexcept {
  constexpr unsigned kNumBits = 5;
  const auto bits = static_cast<unsigned>(std::bit_width(pages));
  unsigned scale = bits > kNumBits ? bits - kNumBits : 0;
  std::uint64_t count = pages >> scale;
  // 32 << s is NUM = 31 as well as 16 << (s + 1).
  if (scale > 31) {
    scale = 31;
    count = 32;
  }
  return {static_cast<std::uint8_t>(count - 1), static_cast<std::uint8_t>(scale)};
}

/// Whether one operation names exactly `pages` granules.
constexpr bool is_range(std::uint64_t pages) noexcept {
  return pages != 0 && longest_range(pages).pages() == pages;
}

}  // namespace faultline
