// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <string>
#include <vector>

#include "engine/placement.h"
#include "engine/topology.h"

namespace faultline::engine {

/// A guest that is polled already.
struct Resident {
  std::size_t event_shard = 0;
  std::size_t command_shard = 0;
  std::vector<unsigned> vcpus;  ///< host CPUs of its vCPUs; empty: unknown
};

/// Place one guest more beside those that stay where they are: the shards of a running engine where
/// its two duties cost least by placement_cost.h. The first of equals wins. A pure function.
///
/// shards     of the running plan, at least one
/// residents  shards of theirs that are not there count nowhere
/// cost       O(shards × (shards + residents))
[[nodiscard]] GuestPlan place_beside(const Topology& topology, const std::vector<ShardPlan>& shards,
                                     const std::vector<Resident>& residents,
                                     const GuestPlacement& guest);

}  // namespace faultline::engine
