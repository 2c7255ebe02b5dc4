// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <utility>

#include "apps/guest/memory.h"
#include "kernel/base/units.h"

namespace faultline::guest {

/// Pages that devices read and write. Each cache line of a page in use starts with the page's
/// generation tag (what a device must read) followed by a word that devices may write.
///
/// A page taken away from a device is poisoned and rests in the pool before it is used again; a
/// write that lands meanwhile went through a translation that was no longer there.
///
/// thread   the guest's
class PagePool {
 public:
  static constexpr std::uint64_t kResting = 0x5afe'5afe'5afe'5afeULL;
  static constexpr std::size_t kLine = 64;
  static constexpr std::size_t kLines = kPage4K / kLine;

  /// pages   all that the pool will ever have
  PagePool(GuestMemory& memory, std::size_t pages);

  /// The page that has rested longest, with `tag` in every line.
  ///
  /// written   increased for each line of it that was written while it rested
  /// returns   false when there is none
  bool take(std::uint64_t tag, Gpa& page, std::uint64_t& written) noexcept;

  /// Poison the page: nothing may write it from now on.
  void give_back(Gpa page);

  /// Look at all resting pages, as take() does.
  [[nodiscard]] std::uint64_t written_while_resting() const noexcept;

  /// The word behind a line's tag, where a device's write lands.
  [[nodiscard]] std::uint64_t written_word(Gpa page, std::size_t line) const noexcept;

 private:
  [[nodiscard]] std::uint64_t damage(Gpa page) const noexcept;

  GuestMemory& memory_;
  std::deque<Gpa> resting_;
};

}  // namespace faultline::guest
