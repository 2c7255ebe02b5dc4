// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/chaos.h"

#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <utility>
#include <vector>

#include "apps/faultline/description.h"
#include "apps/faultline/session.h"
#include "apps/faultline/setup.h"
#include "apps/faultline/supervisor.h"
#include "apps/wiring/wiring.h"
#include "kernel/soft/soft_process.h"
#include "kernel/soft/soft_process_sys.h"

namespace faultline {
namespace {

using Sys = soft::SoftProcessSys;

// After the last restart the guests work on for so long.
constexpr Nanos kAftermath = 1'000'000'000;

void print_restarts(const Supervisor& s) {
  const Histogram& h = s.restarts();
  fmt::print("\n{} kills of the engine; restart p50 {}, p99 {}, max {}\n", s.kills(),
             duration(h.percentile(0.5)), duration(h.percentile(0.99)), duration(h.max()));
}

}  // namespace

Description describe(int kernel, const EngineChoices& choices, const std::vector<HostGuest>& hosts,
                     const HostSide<Sys>& kept) {
  Description d;
  d.kernel = kernel;
  d.choices = choices;
  d.profile = kept.wirings.front()->profile();
  for (std::size_t g = 0; g < hosts.size(); ++g) {
    Description::Guest guest;
    guest.host = hosts[g];
    guest.journal = kept.journals[g].memfd();
    for (std::size_t i = 0; i < hosts[g].devices.size(); ++i) {
      guest.fds.push_back(kept.wirings[g]->fds(i));
    }
    d.guests.push_back(std::move(guest));
  }
  return d;
}

Result<int> run_chaos(const RunOptions& options, const guest::Trace& trace,
                      std::vector<HostGuest>& hosts, std::optional<ResultFile>& json) {
  EngineChoices choices = engine_choices(options);
  // Each engine will make the same plan; what is wrong with it is said once, and before any starts.
  auto plan = make_plan(hosts, choices);
  if (!plan) return fail(kUsageError, plan.error().message());
  if (auto ok = choose_hugepages(options.hugepages, choices, *plan); !ok) {
    return tl::unexpected(ok.error());
  }
  // Before any thread: it forks.
  auto process = soft::SoftProcess::start(kernel_config(options, hosts));
  if (!process) return tl::unexpected(process.error());
  Sys sys((*process)->socket());
  auto kept = HostSide<Sys>::make(sys, hosts, choices.policy);
  if (!kept) return tl::unexpected(kept.error());
  if (options.lock_memory) {
    if (auto ok = lock_memory(hosts); !ok) return tl::unexpected(ok.error());
  }
  announce(options, trace, *plan);

  Session session(options, trace, hosts,
                  soft_devices((*process)->view(), hosts.size() * options.devices));
  Supervisor supervisor(options, describe((*process)->socket(), choices, hosts, *kept),
                        kept->journals);
  if (auto ok = supervisor.begin(); !ok) return tl::unexpected(ok.error());
  session.start();
  const Session::Ioctls ioctls = [&] { return supervisor.ioctls(); };
  // To the last kill, or to Ctrl-C; in both cases until an engine serves that is left alone.
  Nanos finished = 0;
  while (finished == 0 || (!interrupted() && monotonic_ns() - finished < kAftermath)) {
    if (interrupted()) supervisor.kill_no_more();
    session.turn(ioctls);
    if (auto ok = supervisor.turn(); !ok) return tl::unexpected(ok.error());
    if (auto ok = session.set_up(); !ok) return tl::unexpected(ok.error());
    if (finished == 0 && supervisor.finished() && session.ready()) finished = monotonic_ns();
  }

  RunResult result = session.finish();
  for (const std::uint64_t n : supervisor.ioctls()) result.ioctls += n;
  result.abi = supervisor.abi();
  result.shards = supervisor.shards();
  for (const std::string& step : supervisor.not_reached()) {
    result.verdict.findings.push_back("no engine came to the journal's step " + step);
  }
  if (!supervisor.stop()) {
    result.verdict.findings.push_back("the last engine did not end when it was asked to");
  }
  const bool clean = print_verdict(result);
  print_restarts(supervisor);
  if (json) {
    if (auto ok = json->commit(result_json(options, result)); !ok) {
      return tl::unexpected(ok.error());
    }
  }
  return clean ? 0 : 1;
}

}  // namespace faultline
