// SPDX-License-Identifier: BSD-3-Clause
// hot path: what a rule that makes submissions of commands looks like.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

#include "kernel/base/clock.h"
#include "kernel/operation.h"

namespace faultline::merge {

/// At most this many operations go in one submission: one host CMD_SYNC.
inline constexpr std::size_t kMaxSubmission = 63;

/// How many commands the guest's queue had yielded before this one, counted since it was enabled:
/// an index that never wraps. Several operations of one command share its position.
using Position = std::uint64_t;

/// The rule by which the commands of one guest's queue become submissions.
///
/// The CommandDuty hands over operations and SYNCs in queue order; the policy holds them (bounded,
/// no allocation after construction) and says when a submission starts and what is in it. It may
/// hold operations of several SYNCs at once and submit them together: a SYNC completes as soon as
/// no operation before it is left uncovered, so one submission may complete many.
///
/// room()         how many more operations or SYNCs it takes now; at 0 the duty stops fetching
/// add(op,at,now) an operation of the command at `at`, fetched at `now`; room() > 0
/// add_sync(at,…) a CMD_SYNC with something uncovered before it; room() > 0
/// flush()        everything held now is due, in as many submissions as it takes; until then the
///                duty adds nothing
/// due(now)       a submission starts now. Deadlines are judged here
/// take(now)      the next submission: 1..kMaxSubmission operations in the order in which they have
///                to take effect; valid until done() or clear(). The duty submits it at once
/// done(now)      what take() gave took effect: it is covered. From take() to done() passed what a
///                submission costs
/// released(n,now) n >= 1 CMD_SYNCs were told done: whoever waited for them goes on
/// clear()        everything held is covered by other means, or dropped
/// oldest(none)   position of the oldest command with an operation that is not covered; `none` when
///                there is nothing left
///
/// What has to hold (engine/merge/README.md): what is submitted removes all that the commands one
/// by one would have removed; operations of different kinds that a SYNC separates go in separate
/// submissions, in that order; operations of a kind never pass a different kind that was queued
/// before them.
template <class P>
concept SubmissionPolicy = requires(P& p, const P& c, const Operation& op, Position at, Nanos now) {
  { c.room() }
  noexcept->std::same_as<std::size_t>;
  { p.add(op, at, now) }
  noexcept->std::same_as<void>;
  { p.add_sync(at, now) }
  noexcept->std::same_as<void>;
  { p.flush() }
  noexcept->std::same_as<void>;
  { c.due(now) }
  noexcept->std::same_as<bool>;
  { p.take(now) }
  noexcept->std::same_as<std::span<const Operation>>;
  { p.done(now) }
  noexcept->std::same_as<void>;
  { p.released(std::size_t{1}, now) }
  noexcept->std::same_as<void>;
  { p.clear() }
  noexcept->std::same_as<void>;
  { c.oldest(at) }
  noexcept->std::same_as<Position>;
};

/// Which cache an operation is about. Within one kind the order of operations does not matter,
/// between kinds it does: a stale context descriptor refills the TLB, a stale TLB the ATC.
enum class Cache : std::uint8_t { kConfig, kTlb, kAtc };

constexpr Cache cache_of(OperationKind kind) noexcept {
  switch (kind) {
    case OperationKind::kCfgCd:
    case OperationKind::kCfgCdAll:
      return Cache::kConfig;
    case OperationKind::kAtcInv:
      return Cache::kAtc;
    default:
      return Cache::kTlb;
  }
}

}  // namespace faultline::merge
