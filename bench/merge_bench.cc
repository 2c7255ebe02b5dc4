// SPDX-License-Identifier: BSD-3-Clause
// How many ioctls each policy needs for what real guests wrote, and what a CMD_SYNC then waits:
// every recorded trace under every policy, with the baselines in the same run; and a sweep over
// vCPUs. By the virtual clock: the engine's real code, times counted and not measured.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "apps/guest/trace.h"
#include "apps/replay/replay.h"

namespace faultline {
namespace {

struct Variant {
  const char* name;
  engine::PolicyKind policy;
  merge::LingerMode linger = merge::LingerMode::kAuto;
  double cap = merge::MergeOptions{}.cap;
};
constexpr Variant kVariants[] = {
    {"forward-each", engine::PolicyKind::kForwardEach},
    {"batch-until-sync", engine::PolicyKind::kBatchUntilSync},
    {"merge,linger=off", engine::PolicyKind::kMerge, merge::LingerMode::kOff},
    {"merge,linger=on", engine::PolicyKind::kMerge, merge::LingerMode::kOn},
    {"merge", engine::PolicyKind::kMerge},
};
/// Never an entry too many: what is left are the distinct ranges.
constexpr Variant kExact = {"merge,cap=1", engine::PolicyKind::kMerge, merge::LingerMode::kAuto, 1};

ReplayOptions options_of(const Variant& variant, SinkModel sink, Nanos think) {
  ReplayOptions o;
  o.policy = variant.policy;
  o.merge.linger = variant.linger;
  o.merge.cap = variant.cap;
  o.sink = sink;
  o.think = think;
  return o;
}

/// Everything that a report says, as counters.
void play(benchmark::State& state, const guest::Trace& trace, const ReplayOptions& options) {
  for (auto _ : state) {
    const auto report = replay(trace, options);
    if (!report) {
      state.SkipWithError(report.error().message().c_str());
      return;
    }
    const ReplayReport& r = *report;
    if (r.missed != 0) state.SkipWithError("entries that were asked for were not removed");
    auto& c = state.counters;
    const auto as = [](std::uint64_t n) { return static_cast<double>(n); };
    c["commands"] = as(r.commands);
    c["syncs"] = as(r.syncs);
    c["ioctls"] = as(r.ioctls);
    c["operations"] = as(r.operations);
    c["host_syncs"] = as(r.host_syncs);
    c["ioctls_per_sync"] = r.ioctls_per_sync();
    c["ioctls_per_1000_commands"] =
        1000 * as(r.ioctls) / as(std::max<std::uint64_t>(r.commands, 1));
    c["limit"] = r.limit_ioctls_per_sync();
    // Below it there is a trace whose CMD_SYNCs need no ioctl at all.
    c["times_limit"] = r.ioctls_per_sync() / std::max(r.limit_ioctls_per_sync(), 1e-9);
    c["times_n"] = r.ioctls_per_sync() * r.mean_outstanding_syncs();
    c["outstanding"] = r.mean_outstanding_syncs();
    c["over_invalidation"] = r.over_invalidation();
    c["widened"] = as(r.widened);
    c["sync_p50_ns"] = as(r.sync_latency.percentile(0.5));
    c["sync_p99_ns"] = as(r.sync_latency.percentile(0.99));
  }
}

/// `vcpus` that each unmap 8 pages at a time, strictly, over and over: one range and one CMD_SYNC.
guest::Trace unmaps(unsigned vcpus) {
  constexpr unsigned kRounds = 64;
  constexpr std::uint64_t kTg4K = std::uint64_t{1} << 10U;
  constexpr std::uint64_t kEightPages = std::uint64_t{7} << 12U;
  constexpr std::uint64_t kLeaf = 1;
  guest::Trace t;
  t.name = "unmaps-" + std::to_string(vcpus);
  t.vcpus = vcpus;
  t.uses_range = true;
  for (unsigned round = 0; round < kRounds; ++round) {
    for (unsigned v = 0; v < vcpus; ++v) {
      // Nobody's pages are another one's neighbours.
      const std::uint64_t address = (std::uint64_t{v + 1} << 32U) + (std::uint64_t{round} << 16U);
      const auto first = static_cast<std::uint32_t>(t.commands.size());
      t.commands.push_back({{guest::op::kTlbiNhVa | kEightPages | std::uint64_t{1} << 48U,
                             address | kTg4K | kLeaf}});
      t.commands.push_back({{guest::op::kSync, 0}});
      t.doorbells.push_back({Nanos{round}, first, 2, static_cast<std::uint16_t>(v)});
    }
  }
  return t;
}

/// The traces that come with the source.
std::vector<std::shared_ptr<const guest::Trace>> recorded() {
  std::vector<std::shared_ptr<const guest::Trace>> out;
  const char* root = std::getenv("FAULTLINE_SOURCE_ROOT");
  const std::filesystem::path folder =
      std::filesystem::path(root == nullptr ? "." : root) / "tests/data/traces";
  std::vector<std::string> names;
  std::error_code none;
  for (const auto& file : std::filesystem::directory_iterator(folder, none)) {
    if (file.path().extension() == ".json") names.push_back(file.path().string());
  }
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    auto trace = guest::read_trace(name);
    if (trace) out.push_back(std::make_shared<guest::Trace>(std::move(*trace)));
  }
  return out;
}

void add(const std::string& name, std::shared_ptr<const guest::Trace> trace,
         const ReplayOptions& options) {
  benchmark::RegisterBenchmark(
      name.c_str(), [trace, options](benchmark::State& state) { play(state, *trace, options); })
      ->Iterations(1)
      ->Repetitions(1)
      ->Unit(benchmark::kMillisecond);
}

[[maybe_unused]] const bool registered = [] {
  const auto traces = recorded();
  if (traces.empty()) {
    benchmark::RegisterBenchmark("Traces", [](benchmark::State& state) {
      state.SkipWithError("no trace in tests/data/traces: run it from the root of the source");
    });
  }
  for (const auto& trace : traces) {
    add("OneOperation/" + trace->name + "/" + kExact.name, trace,
        options_of(kExact, SinkModel::kOneOperation, 0));
    for (const Variant& v : kVariants) {
      const std::string tail = "/" + trace->name + "/" + v.name;
      add("Array" + tail, trace, options_of(v, SinkModel::kArray, 0));
      add("OneOperation" + tail, trace, options_of(v, SinkModel::kOneOperation, 0));
      add("ArrayThink1us" + tail, trace, options_of(v, SinkModel::kArray, 1'000));
    }
  }
  for (unsigned vcpus = 1; vcpus <= 64; vcpus *= 2) {
    const auto trace = std::make_shared<guest::Trace>(unmaps(vcpus));
    for (const Variant& v : kVariants) {
      add("Sweep/" + std::to_string(vcpus) + "/" + v.name, trace,
          options_of(v, SinkModel::kArray, 0));
    }
  }
  return true;
}();

}  // namespace
}  // namespace faultline
