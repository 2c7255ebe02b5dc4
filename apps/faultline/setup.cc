// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/setup.h"

#include <fmt/format.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

namespace faultline {
namespace {

constexpr const char* kDefaultTrace = "tests/data/traces/vnet-strict-4";

volatile std::sig_atomic_t stop_requested = 0;

extern "C" void on_interrupt(int) {
  stop_requested = 1;
}

// The source tree around the program (build/…/apps/faultline), or around the working directory.
std::string find_default_trace() {
  namespace fs = std::filesystem;
  std::error_code error;
  for (const fs::path& from :
       {fs::read_symlink("/proc/self/exe", error), fs::current_path(error)}) {
    for (fs::path at = from; !at.empty(); at = at.parent_path()) {
      const fs::path stem = at / kDefaultTrace;
      if (fs::exists(stem.string() + ".json", error)) return stem.string();
      if (at == at.root_path()) break;
    }
  }
  return {};
}

}  // namespace

Result<guest::Trace> load_trace(const RunOptions& options) {
  const std::string path = options.trace ? *options.trace : find_default_trace();
  if (path.empty() && options.trace) return fail(kUsageError, "--trace: the name is empty");
  if (path.empty()) {
    return fail(kUsageError,
                std::string(kDefaultTrace) +
                    " is not in any folder above the program: name a trace with --trace");
  }
  auto trace = guest::read_trace(path);
  if (!trace) {
    return fail(kUsageError, "--trace: " + trace.error().message() +
                                 "; a trace is NAME.cmdq, NAME.db and NAME.json of one recording");
  }
  return trace;
}

soft::SoftKernelConfig kernel_config(const RunOptions& options,
                                     const std::vector<HostGuest>& guests) {
  soft::SoftKernelConfig config;
  config.quirks_v7 = options.quirks == "v7";
  config.fail_invalidation_every = options.fail_invalidations;
  config.max_fault_abi = options.quirks == "v7" ? 1 : 2;
  config.seed = options.seed;
  for (const HostGuest& g : guests) {
    for (const HostDevice& d : g.devices) {
      config.devices.push_back({d.name, d.group, d.host_sid, 0});
    }
  }
  return config;
}

EngineChoices engine_choices(const RunOptions& options) {
  EngineChoices c;
  c.policy = options.policy == "forward-each"       ? engine::PolicyKind::kForwardEach
             : options.policy == "batch-until-sync" ? engine::PolicyKind::kBatchUntilSync
                                                    : engine::PolicyKind::kMerge;
  c.merge = options.merge.all();
  c.abi = options.abi == "1"   ? vfio::AbiChoice::kV1
          : options.abi == "2" ? vfio::AbiChoice::kV2
                               : vfio::AbiChoice::kAuto;
  c.plant = options.plant == "drop-tlbi"          ? engine::Plant::kDropTlbi
            : options.plant == "early-sync"       ? engine::Plant::kEarlySync
            : options.plant == "lose-record"      ? engine::Plant::kLoseRecord
            : options.plant == "duplicate-record" ? engine::Plant::kDuplicateRecord
                                                  : engine::Plant::kNone;
  c.idle = engine::idle_from_name(options.idle);  // none for "auto"
  c.sleep_after_ns = Nanos{options.sleep_after_us} * 1'000;
  c.shards = options.shards;
  c.strict_cores = options.strict_cores;
  return c;
}

void announce(const RunOptions& options, const guest::Trace& trace, const engine::Plan& plan) {
  const auto plural = [](unsigned n) { return n == 1 ? "" : "s"; };
  fmt::print(
      "{} guest{} x {} device{}, trace {} ({} commands, {} vCPUs), {}, {}{}\n", options.guests,
      plural(options.guests), options.devices, plural(options.devices), trace.name,
      trace.commands.size(), trace.vcpus, options.policy,
      options.kills() ? "kernel and engine in processes of their own" : options.kernel + " kernel",
      options.plant.empty() ? "" : ", planted error: " + options.plant);
  for (const std::string& warning : plan.warnings) fmt::print("warning: {}\n", warning);
  std::fflush(stdout);
}

void catch_interrupts() {
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  // Once: a second Ctrl-C ends a run that does not come to its end.
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() noexcept {
  return stop_requested != 0;
}

}  // namespace faultline
