// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/run.h"

#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/faultline/chaos.h"
#include "apps/faultline/engine_host.h"
#include "apps/faultline/play.h"
#include "apps/faultline/result_file.h"
#include "apps/faultline/run_iommufd.h"
#include "apps/faultline/session.h"
#include "apps/faultline/setup.h"
#include "apps/wiring/wiring.h"
#include "kernel/soft/soft_kernel.h"
#include "kernel/soft/soft_process.h"
#include "kernel/soft/soft_process_sys.h"
#include "kernel/soft/soft_sys.h"

namespace faultline {
namespace {

/// All in one process but perhaps the kernel: the engine's snapshots are at hand.
template <class Sys>
Result<int> run_here(const RunOptions& options, const guest::Trace& trace,
                     std::vector<HostGuest>& hosts, std::optional<ResultFile>& json, Sys& sys,
                     soft::SoftKernel& kernel) {
  EngineChoices choices = engine_choices(options);
  auto plan = make_plan(hosts, choices);
  if (!plan) return fail(kUsageError, plan.error().message());
  if (auto ok = choose_hugepages(options.hugepages, choices, *plan); !ok) {
    return tl::unexpected(ok.error());
  }
  if (options.rebalance_ms != 0 && plan->shards.size() < 2) {
    return fail(kUsageError, "--rebalance needs another shard to move to: use --shards 2");
  }
  announce(options, trace, *plan);

  auto side = HostSide<Sys>::make(sys, hosts, choices.policy);
  if (!side) return tl::unexpected(side.error());
  if (options.lock_memory) {
    if (auto ok = lock_memory(hosts); !ok) return tl::unexpected(ok.error());
  }
  const std::size_t devices = hosts.size() * options.devices;
  Session session(options, trace, hosts, soft_devices(kernel, devices));
  return play(options, session, hosts, *side, choices, *plan, json);
}

Result<int> run_soft(const RunOptions& options, const guest::Trace& trace,
                     std::vector<HostGuest>& hosts, std::optional<ResultFile>& json) {
  auto kernel = soft::SoftKernel::create(kernel_config(options, hosts));
  if (!kernel) return tl::unexpected(kernel.error());
  soft::SoftSys sys(**kernel);
  (*kernel)->start();
  auto status = run_here(options, trace, hosts, json, sys, **kernel);
  (*kernel)->stop();
  return status;
}

Result<int> run_soft_process(const RunOptions& options, const guest::Trace& trace,
                             std::vector<HostGuest>& hosts, std::optional<ResultFile>& json) {
  // Before any thread: it forks.
  auto process = soft::SoftProcess::start(kernel_config(options, hosts));
  if (!process) return tl::unexpected(process.error());
  soft::SoftProcessSys sys((*process)->socket());
  return run_here(options, trace, hosts, json, sys, (*process)->view());
}

Result<void> check(const RunOptions& options) {
  if (options.quirks == "v7" && options.abi == "2") {
    return fail(kUsageError, "--quirks v7 has fault ABI 1 only: leave --abi 2 away");
  }
  if (options.kernel == "iommufd") return check_iommufd(options);
  if (!options.host_devices.empty()) {
    return fail(kUsageError, "--device names real devices: it goes with --kernel iommufd");
  }
  if (options.kills() && !options.plant.empty()) {
    return fail(kUsageError, "--plant and --chaos do not go together: one error at a time");
  }
  if (options.kills() && options.rebalance_ms != 0) {
    return fail(kUsageError, "--rebalance and --chaos do not go together: use one of them");
  }
  return {};
}

}  // namespace

Result<int> run(const RunOptions& options) {
  if (auto ok = check(options); !ok) return tl::unexpected(ok.error());
  auto trace = load_trace(options);
  if (!trace) return tl::unexpected(trace.error());
  std::optional<ResultFile> json;
  if (options.json) {
    // Now, not after the run.
    auto file = ResultFile::open(*options.json);
    if (!file) return fail(kUsageError, "--json: " + file.error().message());
    json.emplace(std::move(*file));
  }
  catch_interrupts();
  std::vector<HostGuest> hosts;
  if (options.kernel != "iommufd") {
    hosts = make_guests(options.guests, guest::Guest::choose_sids(*trace, options.devices));
  }
  Result<int> status = options.kernel == "iommufd" ? run_iommufd(options, *trace, json)
                       : options.kills()           ? run_chaos(options, *trace, hosts, json)
                       : options.kernel == "soft-process"
                           ? run_soft_process(options, *trace, hosts, json)
                           : run_soft(options, *trace, hosts, json);
  for (HostGuest& host : hosts) close_descriptors(host);
  return status;
}

}  // namespace faultline
