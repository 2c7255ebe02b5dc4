// SPDX-License-Identifier: BSD-3-Clause
#include "engine/placement.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

namespace faultline::engine {
namespace {

/// One physical core of the node: its first allowed CPU polls, its siblings stay quiet.
struct Candidate {
  Cpu cpu;
  unsigned vcpus_on_core = 0;  ///< vCPUs that this core's siblings run
  unsigned vcpus_in_l3 = 0;    ///< vCPUs that share the last-level cache with it
};

using VcpuCounts = std::map<unsigned, unsigned>;  // core or L3 → number of vCPUs

Result<unsigned> choose_node(const Topology& topology, const std::vector<GuestPlacement>& guests,
                             const PlacementOptions& options) {
  const std::vector<unsigned> nodes = topology.nodes();
  if (options.node) {
    if (std::ranges::find(nodes, *options.node) != nodes.end()) return *options.node;
    return fail(0, "placement: node " + std::to_string(*options.node) + " has no CPU in " +
                       topology.source);
  }
  std::map<unsigned, unsigned> devices;
  for (const GuestPlacement& guest : guests) {
    for (const std::string& address : guest.devices) {
      if (const auto node = topology.node_of_pci(address)) ++devices[*node];
    }
  }
  if (devices.empty()) return nodes.front();
  return std::ranges::max_element(devices, {}, [](const auto& d) { return d.second; })->first;
}

std::vector<Candidate> candidates(const Topology& topology, unsigned node,
                                  const PlacementOptions& options, const VcpuCounts& on_core,
                                  const VcpuCounts& in_l3) {
  std::vector<Candidate> out;
  std::set<unsigned> cores;
  for (const Cpu& cpu : topology.cpus) {
    if (cpu.node != node) continue;
    if (!options.cpus.empty() && std::ranges::find(options.cpus, cpu.index) == options.cpus.end()) {
      continue;
    }
    if (!cores.insert(cpu.core).second) continue;  // an SMT sibling of one we have
    const auto count = [](const VcpuCounts& counts, unsigned key) {
      const auto at = counts.find(key);
      return at == counts.end() ? 0U : at->second;
    };
    out.push_back({cpu, count(on_core, cpu.core), count(in_l3, cpu.l3)});
  }
  // Best first: a core of nobody's vCPU, isolated, near the vCPUs; of equals the highest number,
  // since interrupts and daemons gather on the low ones.
  std::ranges::sort(out, [](const Candidate& a, const Candidate& b) {
    if (a.vcpus_on_core != b.vcpus_on_core) return a.vcpus_on_core < b.vcpus_on_core;
    if (a.cpu.isolated != b.cpu.isolated) return a.cpu.isolated;
    if (a.vcpus_in_l3 != b.vcpus_in_l3) return a.vcpus_in_l3 > b.vcpus_in_l3;
    return a.cpu.index > b.cpu.index;
  });
  return out;
}

std::string why(const Candidate& c) {
  std::string reason = "node " + std::to_string(c.cpu.node) + ", L3 " + std::to_string(c.cpu.l3);
  if (c.cpu.isolated) reason += ", isolated";
  if (c.vcpus_in_l3 > 0) reason += ", " + std::to_string(c.vcpus_in_l3) + " vCPUs in its L3";
  reason += c.vcpus_on_core > 0 ? ", shares its core with a vCPU (no free core left)"
                                : ", no vCPU on its core";
  return reason;
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

/// The shard for one duty: in an L3 with the guest's vCPUs, then the least loaded, then the first.
std::size_t pick(const Topology& topology, const Plan& plan, const std::vector<unsigned>& load,
                 const std::set<unsigned>& l3s, std::optional<std::size_t> not_this) {
  std::size_t best = plan.shards.size();
  const auto key = [&](std::size_t i) {
    const bool far = !l3s.empty() && !l3s.contains(topology.find(plan.shards[i].cpu)->l3);
    const bool same = not_this && plan.shards[i].cpu == plan.shards[*not_this].cpu;
    return std::tuple(not_this == i, load[i], far, same, i);
  };
  for (std::size_t i = 0; i < plan.shards.size(); ++i) {
    if (best == plan.shards.size() || key(i) < key(best)) best = i;
  }
  return best;
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
  const Result<unsigned> node = choose_node(topology, guests, options);
  if (!node) return tl::unexpected(node.error());

  VcpuCounts on_core;
  VcpuCounts in_l3;
  for (const GuestPlacement& guest : guests) {
    for (const unsigned vcpu : guest.vcpus) {
      if (const Cpu* cpu = topology.find(vcpu)) {
        ++on_core[cpu->core];
        ++in_l3[cpu->l3];
      }
    }
  }
  std::vector<Candidate> cores = candidates(topology, *node, options, on_core, in_l3);
  if (cores.empty()) {
    return fail(0, "placement: none of the given CPUs is on node " + std::to_string(*node));
  }
  // One core stays for housekeeping, unless the operator named the polling CPUs or there is one.
  std::size_t polling = cores.size();
  if (options.cpus.empty() && polling > 1) --polling;

  Plan plan;
  plan.node = *node;
  const std::size_t useful = std::max<std::size_t>(1, guests.size() * 2);
  const std::size_t count = options.shards != 0 ? options.shards : std::min(polling, useful);
  if (count > polling) {
    const std::string line = std::to_string(count) + " shards on " + std::to_string(polling) +
                             " polling core" + (polling == 1 ? "" : "s") + " of node " +
                             std::to_string(*node);
    if (options.strict_cores) {
      return fail(0, "placement: " + line + "; use --shards " + std::to_string(polling) +
                         " or drop --strict-cores");
    }
    plan.warnings.push_back(line + ": they share cores and take turns");
  }
  for (std::size_t i = 0; i < count; ++i) {
    const Candidate& core = cores[i % polling];
    plan.shards.push_back({.cpu = core.cpu.index,
                           .shared = count > polling,
                           .reason = why(core),
                           .isolated = core.cpu.isolated});
  }
  plan.housekeeping = housekeeping_cpus(topology, *node, plan.shards);

  // Duties are dealt in the order of names, so that the order of the input does not matter.
  std::vector<std::size_t> order(guests.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, {}, [&](std::size_t i) -> const std::string& { return guests[i].name; });
  plan.guests.resize(guests.size());
  std::vector<unsigned> load(plan.shards.size(), 0);
  for (const std::size_t i : order) {
    std::set<unsigned> l3s;
    for (const unsigned vcpu : guests[i].vcpus) {
      if (const Cpu* cpu = topology.find(vcpu)) l3s.insert(cpu->l3);
    }
    GuestPlan& guest = plan.guests[i];
    guest.name = guests[i].name;
    guest.event_shard = pick(topology, plan, load, l3s, std::nullopt);
    ++load[guest.event_shard];
    guest.command_shard = pick(topology, plan, load, l3s, guest.event_shard);
    ++load[guest.command_shard];
    guest.reason = guest.event_shard == guest.command_shard
                       ? "one shard only: faults wait behind submissions"
                       : "faults and submissions on different shards";
    for (const std::string& address : guests[i].devices) {
      const auto device_node = topology.node_of_pci(address);
      if (device_node && *device_node != *node) {
        plan.warnings.push_back("guest " + guests[i].name + ": device " + address + " is on node " +
                                std::to_string(*device_node) + ", this process serves node " +
                                std::to_string(*node));
      }
    }
  }
  return plan;
}

}  // namespace faultline::engine
