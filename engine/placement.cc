// SPDX-License-Identifier: BSD-3-Clause
#include "engine/placement.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <tuple>

#include "engine/placement_cost.h"
#include "engine/placement_reasons.h"

namespace faultline::engine {
namespace {

using placement::Assignment;
using placement::Core;
using placement::CoreFacts;
using placement::Problem;

struct NodeChoice {
  unsigned node = 0;
  std::string reason;
};

Result<NodeChoice> choose_node(const Topology& topology, const std::vector<GuestPlacement>& guests,
                               const PlacementOptions& options) {
  const std::vector<unsigned> nodes = topology.nodes();
  if (options.node) {
    if (std::ranges::find(nodes, *options.node) != nodes.end()) {
      return NodeChoice{*options.node, "asked for"};
    }
    return fail(0, "placement: node " + std::to_string(*options.node) + " has no CPU in " +
                       topology.source);
  }
  std::map<unsigned, unsigned> devices;
  unsigned all = 0;
  for (const GuestPlacement& guest : guests) {
    for (const std::string& address : guest.devices) {
      if (const auto node = topology.node_of_pci(address)) {
        ++devices[*node];
        ++all;
      }
    }
  }
  if (devices.empty()) {
    return NodeChoice{nodes.front(),
                      nodes.size() == 1 ? "the only one" : "the first: no device says where it is"};
  }
  const auto most = std::ranges::max_element(devices, {}, [](const auto& d) { return d.second; });
  std::string reason =
      std::to_string(most->second) + " of " + std::to_string(all) + " devices are there";
  for (const auto& [node, count] : devices) {
    if (node != most->first) {
      reason += "; node " + std::to_string(node) + " has " + std::to_string(count);
    }
  }
  return NodeChoice{most->first, reason};
}

/// The node's physical cores, each with the CPU of it that would poll.
struct Candidates {
  std::vector<Core> cores;
  std::vector<CoreFacts> facts;
};

Candidates candidates(const Topology& topology, unsigned node,
                      const std::vector<GuestPlacement>& guests, const PlacementOptions& options) {
  std::map<unsigned, unsigned> on_cpu;
  std::map<unsigned, unsigned> on_core;
  std::map<unsigned, unsigned> in_l3;
  for (const GuestPlacement& guest : guests) {
    for (const unsigned vcpu : guest.vcpus) {
      if (const Cpu* cpu = topology.find(vcpu)) {
        ++on_cpu[cpu->index];
        ++on_core[cpu->core];
        ++in_l3[cpu->l3];
      }
    }
  }
  struct Known {
    Core core;
    CoreFacts facts;
  };
  std::map<unsigned, Known> best;  // by core
  for (const Cpu& cpu : topology.cpus) {
    if (cpu.node != node) continue;
    if (!options.cpus.empty() && std::ranges::find(options.cpus, cpu.index) == options.cpus.end()) {
      continue;
    }
    const CoreFacts facts{.vcpus_on_cpu = on_cpu[cpu.index],
                          .vcpus_on_siblings = on_core[cpu.core] - on_cpu[cpu.index],
                          .vcpus_in_l3 = in_l3[cpu.l3]};
    const long open = placement::kVcpuOnCpu * facts.vcpus_on_cpu +
                      placement::kVcpuOnSibling * facts.vcpus_on_siblings +
                      (cpu.isolated ? 0 : placement::kNotIsolated);
    const auto at = best.find(cpu.core);
    if (at == best.end() || open < at->second.core.open) {
      best.insert_or_assign(cpu.core, Known{{cpu, open}, facts});
    }
  }
  std::vector<Known> all;
  for (auto& [core, known] : best) all.push_back(known);
  // Of equals the one with more vCPUs near, then the highest number, since interrupts and daemons
  // gather on the low ones.
  std::ranges::sort(all, {}, [](const Known& k) {
    return std::tuple(k.core.open, -static_cast<long>(k.facts.vcpus_in_l3),
                      -static_cast<long>(k.core.cpu.index));
  });
  Candidates out;
  for (const Known& k : all) {
    out.cores.push_back(k.core);
    out.facts.push_back(k.facts);
  }
  return out;
}

/// CPUs of the polling cores that do not poll themselves.
std::vector<unsigned> siblings(const Topology& topology, const std::vector<ShardPlan>& shards) {
  std::set<unsigned> cores;
  std::set<unsigned> polling;
  for (const ShardPlan& shard : shards) {
    cores.insert(topology.find(shard.cpu)->core);
    polling.insert(shard.cpu);
  }
  std::vector<unsigned> out;
  for (const Cpu& cpu : topology.cpus) {
    if (cores.contains(cpu.core) && !polling.contains(cpu.index)) out.push_back(cpu.index);
  }
  return out;
}

std::vector<unsigned> housekeeping_cpus(const Topology& topology, unsigned node,
                                        const std::vector<ShardPlan>& shards) {
  std::set<unsigned> polling_cores;
  for (const ShardPlan& shard : shards) polling_cores.insert(topology.find(shard.cpu)->core);
  std::vector<unsigned> here;
  std::vector<unsigned> elsewhere;
  for (const Cpu& cpu : topology.cpus) {
    if (polling_cores.contains(cpu.core) || cpu.isolated) continue;
    (cpu.node == node ? here : elsewhere).push_back(cpu.index);
  }
  if (!here.empty()) return here;
  if (!elsewhere.empty()) return elsewhere;
  // Nothing is left over: the cold lane shares the least bad CPU, the lowest.
  return {topology.cpus.front().index};
}

/// Duties 2i and 2i+1 are the events and commands of the i-th guest of `order`.
void add_duties(Problem& problem, const Topology& topology,
                const std::vector<GuestPlacement>& guests, const std::vector<std::size_t>& order) {
  for (std::size_t i = 0; i < order.size(); ++i) {
    const GuestPlacement& guest = guests[order[i]];
    std::set<unsigned> l3s;
    for (const unsigned vcpu : guest.vcpus) {
      if (const Cpu* cpu = topology.find(vcpu)) l3s.insert(cpu->l3);
    }
    problem.duties.push_back({i, static_cast<long>(std::max(1U, guest.fault_load)), l3s});
    problem.duties.push_back({i, static_cast<long>(std::max(1U, guest.command_load)), l3s});
  }
}

/// Cores that poll, best first: those with duties, and as many more as were asked for.
std::vector<std::size_t> polling_cores(const Problem& problem, const Assignment& assignment,
                                       std::size_t at_least) {
  std::vector<std::size_t> used(assignment.begin(), assignment.end());
  std::ranges::sort(used);
  used.erase(std::unique(used.begin(), used.end()), used.end());
  for (std::size_t c = 0; c < problem.cores.size() && used.size() < at_least; ++c) {
    if (std::ranges::find(used, c) != used.end()) continue;
    used.push_back(c);
    if (!placement::allowed(problem, used)) used.pop_back();
  }
  std::ranges::sort(used);
  return used;
}

Result<std::size_t> shard_count(const Candidates& cores, const PlacementOptions& options,
                                std::size_t useful, std::size_t polling, unsigned node,
                                Plan& plan) {
  if (cores.cores.empty()) {
    return fail(0, "placement: none of the given CPUs is on node " + std::to_string(node));
  }
  const std::size_t count = options.shards != 0 ? options.shards : std::min(polling, useful);
  if (count <= polling) return count;
  const std::string line = std::to_string(count) + " shards on " + std::to_string(polling) +
                           " polling core" + (polling == 1 ? "" : "s") + " of node " +
                           std::to_string(node);
  if (options.strict_cores) {
    return fail(0, "placement: " + line + "; use --shards " + std::to_string(polling) +
                       " or drop --strict-cores");
  }
  plan.warnings.push_back(line + ": they share cores and take turns");
  return count;
}

void warn_of_foreign_devices(const Topology& topology, const GuestPlacement& guest, Plan& plan) {
  for (const std::string& address : guest.devices) {
    const auto node = topology.node_of_pci(address);
    if (!node || *node == plan.node) continue;
    plan.warnings.push_back("guest " + guest.name + ": device " + address + " is on node " +
                            std::to_string(*node) + ", this process serves node " +
                            std::to_string(plan.node));
  }
}

}  // namespace

Result<Plan> place(const Topology& topology, const std::vector<GuestPlacement>& guests,
                   const PlacementOptions& options) {
  if (topology.cpus.empty()) return fail(0, "placement: the topology has no CPU");
  for (const unsigned cpu : options.cpus) {
    if (topology.find(cpu) == nullptr) {
      return fail(0, "placement: CPU " + std::to_string(cpu) + " is not in " + topology.source);
    }
  }
  const auto node = choose_node(topology, guests, options);
  if (!node) return tl::unexpected(node.error());
  Plan plan;
  plan.node = node->node;
  plan.node_reason = node->reason;

  const Candidates known = candidates(topology, plan.node, guests, options);
  Problem problem;
  problem.cores = known.cores;
  // One core stays for housekeeping, unless the operator named the polling CPUs or there is one.
  const bool spare = options.cpus.empty() && problem.cores.size() > 1;
  const std::size_t polling = problem.cores.size() - (spare ? 1 : 0);
  const auto count = shard_count(known, options, std::max<std::size_t>(1, guests.size() * 2),
                                 polling, plan.node, plan);
  if (!count) return tl::unexpected(count.error());
  problem.most_cores = std::min(*count, polling);
  problem.keep_a_shared_core =
      spare && std::ranges::any_of(problem.cores, [](const Core& c) { return !c.cpu.isolated; });

  // Duties are taken in the order of names, so that the order of the input does not matter.
  std::vector<std::size_t> order(guests.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, {}, [&](std::size_t i) -> const std::string& { return guests[i].name; });
  add_duties(problem, topology, guests, order);
  const Assignment assignment = placement::search(problem);
  plan.cost = placement::cost_of(problem, assignment);

  const std::size_t asked = options.shards != 0 ? problem.most_cores : 1;
  const std::vector<std::size_t> cores = polling_cores(problem, assignment, asked);
  const std::size_t shards = options.shards != 0 ? *count : cores.size();
  for (std::size_t i = 0; i < shards; ++i) {
    const std::size_t c = cores[i % cores.size()];
    plan.shards.push_back(
        {.cpu = problem.cores[c].cpu.index,
         .shared = shards > cores.size(),
         .reason = placement::why_core(problem.cores[c], known.facts[c]),
         .isolated = problem.cores[c].cpu.isolated,
         .rejected = placement::instead_of_core(problem, known.facts, assignment, c)});
  }
  plan.housekeeping = housekeeping_cpus(topology, plan.node, plan.shards);
  plan.quiet = siblings(topology, plan.shards);

  // The least loaded of the shards on a duty's core: one, unless shards share cores.
  const auto shard_of = [&](std::size_t duty) {
    const auto first =
        static_cast<std::size_t>(std::ranges::find(cores, assignment[duty]) - cores.begin());
    std::size_t least = first;
    for (std::size_t s = first; s < shards; s += cores.size()) {
      if (plan.shards[s].load < plan.shards[least].load) least = s;
    }
    plan.shards[least].load += static_cast<unsigned>(problem.duties[duty].load);
    return least;
  };
  plan.guests.resize(guests.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    GuestPlan& guest = plan.guests[order[i]];
    guest.name = guests[order[i]].name;
    guest.event_shard = shard_of(2 * i);
    guest.command_shard = shard_of(2 * i + 1);
    guest.reason = guest.event_shard == guest.command_shard
                       ? "on one shard: faults wait behind submissions"
                       : "faults and submissions on different shards";
    guest.event_rejected = placement::instead_for_duty(problem, assignment, cores, 2 * i);
    guest.command_rejected = placement::instead_for_duty(problem, assignment, cores, 2 * i + 1);
  }
  for (const GuestPlacement& guest : guests) warn_of_foreign_devices(topology, guest, plan);
  return plan;
}

}  // namespace faultline::engine
