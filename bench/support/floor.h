// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernel/base/clock.h"

namespace faultline::bench {

/// How long one tick of cycles() is: measured against CLOCK_MONOTONIC.
///
/// ns_per_tick   median of several intervals
/// spread        (max - min) / median of them; above 0.01 the counter is not to be trusted
struct TickRate {
  double ns_per_tick = 0;
  double spread = 0;
};
TickRate calibrate_ticks();

/// How long and how often a core is taken away from a loop that only reads the counter: what no
/// measurement on that core can be better than.
struct Jitter {
  unsigned cpu = 0;
  bool pinned = false;  ///< false: the thread could not be bound to the CPU
  double seconds = 0;
  std::uint64_t gaps = 0;           ///< pauses above 1 µs
  double stolen = 0;                ///< share of the time spent in them
  Nanos p50 = 0, p99 = 0, max = 0;  ///< of the pauses; 0 when there are none
};
Jitter measure_jitter(unsigned cpu, Nanos how_long);

/// One cache line handed over between two cores, one way: half of a round trip. What a polled fault
/// cannot be seen faster than.
struct Handover {
  unsigned from = 0, to = 0;
  double p50_ns = 0, p99_ns = 0;
  std::uint64_t rounds = 0;
};
Handover measure_handover(unsigned from, unsigned to, Nanos how_long);

/// Bind the calling thread. returns false when the kernel refuses
bool pin_to(unsigned cpu);

/// The CPUs that this process may use, in order.
std::vector<unsigned> usable_cpus();

}  // namespace faultline::bench
