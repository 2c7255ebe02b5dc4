// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/merge/policy.h"
#include "engine/stage1_control.h"
#include "kernel/operation.h"

namespace faultline::engine {

/// What covers all of a guest after a submission failed: nothing may be assumed of any operation
/// in it, and the kernel's count of what it did is never trusted.
///
/// Configuration caches first, then the TLB, then the devices' own caches, each in submissions of
/// its own, because an entry that is still stale upstream would refill the one below.
///
/// thread  the shard that owns the guest's CommandDuty
class HostRecovery {
 public:
  /// Begin anew.
  ///
  /// atc  the guest may hold translations in its devices
  void begin(const Stage1Control& stage1, bool atc) noexcept {
    stage1_ = &stage1;
    phase_ = Phase::kConfig;
    left_ = stage1.translating();
    atc_ = atc;
    skip_empty();
  }

  /// returns  the next submission; empty: everything took effect. The same again until done()
  [[nodiscard]] std::span<const Operation> next() noexcept {
    count_ = 0;
    if (phase_ == Phase::kTlb) {
      operations_[count_++] = Operation{};
    } else if (phase_ != Phase::kOver) {
      for (DeviceSet left = left_; left != 0 && count_ < operations_.size(); left &= left - 1) {
        Operation& op = operations_[count_++];
        op = Operation{};
        op.kind = phase_ == Phase::kConfig ? OperationKind::kCfgCdAll : OperationKind::kAtcInv;
        op.sid = stage1_->vsid(static_cast<std::size_t>(std::countr_zero(left)));
      }
    }
    return {operations_.data(), count_};
  }

  /// What next() gave took effect.
  void done() noexcept {
    if (phase_ == Phase::kTlb) {
      phase_ = Phase::kAtc;
      left_ = atc_ ? stage1_->all() : 0;
    } else {
      for (std::size_t i = 0; i < count_; ++i) left_ &= left_ - 1;
    }
    skip_empty();
  }

 private:
  enum class Phase : std::uint8_t { kConfig, kTlb, kAtc, kOver };

  void skip_empty() noexcept {
    if (phase_ == Phase::kConfig && left_ == 0) phase_ = Phase::kTlb;
    if (phase_ == Phase::kAtc && left_ == 0) phase_ = Phase::kOver;
  }

  const Stage1Control* stage1_ = nullptr;
  Phase phase_ = Phase::kOver;
  bool atc_ = false;
  DeviceSet left_ = 0;
  std::size_t count_ = 0;
  std::array<Operation, merge::kMaxSubmission> operations_{};
};

}  // namespace faultline::engine
