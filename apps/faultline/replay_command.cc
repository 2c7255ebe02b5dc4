// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/replay_command.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/faultline/options.h"
#include "apps/faultline/result_file.h"
#include "apps/faultline/table.h"
#include "apps/guest/trace.h"
#include "apps/replay/policies.h"
#include "apps/replay/replay.h"
#include "kernel/base/hgrm.h"

namespace faultline {
namespace {

constexpr Nanos kLongest = 1'000'000'000;  // of a single cost

void print_summary(const ReplayCommand& command, const guest::Trace& trace, const ReplayReport& r) {
  const Histogram& h = r.sync_latency;
  fmt::print("trace {} ({} vCPUs), {}, {} sink, {} clock\n", trace.name, trace.vcpus,
             command.policy, command.sink, command.clock);
  fmt::print("commands           {} with {} CMD_SYNCs, {:.2f} outstanding when one is rung\n",
             r.commands, r.syncs, r.mean_outstanding_syncs());
  fmt::print("ioctls             {}, {:.3f} per CMD_SYNC (limit {:.3f})\n", r.ioctls,
             r.ioctls_per_sync(), r.limit_ioctls_per_sync());
  fmt::print("operations         {}, {} host CMD_SYNCs; {} attaches\n", r.operations, r.host_syncs,
             r.attaches);
  fmt::print("over-invalidation  {:.3f}: {} entries removed, {} asked, {} missed; {} widened\n",
             r.over_invalidation(), r.entries_removed, r.entries_asked, r.missed, r.widened);
  fmt::print("CMD_SYNC           p50 {}, p90 {}, p99 {}, p99.9 {}, max {}\n",
             duration(h.percentile(0.5)), duration(h.percentile(0.9)), duration(h.percentile(0.99)),
             duration(h.percentile(0.999)), duration(h.max()));
  if (r.engine_ns_per_command) {
    fmt::print("engine             {:.1f} ns per command\n", *r.engine_ns_per_command);
  }
  fmt::print("time               {:.6f} s\n", r.seconds);
  std::fflush(stdout);
}

ReplayOptions options_of(const ReplayCommand& command) {
  ReplayOptions options = command.options;
  options.merge = command.merge.all();
  for (const NamedPolicy& p : kReplayPolicies) {
    if (p.name == command.policy) options.policy = p.kind;
  }
  options.sink = command.sink == "array" ? SinkModel::kArray : SinkModel::kOneOperation;
  options.clock = command.clock == "virtual" ? ReplayClock::kVirtual : ReplayClock::kWall;
  return options;
}

/// `file` is opened where `path` names one.
Result<void> open_result(const char* option, const std::string& path,
                         std::optional<ResultFile>& file) {
  if (path.empty()) return {};
  auto opened = ResultFile::open(path);
  if (!opened) return fail(kUsageError, std::string(option) + ": " + opened.error().message());
  file.emplace(std::move(*opened));
  return {};
}

}  // namespace

void declare_replay(CLI::App& command, ReplayCommand& to) {
  const auto choice = [&](const char* name, std::string& value, std::vector<std::string> among,
                          const char* text) {
    command.add_option(name, value, text)
        ->check(CLI::IsMember(std::move(among)))
        ->capture_default_str();
  };
  const auto cost = [&](const char* name, Nanos& value, Nanos low, const char* text) {
    command.add_option(name, value, text)->check(CLI::Range(low, kLongest))->capture_default_str();
  };
  std::vector<std::string> policies;
  for (const NamedPolicy& p : kReplayPolicies) policies.emplace_back(p.name);
  command
      .add_option("TRACE", to.trace,
                  "recorded commands to play: NAME.cmdq, with NAME.db and NAME.json beside it")
      ->required();
  choice("--policy", to.policy, std::move(policies), "how commands become submissions");
  declare_merge(command, to.merge);
  choice("--sink", to.sink, {"array", "one-operation"},
         "one ioctl per submission, or one per operation");
  choice("--clock", to.clock, {"virtual", "wall"},
         "count time, the same every time; or measure it, on two cores");
  command.add_option("--json", to.json, "write the result to this file, - for standard output");
  command.add_option("--hgrm", to.hgrm,
                     "write the CMD_SYNCs' latency, in us, for HdrHistogram's plotters");
  command.add_option("--loops", to.options.loops, "how often the trace is played")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1'000'000}))
      ->capture_default_str();
  cost("--think-ns", to.options.think, 0, "a vCPU's pause after each CMD_SYNC seen complete");
  cost("--ring-ns", to.options.ring, 0,
       "from there, and from a doorbell without CMD_SYNC, to the "
       "next doorbell");
  cost("--ioctl-ns", to.options.ioctl, 0, "what an ioctl takes");
  cost("--host-sync-ns", to.options.host_sync, 0, "what a CMD_SYNC of the host takes");
  cost("--entry-ns", to.options.entry, 0, "what each operation takes");
  cost("--round-ns", to.options.round, 1, "what a round of the engine takes by the virtual clock");
}

Result<void> replay_command(const ReplayCommand& command) {
  const auto usage = [](const Error& error) { return fail(kUsageError, error.message()); };
  auto trace = guest::read_trace(command.trace);
  if (!trace) return usage(trace.error());
  const ReplayOptions options = options_of(command);
  if (auto ok = check_replay(*trace, options); !ok) return usage(ok.error());
  // Now, not after the replay.
  std::optional<ResultFile> json, hgrm;
  if (auto ok = open_result("--json", command.json, json); !ok) return ok;
  if (auto ok = open_result("--hgrm", command.hgrm, hgrm); !ok) return ok;
  const auto report = replay(*trace, options);
  if (!report) return tl::unexpected(report.error());
  if (json) {
    if (auto ok = json->commit(to_json(*report)); !ok) return ok;
  }
  if (hgrm) {
    if (auto ok = hgrm->commit(faultline::hgrm(report->sync_latency, 1000)); !ok) return ok;
  }
  print_summary(command, *trace, *report);
  return {};
}

}  // namespace faultline
