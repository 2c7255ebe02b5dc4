// SPDX-License-Identifier: BSD-3-Clause
// hot path: the least work that covers the commands of one queue, across its SYNCs.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/merge/counters.h"
#include "engine/merge/invalidation_set.h"
#include "engine/merge/linger.h"
#include "engine/merge/options.h"
#include "engine/merge/plan.h"
#include "engine/merge/plan_audit.h"
#include "engine/merge/policy.h"
#include "engine/merge/stream_planner.h"
#include "engine/merge/tlb_planner.h"
#include "kernel/base/shared.h"

namespace faultline::merge {

/// What the policy Merge has to know of a guest and of its sink.
struct MergeSetup {
  MergeOptions options;
  SinkCaps caps{.max_batch = 63, .tlb_all = true, .config_caches = true, .atc = true};
  bool sole_granule = true;  ///< the guest can use 4 KiB pages and no other
  PlanAudit* audit = nullptr;
};

/// Collects operations across SYNCs and submits the least work that covers them, at a SYNC: what
/// came while one submission was in the kernel goes together in the next (group commit).
///
/// cost  engine/merge/README.md has the figures; 60 KiB, no allocation
class Merge {
 public:
  explicit Merge(const MergeSetup& setup = {}) noexcept
      : wait_(setup.options.wait),
        set_(setup.sole_granule || setup.caps.max_batch == 1 || !setup.caps.range),
        tlb_(setup.options, setup.caps, setup.sole_granule),
        streams_(setup.caps),
        linger_(setup.options.linger),
        audit_(setup.audit) {}
  /// As above, but what has no SYNC behind it waits so long.
  explicit Merge(const MergeSetup& setup, Nanos wait) noexcept : Merge(setup) { wait_ = wait; }

  [[nodiscard]] std::size_t room() const noexcept { return flushed_ ? 0 : set_.room(); }

  void add(const Operation& op, Position at, Nanos now) noexcept {
    tally(counters_.operations);
    InvalidationSet::Added added = InvalidationSet::Added::kNew;
    if (op.kind == OperationKind::kTlbVa && tlb_.too_long(op)) [[unlikely]] {
      tally(counters_.widened_size);
      added = set_.add(Operation{}, at, now, false);
    } else {
      added = set_.add(op, at, now, tlb_.joins(op));
    }
    if (audit_ != nullptr) [[unlikely]] {
      audit_->note(op, at, set_.opened());
    }
    if (added == InvalidationSet::Added::kDuplicate) tally(counters_.duplicates);
    if (added == InvalidationSet::Added::kJoined) tally(counters_.ranges_merged);
  }

  void add_sync(Position at, Nanos now) noexcept {
    if (set_.empty()) return;
    set_.add_sync();
    last_sync_ = at;
    linger_.sync(set_.syncs(), now);
  }
  void flush() noexcept { flushed_ = !set_.empty(); }

  [[nodiscard]] bool due(Nanos now) const noexcept {
    if (set_.empty()) return false;
    if (next_ != plan_.size() || room() == 0) return true;
    if (set_.oldest() < last_sync_) return !linger_.waiting(set_.syncs(), now);
    return now >= set_.since() + wait_;
  }

  [[nodiscard]] std::span<const Operation> take(Nanos now) noexcept {
    if (next_ == plan_.size()) {
      linger_.over(set_.syncs(), counters_);
      make_plan();
    }
    started_ = now;
    return plan_.all().subspan(next_, std::min(plan_.size() - next_, kMaxSubmission));
  }

  void done(Nanos now) noexcept {
    linger_.submitted(now > started_ ? now - started_ : 0);
    next_ += std::min(plan_.size() - next_, kMaxSubmission);
    if (next_ != plan_.size()) return;
    next_ = 0;
    plan_.clear();
    set_.remove_front();
    if (set_.empty()) flushed_ = false;
  }

  void released(std::size_t syncs, Nanos now) noexcept {
    linger_.released(syncs, set_.syncs(), now, counters_);
  }

  void clear() noexcept {
    set_.clear();
    plan_.clear();
    next_ = 0;
    last_sync_ = 0;
    flushed_ = false;
    linger_.clear();
    if (audit_ != nullptr) [[unlikely]] {
      audit_->clear();
    }
  }

  [[nodiscard]] Position oldest(Position none) const noexcept {
    return set_.empty() ? none : set_.oldest();
  }

  [[nodiscard]] const MergeCounters& counters() const noexcept { return counters_; }

 private:
  void make_plan() noexcept {
    plan_.clear();
    const std::size_t stages = set_.seal_front();
    for (std::size_t i = 0; i < stages; ++i) plan_stage(set_.stage(i));
    tally(counters_.plans);
    tally(counters_.planned, plan_.size());
    if (audit_ != nullptr) [[unlikely]] {
      audit_->check(set_.sealed(), plan_.all(), counters_);
    }
  }
  void plan_stage(std::span<const Operation> ops) noexcept {
    const auto part = [&](Cache kind) noexcept {
      std::size_t n = 0;
      while (n != ops.size() && cache_of(ops[n].kind) == kind) ++n;
      const std::span<const Operation> front = ops.first(n);
      ops = ops.subspan(n);
      return front;
    };
    if (const auto config = part(Cache::kConfig); !config.empty()) {
      streams_.plan_config(config, plan_, counters_);
    }
    if (const auto tlb = part(Cache::kTlb); !tlb.empty()) tlb_.plan(tlb, plan_, counters_);
    if (!ops.empty()) streams_.plan_atc(ops, plan_, counters_);
  }

  Nanos wait_;
  Nanos started_ = 0;
  Position last_sync_ = 0;  ///< behind the last SYNC something older may be held
  std::size_t next_ = 0;    ///< operations of plan_ that took effect
  bool flushed_ = false;
  InvalidationSet set_;
  Plan plan_;
  TlbPlanner tlb_;
  StreamPlanner streams_;
  Linger linger_;
  PlanAudit* audit_;
  MergeCounters counters_;
};

static_assert(SubmissionPolicy<Merge>);

}  // namespace faultline::merge
