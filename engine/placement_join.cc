// SPDX-License-Identifier: BSD-3-Clause
#include "engine/placement_join.h"

#include <limits>
#include <set>

#include "engine/placement_cost.h"

namespace faultline::engine {
namespace {

std::set<unsigned> caches_of(const Topology& topology, const std::vector<unsigned>& vcpus) {
  std::set<unsigned> l3s;
  for (const unsigned vcpu : vcpus) {
    if (const Cpu* cpu = topology.find(vcpu)) l3s.insert(cpu->l3);
  }
  return l3s;
}

}  // namespace

GuestPlan place_beside(const Topology& topology, const std::vector<ShardPlan>& shards,
                       const std::vector<Resident>& residents, const GuestPlacement& guest) {
  const std::size_t count = shards.size();
  std::vector<placement::Core> cores(count);
  for (std::size_t s = 0; s < count; ++s) {
    if (const Cpu* cpu = topology.find(shards[s].cpu)) cores[s].cpu = *cpu;
  }
  // Duties are told apart by their guest only; a resident is none of the newcomer.
  const std::size_t mine = residents.size();
  const std::set<unsigned> l3s = caches_of(topology, guest.vcpus);
  const placement::Duty event{mine, guest.fault_load, l3s};
  const placement::Duty command{mine, guest.command_load, l3s};
  std::vector<long> event_cost(count);
  std::vector<long> command_cost(count);
  for (std::size_t s = 0; s < count; ++s) {
    event_cost[s] = placement::cost_alone(event, cores[s]);
    command_cost[s] = placement::cost_alone(command, cores[s]);
  }
  for (std::size_t r = 0; r < residents.size(); ++r) {
    for (const std::size_t s : {residents[r].event_shard, residents[r].command_shard}) {
      if (s >= count) continue;
      const placement::Duty neighbour{r, 1, {}};
      event_cost[s] += placement::cost_together(event, neighbour);
      command_cost[s] += placement::cost_together(command, neighbour);
    }
  }
  GuestPlan best;
  best.name = guest.name;
  long least = std::numeric_limits<long>::max();
  for (std::size_t e = 0; e < count; ++e) {
    for (std::size_t c = 0; c < count; ++c) {
      const long together = e == c ? placement::cost_together(event, command) : 0;
      const long cost = event_cost[e] + command_cost[c] + together;
      if (cost >= least) continue;
      least = cost;
      best.event_shard = e;
      best.command_shard = c;
    }
  }
  best.reason = "beside " + std::to_string(residents.size()) + " guests: costs " +
                std::to_string(least) + " more";
  return best;
}

}  // namespace faultline::engine
