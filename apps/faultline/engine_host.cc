// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/engine_host.h"

#include <utility>

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

Result<void> choose_hugepages(const std::string& asked, EngineChoices& choices,
                              engine::Plan& plan) {
  choices.hugepages = false;
  if (asked == "off") return {};
  auto enough = engine::check_hugepages(plan.node);
  choices.hugepages = enough.has_value();
  if (enough) return {};
  if (asked == "on") return fail(std::move(enough.error()), "--hugepages on");
  if (engine::hugepages_of(plan.node).reserved > 0) {
    plan.warnings.push_back(enough.error().message() + "; going without");
  }
  return {};
}

}  // namespace faultline
