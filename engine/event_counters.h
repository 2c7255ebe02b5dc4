// SPDX-License-Identifier: BSD-3-Clause
// hot path: what an EventDuty counts.
#pragma once

#include <cstdint>

#include "kernel/base/shared.h"
#include "kernel/base/units.h"
#include "kernel/record.h"

namespace faultline::engine {

/// Of one device of one guest. Every record polled is in exactly one of delivered, discarded,
/// dropped_full, untranslatable, pages_folded and pages_retried.
struct alignas(kCacheLine) EventDeviceCounters {
  std::uint64_t delivered = 0;       ///< in the guest's event queue
  std::uint64_t discarded = 0;       ///< the guest had its event queue disabled
  std::uint64_t dropped_full = 0;    ///< no room in the guest's event queue: overflow
  std::uint64_t untranslatable = 0;  ///< no event can be made of it: overflow
  std::uint64_t lost_exact = 0;      ///< lost in the kernel, by its own count: overflow
  std::uint64_t lost_possible = 0;   ///< occasions on which it may have lost some: overflow
  std::uint64_t commit_failed = 0;   ///< the kernel refused our index; the next burst repeats it
  std::uint64_t page_requests = 0;   ///< of delivered: stalled, the guest is to answer
  std::uint64_t pages_answered = 0;  ///< by the guest
  std::uint64_t pages_folded = 0;    ///< pages of a group before its last one
  std::uint64_t pages_retried = 0;   ///< could not be shown to the guest now: tried again
  std::uint64_t pages_failed = 0;    ///< of discarded: answered with failure
  std::uint64_t pages_void = 0;      ///< the kernel answered by itself: the device was detached
  std::uint64_t answers_stale = 0;   ///< the guest answered what was not open

  [[gnu::cold]] void add_loss(const SourceLoss& loss) noexcept {
    tally(lost_exact, loss.exact);
    tally(lost_possible, loss.possible);
  }
  [[gnu::cold]] void add_loss(const FaultRecord& record) noexcept {
    tally(record.lost_before_is_guess ? lost_possible : lost_exact,
          record.lost_before_is_guess ? 1 : record.lost_before);
  }
};

/// Of one guest.
struct alignas(kCacheLine) EventGuestCounters {
  std::uint64_t bursts = 0;         ///< publications with records
  std::uint64_t overflows = 0;      ///< times OVFLG toggled
  std::uint64_t gerrors = 0;        ///< times GERROR changed
  std::uint64_t guessed = 0;        ///< events inferred from a record without a reason
  std::uint64_t records_cut = 0;    ///< rounds that the guest's budget ended
  std::uint64_t foreign_waits = 0;  ///< rounds with work right behind another guest's submission
  std::uint64_t recoveries = 0;     ///< intents found valid at a restart, and finished
};

/// Errors made on purpose, for the tests of the audit.
enum class EventPlant : std::uint8_t { kNone, kLoseRecord, kDuplicateRecord };

}  // namespace faultline::engine
