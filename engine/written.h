// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "engine/journal_layout.h"
#include "kernel/base/shared.h"
#include "kernel/base/units.h"

namespace faultline::engine {

/// What one duty of a guest may have written in the guest's memory besides the register page:
/// queues and pages of MSIs, also those that the guest has left since. For a VMM that migrates the
/// guest.
///
/// Each slot is a page and, in its low bits, one more than log2 of how many pages follow from
/// there; 0 is none. What finds no slot makes it all of the guest's memory.
///
/// thread  note(): the shard that owns the duty; the rest any
class WrittenPages {
 public:
  static constexpr std::uint64_t kEverything = ~std::uint64_t{0};

  explicit WrittenPages(std::uint64_t (&slots)[kJournalWritten]) noexcept : slots_(slots) {}

  /// Before the first write. cost: for where a duty has not written just before
  [[gnu::cold, gnu::noinline]] void note(Gpa gpa, std::uint64_t bytes) noexcept {
    if (bytes == 0) return;
    const std::uint64_t first = gpa.value / kPage4K;
    const std::uint64_t span = (gpa.value + bytes - 1) / kPage4K - first;
    const std::uint64_t piece = first * kPage4K + std::bit_width(span) + 1;
    for (std::uint64_t& slot : slots_) {
      const std::uint64_t has = load_relaxed(slot);
      if (has == kEverything || has == piece) return;
      if (has != 0) continue;
      store_release(slot, piece);
      in_program_order();
      return;
    }
    store_release(slots_[kJournalWritten - 1], kEverything);
    in_program_order();
  }

  [[nodiscard]] bool everything() const noexcept {
    for (const std::uint64_t& slot : slots_) {
      if (load_acquire(slot) == kEverything) return true;
    }
    return false;
  }

  /// call(Gpa, bytes): for each piece, where it is not everything
  template <class Call>
  void each(Call&& call) const {
    for (const std::uint64_t& slot : slots_) {
      const std::uint64_t has = load_acquire(slot);
      const std::uint64_t order = has % kPage4K;
      if (order == 0 || has == kEverything) continue;
      // A journal that somebody else wrote may hold anything.
      call(Gpa{has - order}, order > 40 ? ~std::uint64_t{0} : kPage4K << (order - 1));
    }
  }

 private:
  std::uint64_t (&slots_)[kJournalWritten];
};

}  // namespace faultline::engine
