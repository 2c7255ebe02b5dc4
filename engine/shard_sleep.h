// SPDX-License-Identifier: BSD-3-Clause
// How a shard goes to sleep without missing what comes meanwhile.
//
//   drain: take back what was signalled so far  →  look: one more round  →  sleep, if it found
//   nothing
//
// Whoever brings work makes it visible first and signals then (the kernel its eventfd, the guest's
// VMM the doorbell, the control thread Sleeper::wake()). What was signalled before the drain was
// visible before it, so the look finds it; what is signalled after the drain is still readable when
// the sleep begins, and ends it at once. tests/model/sleep.pml is this for spin.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>

#include "engine/idle.h"
#include "engine/sleeper.h"
#include "kernel/base/clock.h"

namespace faultline::engine {

/// Points of the protocol at which a test may let something arrive.
enum class SleepStep : std::uint8_t { kBegun, kDrained, kLooked };

struct NoSleepHook {
  void operator()(SleepStep) const noexcept {}
};

/// Decides when one shard sleeps.
///
/// thread  the shard
class SleepRule {
 public:
  explicit SleepRule(IdleOptions options) noexcept : options_(options), quiet_(options.quiet) {}

  /// Book a round. returns  whether it is time to sleep
  bool due(std::size_t work, Nanos now) noexcept {
    if (work != 0 || last_work_ == 0) last_work_ = now;
    return work == 0 && now - last_work_ >= quiet_;
  }

  /// Book a sleep. One that was over at once says that work comes often: poll longer the next time,
  /// up to kPatience times the quiet time; a long one says that it does not.
  void slept(Woken how, Nanos length, Nanos now) noexcept {
    if (how == Woken::kByTime) return;  // it just looks and goes on sleeping
    quiet_ = length < quiet_ ? std::min(quiet_ * 2, options_.quiet * kPatience) : options_.quiet;
    last_work_ = now;
  }

  [[nodiscard]] Nanos quiet() const noexcept { return quiet_; }

  static constexpr Nanos kPatience = 16;

 private:
  IdleOptions options_;
  Nanos quiet_;  ///< without work, before it sleeps
  Nanos last_work_ = 0;
};

/// Go to sleep, unless something is there after all.
///
/// returns  work of the last look; 0: it slept, or something is in flight
template <class Shard, class Clock, class Hook = NoSleepHook>
std::size_t sleep_unless_work(Shard& shard, SleepRule& rule, const IdleOptions& options,
                              Clock&& clock, Hook hook = {}) noexcept {
  hook(SleepStep::kBegun);
  shard.drain_signals(clock());
  hook(SleepStep::kDrained);
  const std::size_t work = shard.round(clock());
  hook(SleepStep::kLooked);
  if (work != 0 || !shard.quiet() || shard.stopping()) return work;
  const Nanos limit = std::min(options.longest, shard.longest_sleep());
  if (limit == 0) return 0;
  const Nanos before = clock();
  const Woken how = shard.sleeper()->sleep(limit);
  const Nanos after = clock();
  shard.account_sleep(after - before);
  rule.slept(how, after - before, after);
  return 0;
}

}  // namespace faultline::engine
