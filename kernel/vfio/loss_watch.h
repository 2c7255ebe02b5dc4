// SPDX-License-Identifier: BSD-3-Clause
// hot path: version 1 loses faults in silence; where that may have happened.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernel/vfio/fault_stats.h"
#include "kernel/vfio/full_rule.h"

namespace faultline::vfio {

/// Infers losses of one version 1 ring from the indices that were seen.
///
/// A fault is dropped at (p, c) when prod stood at p while cons was c and that pair is full.
/// Between two reads of prod it took every value from the first to the second, under any of the
/// cons values in force meanwhile. Under the newest one it cannot have stood at a full p and gone
/// on. So: remember each cons that a commit replaced, and at the next read of prod mark every p on
/// the way that was full under one of them. What was full already when the commit was made is
/// marked then, without waiting for another record. A mark at slot p means "before the record in
/// p".
///
/// Positions count records without wrapping; indices are positions modulo the ring.
class LossWatch {
 public:
  LossWatch(std::uint32_t entries, bool masked)
      : rule_(entries, masked),
        entries_(entries),
        marks_(std::make_unique<unsigned char[]>(entries)) {}

  /// A commit is about to replace the cons at position `cons`: it may have been in force at any
  /// prod from `confirmed` (the prod last read) on.
  void replaced(std::uint64_t cons, std::uint64_t confirmed, FaultStats& stats) noexcept {
    const std::uint32_t at = index(confirmed);
    const bool full = confirmed - cons >= rule_.threshold() && rule_.full(at, index(cons));
    if (full) mark(at, stats);
    for (std::size_t i = 0; i < count_; ++i) {
      if (old_[i].cons == cons) return;
    }
    if (count_ == old_.size()) {
      everything_ = true;  // prod could not be read for as many commits
      return;
    }
    old_[count_++] = {cons, full};
  }

  /// prod was read: it went from one position to another under the cons values remembered.
  void passed(std::uint64_t from, std::uint64_t to, FaultStats& stats) noexcept {
    for (std::size_t i = 0; i < count_; ++i) {
      const std::uint64_t cons = old_[i].cons;
      const std::uint64_t last = cons + entries_ - 1;  // full by either rule, so never passed
      // The first one was in force when prod stood at `from`, so a kernel with the masked rule
      // stopped at the first full p; one without went on to the last slot.
      const bool one_stop = i == 0 && !resumed_;
      // Below the threshold it is never full, which is nearly always all there is to do.
      std::uint64_t p = std::max(cons + rule_.threshold(), from);
      if (old_[i].marked) p = one_stop ? std::max(last, from + 1) : std::max(p, from + 1);
      for (; p <= std::min(to, last); ++p) {
        if (!rule_.full(index(p), index(cons))) continue;
        mark(index(p), stats);
        if (one_stop) p = std::max(p, last - 1);
      }
    }
    if (everything_) [[unlikely]] {
      for (std::uint64_t p = from; p <= to; ++p) mark(index(p), stats);
    }
    count_ = 0;
    resumed_ = everything_ = false;
  }

  /// Whether prod must be read before another commit.
  [[nodiscard]] bool crowded() const noexcept { return count_ + 2 > old_.size(); }

  void mark(std::uint32_t slot, FaultStats& stats) noexcept {
    if (marks_[slot] != 0) return;
    marks_[slot] = 1;
    ++pending_;
    ++stats.possible_loss;
  }

  /// Whether the next read of prod has to mark all that it passes.
  [[nodiscard]] bool uncertain() const noexcept { return everything_; }

  /// A cons that is not known may have been in force on the way that the next read of prod covers.
  void suspect() noexcept { everything_ = true; }

  /// A cons that is not known was in force until now, with prod at `confirmed` or beyond.
  void doubt(std::uint64_t confirmed, FaultStats& stats) noexcept {
    mark(index(confirmed), stats);
    suspect();
  }

  [[nodiscard]] bool any() const noexcept { return pending_ != 0; }

  /// Whether something may have been lost before the record in `slot`; forgotten by the call.
  bool take(std::uint32_t slot) noexcept {
    if (pending_ == 0 || marks_[slot] == 0) return false;
    marks_[slot] = 0;
    --pending_;
    return true;
  }

  /// For a journal: the cons in force (its index), and whether a loss is known or could still be
  /// found that a restart could not find again. 0 is left for "nothing known".
  [[nodiscard]] std::uint64_t cookie(std::uint32_t cons, bool uncertain) const noexcept {
    const bool more = uncertain || everything_ || pending_ != 0 || count_ != 0;
    return std::uint64_t{cons} + 1 + (more ? kMore : 0);
  }

  /// Go on from a journal that was written with prod at `confirmed` or beyond.
  ///
  /// returns  position of the cons that was in force then, at most `confirmed`
  std::uint64_t resume(std::uint64_t cookie, std::uint64_t confirmed, FaultStats& stats) noexcept {
    const std::uint32_t at = index(confirmed);
    resumed_ = true;  // prod may have been read beyond `confirmed` before, under an older cons
    everything_ = (cookie & kMore) != 0;
    const std::uint64_t cons = (cookie & ~kMore) - 1;
    if ((cookie & ~kMore) == 0 || cons >= entries_) return confirmed;
    const std::uint64_t position = confirmed - (at >= cons ? at - cons : at + entries_ - cons);
    replaced(position, confirmed, stats);
    return position;
  }

 private:
  static constexpr std::uint64_t kMore = std::uint64_t{1} << 63U;

  struct Old {
    std::uint64_t cons = 0;
    bool marked = false;  ///< the prod at which it was replaced is marked already
  };

  [[nodiscard]] std::uint32_t index(std::uint64_t position) const noexcept {
    return static_cast<std::uint32_t>(position % entries_);
  }

  FullRule rule_;
  std::uint32_t entries_;
  std::size_t count_ = 0;
  std::size_t pending_ = 0;
  bool resumed_ = false;
  bool everything_ = false;   ///< nothing can be excluded: the next read marks all that it passes
  std::array<Old, 6> old_{};  ///< replaced since prod was last read
  std::unique_ptr<unsigned char[]> marks_;
};

}  // namespace faultline::vfio
