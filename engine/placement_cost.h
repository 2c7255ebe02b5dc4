// SPDX-License-Identifier: BSD-3-Clause
// What makes one placement better than another, as numbers that add up. 100 is one duty that waits
// behind one other; everything else is relative to that.
#pragma once

#include <cstddef>
#include <set>
#include <vector>

#include "engine/topology.h"

namespace faultline::engine::placement {

// Once for each polling core.
inline constexpr long kVcpuOnCpu = 1000;     ///< for each vCPU that runs on the polling CPU itself
inline constexpr long kVcpuOnSibling = 300;  ///< for each vCPU on an SMT sibling of it
inline constexpr long kNotIsolated = 80;     ///< the scheduler may put others on it
// Once for each duty, times its load.
inline constexpr long kOutsideL3 = 30;  ///< on a core outside the L3 caches of its guest's vCPUs
// Once for each pair of duties on one core.
inline constexpr long kTogether = 100;   ///< times both loads
inline constexpr long kSameGuest = 150;  ///< its faults wait behind its own submissions

/// A physical core that may poll.
struct Core {
  Cpu cpu;        ///< the one of its CPUs that would poll
  long open = 0;  ///< what polling there costs by itself
};

struct Duty {
  std::size_t guest = 0;
  long load = 1;
  std::set<unsigned> l3s = {};  ///< of its guest's vCPUs; empty: unknown, any is as good
};

/// One placement to be found.
struct Problem {
  std::vector<Core> cores;  ///< best first; equal costs go to the first
  std::vector<Duty> duties;
  std::size_t most_cores = 1;  ///< that may poll
  /// One core that the scheduler may use has to stay free of polling.
  bool keep_a_shared_core = false;
};

/// core of each duty, by its index in Problem::cores
using Assignment = std::vector<std::size_t>;

/// What `duty` costs on `core`, without its neighbours.
[[nodiscard]] inline long cost_alone(const Duty& duty, const Core& core) {
  return duty.l3s.empty() || duty.l3s.contains(core.cpu.l3) ? 0 : kOutsideL3 * duty.load;
}

/// What two duties on one core cost together.
[[nodiscard]] inline long cost_together(const Duty& a, const Duty& b) {
  return kTogether * a.load * b.load + (a.guest == b.guest ? kSameGuest : 0);
}

/// The cost of a whole assignment.
[[nodiscard]] long cost_of(const Problem& problem, const Assignment& assignment);

/// Whether the cores that it uses may be used together.
[[nodiscard]] bool allowed(const Problem& problem, const Assignment& assignment);

/// The cheapest assignment of a small problem (some 8 cores and 6 duties); of a large one the best
/// of several that no move of a duty, swap of two or exchange of a core makes cheaper.
/// Deterministic. At least one core must be usable.
[[nodiscard]] Assignment search(const Problem& problem);

}  // namespace faultline::engine::placement
