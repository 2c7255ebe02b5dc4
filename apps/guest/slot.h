// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>

#include "apps/guest/page_table.h"
#include "kernel/base/units.h"

namespace faultline::guest {

/// One IOVA page of a device, and the history of what it was mapped to.
///
/// Its life is a row of steps: generation g is mapped at step 3g, its descriptor cleared at 3g + 1,
/// and the CMD_SYNC behind the TLBI seen complete at 3g + 2. An access that was issued at step a
/// and had completed at step b may have been translated at any moment between: generation g is a
/// right answer if [3g, 3g + 2) and [a, b] meet, and a fault is one if any step of [a, b] is not
/// a multiple of 3.
struct Slot {
  Iova iova;
  Gpa page;
  Leaf leaf = Leaf::kReadWrite;
  std::uint64_t step = 2;  ///< starts as unmapped, in generation 0
  std::uint64_t writes_in_flight = 0;

  [[nodiscard]] bool mapped() const noexcept { return step % 3 == 0; }
  [[nodiscard]] bool synced() const noexcept { return step % 3 == 2; }
  [[nodiscard]] std::uint64_t generation() const noexcept { return step / 3; }
};

/// Whether an access of [issued, completed] may have used generation g.
constexpr bool may_use(std::uint64_t g, std::uint64_t issued, std::uint64_t completed) noexcept {
  return 3 * g <= completed && issued < 3 * g + 2;
}

/// Whether an access of [issued, completed] may have found nothing mapped.
constexpr bool may_fault(std::uint64_t issued, std::uint64_t completed) noexcept {
  return issued != completed || issued % 3 != 0;
}

/// Generation tags: what device, slot and generation a page belongs to, in one word.
constexpr std::uint64_t make_tag(unsigned device, unsigned slot,
                                 std::uint64_t generation) noexcept {
  return 0xa5ULL << 56 | std::uint64_t{device & 0xffU} << 48 | std::uint64_t{slot & 0xffffU} << 32 |
         (generation & 0xffff'ffffU);
}

}  // namespace faultline::guest
