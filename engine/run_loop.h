// SPDX-License-Identifier: BSD-3-Clause
// hot path: the loop that one lcore runs.
#pragma once

#include <sys/prctl.h>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

#include "engine/idle.h"
#include "engine/monitor.h"
#include "engine/shard_sleep.h"
#include "kernel/base/clock.h"

namespace faultline::engine {

/// How long a stopping shard goes on for what is still in flight or still coming in.
inline constexpr Nanos kDrainNs = 1'000'000'000;

/// Poll the shards of one lcore in turn, until each has been told to stop and is drained: a round
/// found nothing and nothing is in flight, or kDrainNs have passed.
///
/// shards  usually one; several share the core round by round, and then never sleep
/// idle    kSleep needs a shard with a Sleeper; without one it pauses. So does kMonitor where
///         several shards share the core, something is in flight or no duty has a line
/// clock   () → Nanos
/// cpu     of kMonitor
/// cost    one clock() and one cycles() per shard and round beyond the duties' own
/// thread  the lcore
template <class Shard, class Clock, class Cpu = CpuMonitor>
requires std::same_as<std::invoke_result_t<Clock&>, Nanos>
void run_loop(std::span<Shard* const> shards, IdleOptions options, Clock&& clock,
              Cpu cpu = Cpu{}) noexcept {
  const IdlePolicy idle = options.policy;
  // The default slack of 50 µs would be added to every nap.
  if (idle == IdlePolicy::kYield || idle == IdlePolicy::kSleep) prctl(PR_SET_TIMERSLACK, 1UL);
  SleepRule rule(options);
  const bool sleeps =
      idle == IdlePolicy::kSleep && shards.size() == 1 && shards[0]->sleeper() != nullptr;
  const bool monitors = idle == IdlePolicy::kMonitor && shards.size() == 1;
  LineWatch<Cpu> line(cpu);
  std::size_t idle_rounds = 0;
  Nanos drain_until = 0;
  std::uint64_t before = cycles();
  for (;;) {
    std::size_t work = 0;
    bool stopping = true;
    bool quiet = true;
    Nanos now = 0;
    if (monitors) line.look(idle_rounds > 0 ? shards[0]->watched_word() : nullptr);
    for (Shard* shard : shards) {
      now = clock();
      const std::size_t done = shard->round(now);
      const std::uint64_t after = cycles();
      shard->account(done, after - before);
      before = after;
      work += done;
      if (!shard->stopping()) {
        stopping = false;
      } else if (!shard->quiet()) {
        quiet = false;
      }
    }
    if (stopping) [[unlikely]] {
      if (drain_until == 0) drain_until = now + kDrainNs;
      if ((work == 0 && quiet) || now >= drain_until) {
        for (Shard* shard : shards) shard->end();
        return;
      }
    }
    idle_rounds = work == 0 ? idle_rounds + 1 : 0;
    if (idle_rounds > 0) {
      if (monitors && shards[0]->quiet()) {
        line.rest(shards[0]->watched_word());
      } else {
        rest(idle, idle_rounds);
      }
    }
    if (sleeps && rule.due(work, now)) [[unlikely]] {
      if (sleep_unless_work(*shards[0], rule, options, clock) != 0) (void)rule.due(1, clock());
      before = cycles();
    }
  }
}

template <class Shard, class Clock>
requires std::same_as<std::invoke_result_t<Clock&>, Nanos>
void run_loop(std::span<Shard* const> shards, IdlePolicy policy, Clock&& clock) noexcept {
  run_loop(shards, IdleOptions{.policy = policy}, std::forward<Clock>(clock));
}

}  // namespace faultline::engine
