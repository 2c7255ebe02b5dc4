// SPDX-License-Identifier: BSD-3-Clause
// The main() of every benchmark: before anything is timed, the machine and its floors are measured
// and stored with the results.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <string>

#include "bench/support/floor.h"
#include "bench/support/machine.h"

namespace {

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", value);
  return text;
}

void add_context() {
  using namespace faultline;
  for (const auto& [name, value] : bench::machine_facts()) benchmark::AddCustomContext(name, value);
  const bench::TickRate rate = bench::calibrate_ticks();
  benchmark::AddCustomContext("ns_per_tick", number(rate.ns_per_tick));
  benchmark::AddCustomContext("ns_per_tick_spread", number(rate.spread));
  const auto cpus = bench::usable_cpus();
  bool noisy = false;
  for (const unsigned cpu : cpus) {
    const bench::Jitter j = bench::measure_jitter(cpu, 200'000'000);
    noisy = noisy || j.stolen > 0.01 || !j.pinned;
    benchmark::AddCustomContext(
        "jitter_cpu" + std::to_string(cpu),
        number(j.stolen * 100) + " % taken away in " + std::to_string(j.gaps) + " pauses, p50 " +
            std::to_string(j.p50) + " ns, p99 " + std::to_string(j.p99) + " ns, longest " +
            std::to_string(j.max) + " ns, in " + number(j.seconds) + " s");
  }
  if (cpus.size() > 1) {
    const bench::Handover h = bench::measure_handover(cpus[0], cpus[1], 200'000'000);
    benchmark::AddCustomContext("cache_line_handover_ns",
                                number(h.p50_ns) + " p50, " + number(h.p99_ns) + " p99, CPU " +
                                    std::to_string(h.from) + " to " + std::to_string(h.to));
  }
  // Beyond this an interval of the counter is no time.
  const bool steady = rate.spread <= 0.01;
  benchmark::AddCustomContext(
      "claims", !steady ? "the cycle counter did not run evenly: no figure in ns is to be trusted"
                : noisy
                    ? "more than 1 % of a core was taken away: compare medians and ratios of this "
                      "run only, tails say nothing"
                    : "the cores were quiet: medians and ratios hold, absolute times are of this "
                      "machine only");
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  add_context();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
