// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The parts of TlbPlanner that run when removing more than was asked may be cheaper.

#include "engine/merge/tlb_planner.h"

namespace faultline::merge {

/// returns  whether the plan is to remove everything
inline bool TlbPlanner::widen(MergeCounters& counters) noexcept {
  const std::size_t n = ranges_.size();
  // One submission, or one operation, is the least there is.
  if (n == 0 || (model_.array ? n + asids_ <= kMaxSubmission / 2 : n == 1)) {
    if (options_.deadline == 0) return false;
    // A range takes two operations at most.
    if (model_.array && model_.cost(2 * n + asids_, 0) <= options_.deadline) return false;
    if (cost(load(ranges_)) <= options_.deadline) return false;
  }
  const std::uint64_t spare =
      options_.cap > 1
          ? static_cast<std::uint64_t>((options_.cap - 1) * static_cast<double>(asked_))
          : 0;
  if (options_.cap > 1) {
    const Load exact = load(ranges_);
    // Fewer operations of an array sink gain only when a submission is saved.
    std::size_t joins = n;
    if (model_.array)
      joins = exact.operations > kMaxSubmission ? exact.operations % kMaxSubmission : 0;
    if (joins != 0) join_cheaply(joins, spare, counters);
    if (model_.array && load(ranges_).operations > kMaxSubmission) {
      (void)try_all_asids(asked_ + spare, counters);
    }
    if (std::max(asked_, model_.tlb_entries) <= asked_ + spare) {
      (void)try_asids(counters);
      if (all_covers_ && model_.cost(1, 0) < cost(load(ranges_))) {
        tally(counters.widened_all);
        return true;
      }
    }
  }
  if (options_.deadline == 0 || cost(load(ranges_)) <= options_.deadline) return false;
  return meet_deadline(counters);
}

/// Join up to `joins` neighbours, those with the fewest pages between them first, over `budget`
/// pages in all; kept if it costs less.
inline void TlbPlanner::join_cheaply(std::size_t joins, std::uint64_t budget,
                                     MergeCounters& counters) noexcept {
  trial_ = ranges_;
  trial_.sort_by_page();
  std::size_t n = 0;
  const Range* last = nullptr;
  std::uint64_t end = 0;
  for (const Range& r : trial_.all()) {
    if (last != nullptr && last->group == r.group && touching(r.group)) {
      const std::uint64_t gap = r.begin > end ? r.begin - end : 0;
      // One TLBI for each page of the gap must cost less than the call that is saved.
      if (model_.array || gap * model_.entry < model_.call) gaps_[n++] = gap;
      end = std::max(end, r.end);
    } else {
      end = r.end;
    }
    last = &r;
  }
  std::sort(gaps_.begin(), gaps_.begin() + static_cast<std::ptrdiff_t>(n));
  std::size_t chosen = 0;
  for (std::uint64_t sum = 0; chosen < n && chosen < joins; ++chosen) {
    sum += gaps_[chosen];
    if (sum > budget) break;
  }
  if (chosen == 0) return;
  const std::uint64_t widest = gaps_[chosen - 1];
  std::size_t of_widest = 0;
  while (of_widest < chosen && gaps_[chosen - 1 - of_widest] == widest) ++of_widest;
  std::size_t over_nothing = 0;
  const Ranges::Joined joined =
      trial_.join_over([&](std::uint64_t group, std::uint64_t gap) noexcept {
        if (!touching(group) || gap > widest || (gap == widest && of_widest == 0)) return false;
        if (gap == widest) --of_widest;
        if (gap == 0) ++over_nothing;
        return true;
      });
  if (cost(load(trial_)) >= cost(load(ranges_))) return;
  ranges_ = trial_;
  tally(counters.widened_gap, joined.merged - over_nothing);
  tally(counters.widened_leaf, joined.weaker);
}

/// Under assume_nonglobal: an ASID instead of several of its ranges; kept if it costs less. How
/// much that removes is not known; the caller takes it for all that a TLB holds. returns  whether
/// kept
inline bool TlbPlanner::try_asids(MergeCounters& counters) noexcept {
  if (!options_.assume_nonglobal) return false;
  const Nanos before = cost(load(ranges_));
  const std::size_t asids = asids_;
  trial_.clear();
  const std::span<const Range> all = ranges_.all();
  for (std::size_t i = 0; i < all.size();) {
    std::size_t next = i + 1;
    while (next < all.size() && all[next].group == all[i].group) ++next;
    if ((all[i].group & kByAsid) != 0 && next - i > 1) {
      asid_[asids_++] = static_cast<std::uint16_t>(all[i].group);
    } else {
      for (; i < next; ++i) trial_.add(all[i]);
    }
    i = next;
  }
  if (asids_ == asids || cost(load(trial_)) >= before) {
    asids_ = asids;
    return false;
  }
  ranges_ = trial_;
  tally(counters.widened_asid);
  return true;
}

/// Ranges of all ASIDs instead of ranges of each; kept if it costs less and removes no more than
/// `most` pages. returns  whether it was kept
inline bool TlbPlanner::try_all_asids(std::uint64_t most, MergeCounters& counters) noexcept {
  // What the seed's interface makes of an invalidation of all ASIDs costs as much as everything.
  if (!model_.array) return false;
  trial_.clear();
  std::uint64_t asids = 0;
  std::uint64_t last = ~std::uint64_t{0};
  for (Range r : ranges_.all()) {
    if ((r.group & kByAsid) != 0 && r.group != last) {
      last = r.group;
      ++asids;
    }
    r.group = all_asids(r.group);
    trial_.add(r);
  }
  if (asids < 2) return false;
  trial_.sort_by_class();
  trial_.join_equal([this](std::uint64_t group) noexcept { return touching(group); });
  trial_.drop_covered([](std::uint64_t group) noexcept { return group; });
  const Load l = load(trial_);
  if (l.pages * asids > most || cost(l) >= cost(load(ranges_))) return false;
  ranges_ = trial_;
  tally(counters.widened_asids);
  return true;
}

/// Precise → longer ranges → ranges of all ASIDs → everything, until the cost is within the
/// deadline. returns  whether the plan is to remove everything
inline bool TlbPlanner::meet_deadline(MergeCounters& counters) noexcept {
  tally(counters.widened_deadline);
  constexpr std::uint64_t kAny = ~std::uint64_t{0};
  const auto late = [this] { return cost(load(ranges_)) > options_.deadline; };
  const auto join_enough = [&] {
    std::size_t most = load(ranges_).operations;
    while (most > 1 && model_.cost(most, 0) > options_.deadline) --most;
    // A joined range may take two operations: then half as many ranges.
    for (const std::size_t ranges : {most, most / 2}) {
      if (late() && ranges_.size() > ranges) {
        join_cheaply(ranges_.size() - std::max<std::size_t>(ranges, 1), kAny, counters);
      }
    }
  };
  join_enough();
  if (!late()) return false;
  if (try_asids(counters) && !late()) return false;
  if (try_all_asids(kAny, counters)) {
    if (late()) join_enough();
    if (!late()) return false;
  }
  if (!all_covers_ || model_.cost(1, 0) >= cost(load(ranges_))) return false;
  tally(counters.widened_all);
  return true;
}

}  // namespace faultline::merge
