// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "apps/guest/player.h"
#include "apps/replay/entries.h"
#include "apps/replay/options.h"
#include "apps/replay/replay_sink.h"
#include "apps/replay/report.h"
#include "apps/replay/world.h"
#include "engine/command_counters.h"
#include "engine/command_duty.h"
#include "engine/snapshot.h"
#include "kernel/base/result.h"

namespace faultline {

/// One replay with its policy: the engine's half, the guest's half, and what was counted before the
/// trace began.
///
/// Time    VirtualTime or WallTime
/// Clock   the same, as the duty asks for it
template <class Policy, class Time, class Clock>
class ReplaySession {
 public:
  using Sink = ReplaySink<Time>;
  using Duty = engine::CommandDuty<Sink, NotingPolicy<Policy>, engine::NoHook, Clock>;

  /// world, trace, options, time   outlive the session
  ReplaySession(ReplayWorld& world, const guest::Trace& trace, const ReplayOptions& options,
                const Policy& policy, Time& time, Clock clock)
      : world_(&world),
        trace_(&trace),
        options_(&options),
        sink_(options, time, entries_),
        duty_(world.setup(), sink_, NotingPolicy<Policy>(policy, entries_), {}, clock) {}
  ReplaySession(const ReplaySession&) = delete;
  ReplaySession& operator=(const ReplaySession&) = delete;

  /// Let the driver enable the virtual SMMU. `idle` makes rounds of the engine.
  template <class Idle>
  Result<void> begin(const Idle& idle) {
    if (auto ok = world_->driver().probe(idle); !ok) return ok;
    guest::Player::Options play;
    play.think = options_->think;
    play.ring = options_->ring;
    play.loops = options_->loops;
    play.prologue = true;
    player_.emplace(*trace_, world_->queue(), latency_, play);
    engine::copy_counters(before_, duty_.counters());
    syncs_before_ = world_->queue().syncs();
    commands_before_ = world_->queue().commands();
    return {};
  }

  std::size_t round(Nanos now) noexcept { return duty_.round(now); }
  std::size_t serve_events(Nanos now) noexcept { return world_->events().round(now); }

  /// What the guest does when it looks: see what was completed, let vCPUs ring.
  ///
  /// returns  CMD_SYNCs seen complete and doorbells rung
  std::size_t guest_step(Nanos now) {
    (void)world_->queue().poll();
    return player_->step(now, true);
  }
  /// Everything was played, and the engine has done all of it.
  [[nodiscard]] bool finished() const noexcept {
    return player_->finished() && world_->queue().empty();
  }
  /// The engine stopped at a command, or CONS went where it may not.
  [[nodiscard]] bool broken() noexcept {
    return world_->driver().handle_gerror() || world_->queue().violations() != 0;
  }

  /// After finished().
  [[nodiscard]] ReplayReport report() {
    entries_.finish();
    engine::CommandCounters c;
    engine::copy_counters(c, duty_.counters());
    ReplayReport r;
    r.commands = world_->queue().commands() - commands_before_;
    r.syncs = world_->queue().syncs() - syncs_before_;
    r.ioctls = c.ioctls - before_.ioctls;
    r.operations = c.operations - before_.operations;
    r.host_syncs = c.host_syncs - before_.host_syncs;
    r.attaches = c.attaches - before_.attaches;
    r.entries_asked = entries_.asked();
    r.entries_removed = entries_.removed();
    r.widened = entries_.widened();
    r.missed = entries_.missed();
    r.outstanding_sum = player_->outstanding_sum();
    r.sync_latency.merge(latency_);
    return r;
  }

  [[nodiscard]] guest::Player& player() noexcept { return *player_; }
  [[nodiscard]] ReplayWorld& world() noexcept { return *world_; }
  [[nodiscard]] const Sink& sink() const noexcept { return sink_; }

 private:
  ReplayWorld* world_;
  const guest::Trace* trace_;
  const ReplayOptions* options_;
  Entries entries_;
  Sink sink_;
  Duty duty_;
  Histogram latency_;
  std::optional<guest::Player> player_;
  engine::CommandCounters before_;
  std::uint64_t syncs_before_ = 0;
  std::uint64_t commands_before_ = 0;
};

}  // namespace faultline
