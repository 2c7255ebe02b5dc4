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
#include "apps/faultline/result_file.h"
#include "apps/faultline/session.h"
#include "apps/faultline/setup.h"
#include "apps/faultline/wiring.h"
#include "kernel/soft/soft_kernel.h"
#include "kernel/soft/soft_process.h"
#include "kernel/soft/soft_process_sys.h"
#include "kernel/soft/soft_sys.h"

namespace faultline {
namespace {

constexpr Nanos kSetUpLimit = 60'000'000'000;

/// Moves every duty to the next shard, each time that long after the last.
class Rebalancer {
 public:
  Rebalancer(unsigned ms, engine::Plan plan)
      : every_(Nanos{ms} * 1'000'000), due_(monotonic_ns() + every_), plan_(std::move(plan)) {}

  template <class Host>
  Result<void> turn(Host& host) {
    if (every_ == 0 || monotonic_ns() < due_) return {};
    const std::size_t shards = plan_.shards.size();
    for (engine::GuestPlan& guest : plan_.guests) {
      guest.event_shard = (guest.event_shard + 1) % shards;
      guest.command_shard = (guest.command_shard + 1) % shards;
    }
    const auto moved = host.rebalance(plan_);
    if (!moved) return tl::unexpected(moved.error());
    moved_ += *moved;
    due_ = monotonic_ns() + every_;
    return {};
  }

  [[nodiscard]] std::uint64_t moved() const noexcept { return moved_; }

 private:
  Nanos every_;
  Nanos due_;
  engine::Plan plan_;
  std::uint64_t moved_ = 0;
};

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
  Session session(options, trace, hosts, kernel);
  auto host = EngineHost<Sys>::prepare(*plan, choices);
  if (host) {
    host = EngineHost<Sys>::start(std::move(*host), hosts, side->wirings, side->journals, choices,
                                  *plan);
  }
  if (!host) return tl::unexpected(host.error());
  const Session::Ioctls ioctls = [&] {
    std::vector<std::uint64_t> calls;
    for (const auto& g : (*host)->snapshot().guests) calls.push_back(g.commands.ioctls);
    return calls;
  };

  session.start();
  if (auto ok = session.wait_ready(kSetUpLimit); !ok) return tl::unexpected(ok.error());
  const Nanos until = monotonic_ns() + Nanos{options.seconds} * 1'000'000'000;
  Rebalancer rebalancer(options.rebalance_ms, *plan);
  while (monotonic_ns() < until && !interrupted()) {
    session.turn(ioctls);
    if (auto ok = rebalancer.turn(**host); !ok) return tl::unexpected(ok.error());
  }
  RunResult result = session.finish();
  result.duties_moved = rebalancer.moved();
  for (const auto& g : (*host)->snapshot().guests) {
    result.ioctls += g.commands.ioctls;
    engine::add_counters(result.commands, g.commands);
    engine::add_counters(result.merge, g.merge);
  }
  result.abi = (*host)->abi();
  result.shards = plan->shards.size();
  if (auto stopped = (*host)->stop(); !stopped) {
    result.verdict.findings.push_back(stopped.error().message());
  }
  if (result.merge.audit_failures != 0) {
    result.verdict.findings.push_back(std::to_string(result.merge.audit_failures) +
                                      " plans of merged invalidations covered too little");
  }
  const bool clean = print_verdict(result);
  if (json) {
    if (auto ok = json->commit(result_json(options, result)); !ok) {
      return tl::unexpected(ok.error());
    }
  }
  return clean ? 0 : 1;
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
  std::vector<HostGuest> hosts =
      make_guests(options.guests, guest::Guest::choose_sids(*trace, options.devices));
  Result<int> status = options.kills() ? run_chaos(options, *trace, hosts, json)
                       : options.kernel == "soft-process"
                           ? run_soft_process(options, *trace, hosts, json)
                           : run_soft(options, *trace, hosts, json);
  for (HostGuest& host : hosts) close_descriptors(host);
  return status;
}

}  // namespace faultline
