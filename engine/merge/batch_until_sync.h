// SPDX-License-Identifier: BSD-3-Clause
// hot path: what came between two SYNCs goes together.
#pragma once

#include <array>
#include <bit>

#include "engine/merge/policy.h"

namespace faultline::merge {

/// Collects operations until a CMD_SYNC, then submits them as one array in queue order.
///
/// Exact duplicates are removed, but only within a run of operations on the same cache: in
/// {TLBI a, CFGI_CD b, TLBI a} both TLBI are needed, since between them the stale descriptor could
/// refill the TLB. Nothing is ever collected across a SYNC.
///
/// Without a SYNC a submission starts when it is full (63 operations), when the duty flushes (a
/// stream table change, a queue half full, an error behind), or when the oldest operation has
/// waited `linger`: this rule's counterpart of OpenVMM's flush at the end of a drain, which a
/// polled queue does not have.
///
/// source  OpenVMM vm/devices/iommu/smmu/src/emulator.rs
/// cost    add: one hash of six words and on average one comparison
class BatchUntilSync {
 public:
  static constexpr Nanos kLinger = 20'000;

  explicit BatchUntilSync(Nanos linger = kLinger) noexcept : linger_(linger) {}

  [[nodiscard]] std::size_t room() const noexcept { return closed_ ? 0 : kMaxSubmission - count_; }

  void add(const Operation& op, Position at, Nanos now) noexcept {
    if (count_ == 0) {
      oldest_ = at;
      first_added_ = now;
    }
    const Cache cache = cache_of(op.kind);
    if (count_ != 0 && cache != run_cache_) run_start_ = count_;
    run_cache_ = cache;

    std::size_t slot = hash(op) % kSlots;
    for (; slots_[slot] != 0; slot = (slot + 1) % kSlots) {
      const std::size_t index = slots_[slot] - 1U;
      if (index >= run_start_ && operations_[index] == op) return;
    }
    operations_[count_++] = op;
    slots_[slot] = static_cast<std::uint8_t>(count_);
    if (count_ == kMaxSubmission) closed_ = true;
  }

  void add_sync(Position /*at*/, Nanos /*now*/) noexcept { flush(); }
  void flush() noexcept { closed_ = count_ != 0; }

  [[nodiscard]] bool due(Nanos now) const noexcept {
    return closed_ || (count_ != 0 && now >= first_added_ + linger_);
  }
  [[nodiscard]] std::span<const Operation> take(Nanos /*now*/) noexcept {
    return {operations_.data(), count_};
  }
  void done(Nanos /*now*/) noexcept { clear(); }
  void released(std::size_t /*syncs*/, Nanos /*now*/) noexcept {}

  void clear() noexcept {
    if (count_ != 0) slots_ = {};
    count_ = 0;
    run_start_ = 0;
    closed_ = false;
  }

  [[nodiscard]] Position oldest(Position none) const noexcept {
    return count_ == 0 ? none : oldest_;
  }

 private:
  static constexpr std::size_t kSlots = 128;  // at most half full: probes stay short

  static std::size_t hash(const Operation& op) noexcept {
    constexpr std::uint64_t kOdd = 0x9e3779b97f4a7c15U;
    std::uint64_t h = op.addr ^ (static_cast<std::uint64_t>(op.kind) << 56U);
    h = (h ^ op.pages) * kOdd;
    h = (h ^ (std::uint64_t{op.sid} << 32U | op.ssid) ^ (std::uint64_t{op.asid} << 20U)) * kOdd;
    return static_cast<std::size_t>(h >> 57U);
  }

  Nanos linger_;
  Nanos first_added_ = 0;
  Position oldest_ = 0;
  std::size_t count_ = 0;
  std::size_t run_start_ = 0;
  Cache run_cache_ = Cache::kTlb;
  bool closed_ = false;                       ///< due whatever the time; takes nothing more
  std::array<std::uint8_t, kSlots> slots_{};  ///< index + 1 into operations_, by hash; 0 = free
  std::array<Operation, kMaxSubmission> operations_{};
};

static_assert(SubmissionPolicy<BatchUntilSync>);

}  // namespace faultline::merge
