// SPDX-License-Identifier: BSD-3-Clause
// hot path: only in runs that ask for it; other types, so that the others do not pay.
#pragma once

#include "engine/merge/batch_until_sync.h"
#include "engine/merge/policy.h"

// Mistakes made on purpose: a run that errs like this has to fail its audit.

namespace faultline::merge {

/// `Policy`, but every kEvery-th TLB operation is never submitted.
template <SubmissionPolicy Policy>
class DropTlbi : public Policy {
 public:
  static constexpr unsigned kEvery = 3;

  using Policy::Policy;

  void add(const Operation& op, Position at, Nanos now) noexcept {
    if (cache_of(op.kind) == Cache::kTlb && ++tlb_operations_ % kEvery == 0) return;
    Policy::add(op, at, now);
  }

 private:
  unsigned tlb_operations_ = 0;
};

/// `Policy`, but it lets every SYNC complete at once and submits only when full or kDelay later.
template <SubmissionPolicy Policy>
class EarlySync : public Policy {
 public:
  static constexpr Nanos kDelay = 2'000'000;

  /// setup  what Policy needs besides how long it waits
  template <class... Setup>
  explicit EarlySync(const Setup&... setup) noexcept : Policy(setup..., kDelay) {}

  void add_sync(Position /*at*/, Nanos /*now*/) noexcept {}
  [[nodiscard]] Position oldest(Position none) const noexcept { return none; }
};

static_assert(SubmissionPolicy<DropTlbi<BatchUntilSync>> &&
              SubmissionPolicy<EarlySync<BatchUntilSync>>);

}  // namespace faultline::merge
