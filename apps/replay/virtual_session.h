// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>

#include "apps/replay/session.h"

namespace faultline {

/// Rounds of the engine without anything happening after which it counts as stopped for good.
inline constexpr std::uint64_t kIdleRounds = 1'000'000;

/// Replay by the virtual clock: a round of the engine takes `round`, a submission what its sink
/// costs, and the guest sees a CMD_SYNC complete at the end of the round that completed it. While
/// nothing is in the queue time goes on to the next doorbell at once.
template <class Policy>
Result<ReplayReport> play_virtual(ReplayWorld& world, const guest::Trace& trace,
                                  const ReplayOptions& options, const Policy& policy) {
  VirtualTime time;
  ReplaySession<Policy, VirtualTime, VirtualClock> session(world, trace, options, policy, time,
                                                           VirtualClock{time.clock()});
  const auto round = [&] {
    time.until(time.now() + options.round);
    const std::size_t work = session.round(time.now());
    return work + session.serve_events(time.now());
  };
  if (auto ok = session.begin([&] { round(); }); !ok) return tl::unexpected(ok.error());

  time.set_player(&session.player());
  const Nanos start = time.now();
  (void)session.guest_step(start);
  for (std::uint64_t idle = 0; !session.finished();) {
    std::size_t work = round();
    work += session.guest_step(time.now());
    if (session.broken()) return fail(0, "the virtual SMMU stopped at a command of " + trace.name);
    if (work != 0) {
      idle = 0;
      continue;
    }
    if (world.queue().empty()) time.until(session.player().next_ring(time.now()));
    if (++idle == kIdleRounds) {
      return fail(0, "the engine does not complete the commands of " + trace.name);
    }
  }
  ReplayReport report = session.report();
  report.seconds = static_cast<double>(time.now() - start) / 1e9;
  return report;
}

}  // namespace faultline
