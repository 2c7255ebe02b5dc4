// SPDX-License-Identifier: BSD-3-Clause
#include "apps/metrics/moment.h"

namespace faultline::metrics {
namespace {

std::uint64_t growth(std::uint64_t before, std::uint64_t after) noexcept {
  return after >= before ? after - before : after;
}

double ratio(std::uint64_t part, std::uint64_t whole) noexcept {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

double per_second(std::uint64_t before, std::uint64_t after, Nanos elapsed) noexcept {
  if (elapsed <= 0) return 0;
  return static_cast<double>(growth(before, after)) * 1e9 / static_cast<double>(elapsed);
}

double ioctls_per_sync(const engine::CommandCounters& commands) noexcept {
  return ratio(commands.ioctls, commands.syncs_completed);
}

double over_invalidation(const engine::GuestSnapshot& guest) noexcept {
  return ratio(guest.merge.entries_removed, guest.merge.entries_asked);
}

double busy_share(const engine::ShardCounters& before,
                  const engine::ShardCounters& after) noexcept {
  const std::uint64_t busy = growth(before.busy_cycles, after.busy_cycles);
  return ratio(busy, busy + growth(before.idle_cycles, after.idle_cycles));
}

const engine::GuestSnapshot* find_guest(const Moment& moment, const std::string& name) noexcept {
  for (const engine::GuestSnapshot& guest : moment.engine.guests) {
    if (guest.name == name) return &guest;
  }
  return nullptr;
}

}  // namespace faultline::metrics
