// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/topology.h"
#include "kernel/base/result.h"

namespace faultline::engine {

/// What placement has to know of one guest.
struct GuestPlacement {
  std::string name;                       ///< unique
  std::vector<std::string> devices = {};  ///< PCI addresses
  std::vector<unsigned> vcpus = {};       ///< host CPUs of its vCPUs; empty: unknown
  unsigned fault_load = 1;                ///< of its EventDuty, relative to other duties; >= 1
  unsigned command_load = 1;              ///< of its CommandDuty
};

struct PlacementOptions {
  std::optional<unsigned> node = {};  ///< the NUMA node to serve; unset: that of most devices
  unsigned shards = 0;                ///< 0: as many as there are polling cores with work for them
  bool strict_cores = false;          ///< refuse more shards than polling cores
  std::vector<unsigned> cpus = {};    ///< poll on these only; empty: any of the node
};

/// What was not chosen, and what it would have cost more (see placement_cost.h); 0: as good.
struct Rejected {
  unsigned cpu = 0;
  long cost_more = 0;
  std::string reason;
};

struct ShardPlan {
  unsigned cpu = 0;
  bool shared = false;  ///< another shard polls on the same CPU
  std::string reason;
  bool isolated = false;                ///< the scheduler puts nothing else there
  unsigned load = 0;                    ///< sum of the loads of its duties
  std::vector<Rejected> rejected = {};  ///< CPUs not taken for it, the best ones first
};

struct GuestPlan {
  std::string name;
  std::size_t event_shard = 0;    ///< index into Plan::shards
  std::size_t command_shard = 0;  ///< the same one when there is only one
  std::string reason;
  std::vector<Rejected> event_rejected = {};    ///< the other shards' CPUs, the best ones first
  std::vector<Rejected> command_rejected = {};  ///< the same for its CommandDuty
};

/// Which CPU polls what, with a reason for every choice.
struct Plan {
  unsigned node = 0;
  std::string node_reason;
  std::vector<ShardPlan> shards;
  std::vector<GuestPlan> guests;       ///< in the order asked
  std::vector<unsigned> housekeeping;  ///< CPUs for the cold lane and everything else; never empty
  std::vector<unsigned> quiet;         ///< SMT siblings of polling CPUs, to be left idle
  std::vector<std::string> warnings;   ///< one line each, for the operator
  long cost = 0;                       ///< by placement_cost.h
};

/// Place shards and duties. A pure function: the same input gives the same plan, and the order of
/// guests in the input changes nothing but the order of Plan::guests.
///
/// cost    some 10 ms for 64 guests on 64 cores
/// errors  no such node; a CPU that is not there; more shards than cores under strict_cores
Result<Plan> place(const Topology& topology, const std::vector<GuestPlacement>& guests,
                   const PlacementOptions& options);

}  // namespace faultline::engine
