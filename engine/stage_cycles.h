// SPDX-License-Identifier: BSD-3-Clause
// hot path: where the cycles of a guest's two journeys go.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernel/base/clock.h"
#include "kernel/base/shared.h"
#include "kernel/base/units.h"

namespace faultline::engine {

/// Cycles (of cycles(): the TSC, or arm64's virtual counter) in each stage of an EventDuty, summed
/// over the sampled bursts: those of one round in kStageEvery. stage / bursts is what one burst
/// pays for it.
struct alignas(kCacheLine) EventStageCycles {
  std::uint64_t bursts = 0;     ///< sampled
  std::uint64_t records = 0;    ///< in them
  std::uint64_t poll = 0;       ///< take and decode records, and ask for losses
  std::uint64_t transcode = 0;  ///< make events of them and place them in the guest's queue
  std::uint64_t publish = 0;    ///< journal the intent, publish PROD
  std::uint64_t commit = 0;     ///< give the records back to the kernel, journal the end
};

/// The same of a CommandDuty, summed over one round in kStageEvery. stage / commands is what one
/// command pays for it.
struct alignas(kCacheLine) CommandStageCycles {
  std::uint64_t commands = 0;  ///< fetched in the sampled rounds
  std::uint64_t fetch = 0;     ///< copy, check, hand to the policy
  std::uint64_t merge = 0;     ///< what the policy makes of it when a submission is due
  std::uint64_t submit = 0;    ///< in the sink: the kernel's time
  std::uint64_t sync = 0;      ///< complete CMD_SYNCs, advance CONS
};

/// A round in so many is sampled.
inline constexpr std::size_t kStageEvery = 64;

/// Cuts a sampled round into stages.
///
/// cost    not sampled: a branch for each mark
/// thread  the shard
class StageTimer {
 public:
  /// Of each round.
  void begin() noexcept { on_ = ++rounds_ % kStageEvery == 0; }
  /// What follows is of no stage.
  void stop() noexcept { on_ = false; }
  [[nodiscard]] bool on() const noexcept { return on_; }

  /// The first stage begins.
  void start() noexcept {
    if (on_) [[unlikely]] {
      last_ = cycles();
    }
  }
  /// A stage ends, and the next one begins.
  void mark(std::uint64_t& stage) noexcept {
    if (on_) [[unlikely]] {
      const std::uint64_t now = cycles();
      tally(stage, now - last_);
      last_ = now;
    }
  }

 private:
  std::uint64_t rounds_ = 0;
  std::uint64_t last_ = 0;
  bool on_ = false;
};

}  // namespace faultline::engine
