// SPDX-License-Identifier: BSD-3-Clause
// hot path: what merging did, beside what the duty counts (engine/command_counters.h).
#pragma once

#include <cstdint>

#include "kernel/base/units.h"

namespace faultline::merge {

/// Written by the shard that owns the policy with tally(), read by anybody with load_relaxed().
/// Entries are pages of the granule of the invalidation that named them.
struct alignas(kCacheLine) MergeCounters {
  std::uint64_t operations = 0;     ///< taken from the duty
  std::uint64_t duplicates = 0;     ///< of these: equal to, or inside, one that was held
  std::uint64_t ranges_merged = 0;  ///< of these: became part of a longer range
  std::uint64_t planned = 0;        ///< operations that the plans came to
  std::uint64_t plans = 0;
  std::uint64_t widened_gap = 0;       ///< ranges joined over pages that nobody named, by cost
  std::uint64_t widened_leaf = 0;      ///< ranges joined that lost LEAF or a level hint
  std::uint64_t widened_asids = 0;     ///< plans whose ranges became those of all ASIDs
  std::uint64_t widened_asid = 0;      ///< plans with ranges that became an ASID (assume-nonglobal)
  std::uint64_t widened_all = 0;       ///< plans that became everything, by cost
  std::uint64_t widened_size = 0;      ///< operations longer than the sink keeps exact
  std::uint64_t widened_deadline = 0;  ///< plans widened beyond the cap to keep the deadline
  std::uint64_t entries_asked = 0;     ///< pages named by address, each once
  std::uint64_t entries_removed = 0;   ///< pages that what was planned names
  std::uint64_t leaf_asked = 0;        ///< pages of which only last-level entries had to go
  std::uint64_t leaf_kept = 0;         ///< of these: planned so
  std::uint64_t lingers = 0;           ///< waits for owners of released SYNCs
  std::uint64_t linger_gains = 0;      ///< SYNCs that joined a submission because it waited
  std::uint64_t audits = 0;            ///< plans recomputed command by command
  std::uint64_t audit_failures = 0;    ///< of these: something was not covered
};

}  // namespace faultline::merge
