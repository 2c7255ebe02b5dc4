// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "apps/session/guest_host.h"
#include "apps/session/server.h"
#include "engine/snapshot.h"
#include "kernel/base/clock.h"

namespace faultline::metrics {

/// One instant of a service: what /metrics, telemetry and `faultline status` show.
struct Moment {
  int node = 0;  ///< NUMA node served
  session::Backend backend = session::Backend::kSoft;
  Nanos now = 0;        ///< CLOCK_MONOTONIC when it was taken
  Nanos uptime_ns = 0;  ///< since the service started
  engine::EngineSnapshot engine;
  session::ServerCounters sessions;
  session::GuestNames names;  ///< in what a session is told; empty elsewhere
};

/// By engine::PolicyKind and engine::RegisterMode.
inline constexpr std::array kPolicyNames = {"forward-each", "batch-until-sync", "merge"};
inline constexpr std::array kModeNames = {"exitless", "trapped"};

/// Growth of a counter in a second; one that fell began anew, from 0.
///
/// returns  0 when no time has passed
double per_second(std::uint64_t before, std::uint64_t after, Nanos elapsed) noexcept;

/// ioctls for each CMD_SYNC completed; 0 without any.
double ioctls_per_sync(const engine::CommandCounters& commands) noexcept;

/// Entries removed for each entry asked, >= 1 when nothing was missed; 0 without any.
double over_invalidation(const engine::GuestSnapshot& guest) noexcept;

/// Share of a shard's cycles in rounds that found work, 0 .. 1; 0 without any.
double busy_share(const engine::ShardCounters& before, const engine::ShardCounters& after) noexcept;

/// The guest of that name, nullptr where there is none.
const engine::GuestSnapshot* find_guest(const Moment& moment, const std::string& name) noexcept;

}  // namespace faultline::metrics
