// SPDX-License-Identifier: BSD-3-Clause
// Why a plan is as it is, in words, and what each choice was preferred to.
#pragma once

#include <string>
#include <vector>

#include "engine/placement.h"
#include "engine/placement_cost.h"

namespace faultline::engine::placement {

/// What is known of a core besides its cost.
struct CoreFacts {
  unsigned vcpus_on_cpu = 0;
  unsigned vcpus_on_siblings = 0;
  unsigned vcpus_in_l3 = 0;
};

/// "node 0, L3 1, isolated, 4 vCPUs in its L3, no vCPU on its core"
[[nodiscard]] std::string why_core(const Core& core, const CoreFacts& facts);

/// CPUs that could poll in place of core `at`, with all its duties; the three best, best first.
[[nodiscard]] std::vector<Rejected> instead_of_core(const Problem& problem,
                                                    const std::vector<CoreFacts>& facts,
                                                    const Assignment& assignment, std::size_t at);

/// The other polling cores for one duty; the three best, best first.
[[nodiscard]] std::vector<Rejected> instead_for_duty(const Problem& problem,
                                                     const Assignment& assignment,
                                                     const std::vector<std::size_t>& polling,
                                                     std::size_t duty);

}  // namespace faultline::engine::placement
