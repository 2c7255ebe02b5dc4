// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/engine_host.h"

namespace faultline {

Result<engine::Plan> make_plan(const std::vector<HostGuest>& guests, const EngineChoices& choices) {
  auto topology = engine::live_topology();
  if (!topology) return tl::unexpected(topology.error());
  std::vector<engine::GuestPlacement> placements;
  for (const HostGuest& g : guests) {
    engine::GuestPlacement p;
    p.name = g.name;
    // The devices are software: they are near no core, so they are not named here.
    placements.push_back(std::move(p));
  }
  engine::PlacementOptions options;
  options.shards = choices.shards;
  options.strict_cores = choices.strict_cores;
  return engine::place(*topology, placements, options);
}

}  // namespace faultline
