// SPDX-License-Identifier: BSD-3-Clause
// hot path: the least TLB invalidations that cover those of one stage.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/merge/cost.h"
#include "engine/merge/counters.h"
#include "engine/merge/options.h"
#include "engine/merge/plan.h"
#include "engine/merge/ranges.h"
#include "kernel/base/shared.h"
#include "kernel/operation.h"

namespace faultline::merge {

/// Plans the TLB operations of a stage: exact ranges first, then, where the cost model says that it
/// is cheaper and the cap allows it, wider ones; beyond the deadline whatever the cap.
///
/// What covers what (engine/merge/README.md): VA ⊂ VAA ⊂ everything, ASID ⊂ everything, VA ⊂ ASID
/// only under assume_nonglobal, since TLBI by address removes global entries and TLBI by ASID does
/// not; and within one range no LEAF covers LEAF, no level hint covers any.
///
/// cost  n log n in the ranges of the stage; no allocation
class TlbPlanner {
 public:
  /// sole_granule  the guest can use 4 KiB pages and no other, so an invalidation without a granule
  ///               (TG = 0) is one of 4 KiB
  TlbPlanner(const MergeOptions& options, const SinkCaps& caps, bool sole_granule) noexcept
      : options_(options), model_(CostModel::of(caps)), sole_granule_(sole_granule) {
    // A one-operation sink says any count; an array of commands only what a range can.
    joins_ = !model_.array || caps.range;
    cut_.encode = model_.array && caps.range;
    // Without an operation for everything a sink makes it of the ASIDs that it knows, which leaves
    // global entries, and perhaps others.
    all_covers_ = caps.tlb_all;
    most_ = caps.tlb_all ? caps.max_pages : 0;
    cut_.most = model_.array ? 0 : most_;
  }

  /// Whether an address range may become part of a longer one.
  [[nodiscard]] bool joins(const Operation& op) const noexcept {
    return joins_ && (model_.array || op.kind == OperationKind::kTlbVa) &&
           (sole_granule_ || !cut_.encode || !without_granule(op));
  }
  /// Whether the sink would make everything of it anyway.
  [[nodiscard]] bool too_long(const Operation& op) const noexcept {
    return most_ != 0 && op.pages > most_;
  }

  void plan(std::span<const Operation> ops, Plan& out, MergeCounters& counters) noexcept;

 private:
  // A group is granule, by ASID or of all ASIDs, ASID. Those of all ASIDs sort before the others.
  static constexpr std::uint64_t kByAsid = 1U << 16U;
  static constexpr unsigned kGranuleShift = 17;
  static constexpr std::uint64_t kUnknownGranule = 3;

  /// What is left to be submitted.
  struct Load {
    std::size_t operations = 0;
    std::uint64_t pages = 0;
  };

  static bool without_granule(const Operation& op) noexcept {
    return op.granule_log2 == 12 && op.pages == 1 && op.ttl == 0;
  }
  [[nodiscard]] bool touching(std::uint64_t group) const noexcept {
    // What a one-operation sink makes of all ASIDs is no address range, or one for each of them.
    return joins_ && group >> kGranuleShift != kUnknownGranule &&
           (model_.array || (group & kByAsid) != 0);
  }
  [[nodiscard]] CutRule cut_of(const Range& r) const noexcept {
    return touching(r.group) ? cut_ : CutRule{};
  }
  static std::uint64_t all_asids(std::uint64_t group) noexcept {
    return (group & kByAsid) != 0 ? group & ~(2 * kByAsid - 1) : group;
  }

  [[nodiscard]] Range range_of(const Operation& op) const noexcept {
    const bool unknown = !sole_granule_ && cut_.encode && without_granule(op);
    const std::uint64_t granule = unknown ? kUnknownGranule : (op.granule_log2 - 12U) / 2;
    const std::uint64_t by_asid =
        op.kind == OperationKind::kTlbVa ? kByAsid | std::uint64_t{op.asid} : 0;
    const std::uint64_t begin = op.addr >> op.granule_log2;
    return {granule << kGranuleShift | by_asid, begin, begin + op.pages,
            static_cast<RangeClass>((op.leaf ? kLeafClass : 0U) | (op.ttl & 3U))};
  }

  [[nodiscard]] Load load(const Ranges& ranges) const noexcept {
    Load l{asids_, 0};
    for (const Range& r : ranges.all()) {
      l.operations += cut_of(r).pieces(r);
      l.pages += r.pages();
    }
    return l;
  }
  [[nodiscard]] Nanos cost(const Load& l) const noexcept {
    return model_.cost(l.operations, l.pages);
  }

  void emit(const Range& r, Plan& out) const noexcept {
    const std::uint64_t index = r.group >> kGranuleShift;
    Operation op;
    op.kind = (r.group & kByAsid) != 0 ? OperationKind::kTlbVa : OperationKind::kTlbVaa;
    op.leaf = (r.cls & kLeafClass) != 0;
    op.asid = static_cast<std::uint16_t>(r.group);
    op.granule_log2 = static_cast<std::uint8_t>(index == kUnknownGranule ? 12 : 12 + 2 * index);
    const unsigned level = r.cls & 3U;
    // A level hint needs an address that starts a block of that level.
    const unsigned block = (3 - level) * (op.granule_log2 - 3U);
    cut_of(r).each(r.begin, r.end, [&](std::uint64_t begin, std::uint64_t pages) noexcept {
      op.addr = begin << op.granule_log2;
      op.pages = pages;
      const bool aligned = (begin & ((std::uint64_t{1} << block) - 1)) == 0;
      op.ttl = static_cast<std::uint8_t>(aligned ? level : 0);
      out.add(op);
    });
  }
  void emit_asid(std::uint16_t asid, Plan& out) const noexcept {
    Operation op;
    op.kind = OperationKind::kTlbAsid;
    op.asid = asid;
    out.add(op);
  }

  bool gather(std::span<const Operation> ops, MergeCounters& counters) noexcept;
  bool widen(MergeCounters& counters) noexcept;
  void join_cheaply(std::size_t joins, std::uint64_t budget, MergeCounters& counters) noexcept;
  bool meet_deadline(MergeCounters& counters) noexcept;
  bool try_asids(MergeCounters& counters) noexcept;
  bool try_all_asids(std::uint64_t most, MergeCounters& counters) noexcept;
  void drop_under_asids(MergeCounters& counters) noexcept;

  MergeOptions options_;
  CostModel model_;
  CutRule cut_;
  bool sole_granule_;
  bool joins_ = false;
  bool all_covers_ = false;
  std::uint64_t most_ = 0;
  std::uint64_t asked_ = 0;  ///< pages named by address, each once
  std::size_t asids_ = 0;
  std::array<std::uint16_t, InvalidationSet::kCapacity> asid_{};
  std::array<std::uint64_t, InvalidationSet::kCapacity> gaps_{};
  Ranges ranges_;
  Ranges trial_;
};

/// Read the operations. returns  whether they amount to everything
inline bool TlbPlanner::gather(std::span<const Operation> ops, MergeCounters& counters) noexcept {
  ranges_.clear();
  asids_ = 0;
  bool all = false;
  unsigned classes = 0;
  bool by_asid = false;
  bool of_all = false;
  for (const Operation& op : ops) {
    if (op.kind == OperationKind::kTlbAll) {
      all = true;
    } else if (op.kind == OperationKind::kTlbAsid) {
      asid_[asids_++] = op.asid;
    } else {
      const Range r = range_of(op);
      ranges_.add(r);
      classes |= 1U << r.cls;
      ((r.group & kByAsid) != 0 ? by_asid : of_all) = true;
    }
  }
  if (all && all_covers_) {
    tally(counters.duplicates, ops.size() - 1);
    return true;
  }
  ranges_.sort_by_class();
  const Ranges::Joined joined =
      ranges_.join_equal([this](std::uint64_t group) noexcept { return touching(group); });
  std::size_t inside = joined.inside;
  // A one-operation sink makes an invalidation of all ASIDs of those that it knows.
  const bool wider = by_asid && of_all && model_.array;
  if (!std::has_single_bit(classes) || wider) {
    inside += ranges_.drop_covered(
        [wider](std::uint64_t group) noexcept { return wider ? all_asids(group) : group; });
  }
  tally(counters.ranges_merged, joined.merged);
  tally(counters.duplicates, inside);
  if (asids_ != 0 && options_.assume_nonglobal) drop_under_asids(counters);
  return false;
}

inline void TlbPlanner::drop_under_asids(MergeCounters& counters) noexcept {
  std::sort(asid_.begin(), asid_.begin() + static_cast<std::ptrdiff_t>(asids_));
  trial_.clear();
  for (const Range& r : ranges_.all()) {
    const bool under =
        (r.group & kByAsid) != 0 &&
        std::binary_search(asid_.begin(), asid_.begin() + static_cast<std::ptrdiff_t>(asids_),
                           static_cast<std::uint16_t>(r.group));
    if (!under) trial_.add(r);
  }
  tally(counters.duplicates, ranges_.size() - trial_.size());
  ranges_ = trial_;
}

inline void TlbPlanner::plan(std::span<const Operation> ops, Plan& out,
                             MergeCounters& counters) noexcept {
  bool all = gather(ops, counters);
  std::uint64_t leaf_asked = 0;
  asked_ = 0;
  if (!all) {
    for (const Range& r : ranges_.all()) {
      asked_ += r.pages();
      if ((r.cls & kLeafClass) != 0) leaf_asked += r.pages();
    }
    all = widen(counters);
  }
  if (all) {
    out.add(Operation{});
    tally(counters.entries_removed, asked_ == 0 ? 0 : std::max(asked_, model_.tlb_entries));
  } else {
    std::uint64_t removed = 0;
    std::uint64_t leaf = 0;
    for (const Range& r : ranges_.all()) {
      removed += r.pages();
      if ((r.cls & kLeafClass) != 0) leaf += r.pages();
      emit(r, out);
    }
    for (std::size_t i = 0; i < asids_; ++i) emit_asid(asid_[i], out);
    // A sink that makes everything of the ASIDs: the addresses above took the global entries.
    for (const Operation& op : ops) {
      if (op.kind != OperationKind::kTlbAll) continue;
      out.add(Operation{});
      break;
    }
    tally(counters.entries_removed, removed);
    tally(counters.leaf_kept, std::min(leaf, leaf_asked));
  }
  tally(counters.entries_asked, asked_);
  tally(counters.leaf_asked, leaf_asked);
}

}  // namespace faultline::merge

#include "engine/merge/tlb_widening.h"
