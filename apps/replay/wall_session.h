// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>

#include "apps/replay/cores.h"
#include "apps/replay/session.h"
#include "engine/idle.h"

namespace faultline {

/// Without anything happening for so long, the engine counts as stopped for good.
inline constexpr Nanos kSilence = 30'000'000'000;

/// Replay by the real clock: the vCPUs take turns on one core, the engine polls on another.
template <class Policy>
Result<ReplayReport> play_wall(ReplayWorld& world, const guest::Trace& trace,
                               const ReplayOptions& options, const Policy& policy) {
  WallTime time;
  ReplaySession<Policy, WallTime, MonotonicClock> session(world, trace, options, policy, time,
                                                          MonotonicClock{});
  const auto probe_round = [&] {
    session.round(monotonic_ns());
    session.serve_events(monotonic_ns());
  };
  if (auto ok = session.begin(probe_round); !ok) return tl::unexpected(ok.error());

  const CorePair cores = pick_cores();
  const engine::IdlePolicy idle =
      cores.apart ? engine::IdlePolicy::kPause : engine::IdlePolicy::kYield;
  std::atomic<bool> stop{false};
  Nanos busy = 0;  // rounds that did work, without the sink
  std::thread engine([&] {
    pin_to(cores.engine);
    std::size_t idle_rounds = 0;
    // Relaxed: what the threads share goes through the queue and join().
    while (!stop.load(std::memory_order_relaxed)) {
      const Nanos sunk = session.sink().spent();
      const Nanos start = monotonic_ns();
      std::size_t work = session.round(start);
      if (work != 0) busy += monotonic_ns() - start - (session.sink().spent() - sunk);
      work += session.serve_events(start);
      if (work != 0) {
        idle_rounds = 0;
      } else {
        engine::rest(idle, ++idle_rounds);
      }
    }
  });

  bool broken = false;
  Nanos start = 0;
  Nanos end = 0;
  std::thread guest([&] {
    pin_to(cores.guest);
    start = monotonic_ns();
    std::size_t idle_rounds = 0;
    for (Nanos heard = start; !session.finished() && !broken;) {
      const Nanos now = monotonic_ns();
      if (session.guest_step(now) != 0) {
        heard = now;
        idle_rounds = 0;
        continue;
      }
      broken = session.broken() || now - heard > kSilence;
      engine::rest(idle, ++idle_rounds);
    }
    end = monotonic_ns();
  });
  guest.join();
  stop.store(true, std::memory_order_relaxed);
  engine.join();
  if (broken) return fail(0, "the engine does not complete the commands of " + trace.name);

  ReplayReport report = session.report();
  report.seconds = static_cast<double>(end - start) / 1e9;
  report.engine_ns_per_command =
      report.commands == 0 ? 0 : static_cast<double>(busy) / static_cast<double>(report.commands);
  return report;
}

}  // namespace faultline
