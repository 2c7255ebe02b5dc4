// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/faultline/engine_host.h"
#include "apps/faultline/result_file.h"
#include "apps/faultline/session.h"
#include "apps/faultline/setup.h"
#include "engine/placement.h"
#include "kernel/base/clock.h"
#include "kernel/base/result.h"

namespace faultline {

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

/// Start an engine over the host's side of the guests, let the guests play, judge and report.
///
/// Side      HostSide or IommufdSide: what outlives an engine
/// returns   the program's status: 0 when the audit is clean
template <class Side>
Result<int> play(const RunOptions& options, Session& session, const std::vector<HostGuest>& hosts,
                 Side& side, const EngineChoices& choices, const engine::Plan& plan,
                 std::optional<ResultFile>& json) {
  constexpr Nanos kSetUpLimit = 60'000'000'000;
  using Host = EngineHost<typename Side::Wires>;
  auto host = Host::prepare(plan, choices);
  if (host) {
    host = Host::start(std::move(*host), hosts, side.wirings, side.journals, choices, plan);
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
  Rebalancer rebalancer(options.rebalance_ms, plan);
  while (monotonic_ns() < until && !interrupted()) {
    session.turn(ioctls);
    if (auto ok = rebalancer.turn(**host); !ok) return tl::unexpected(ok.error());
  }
  RunResult result = session.finish();
  result.duties_moved = rebalancer.moved();
  for (const auto& g : (*host)->snapshot().guests) {
    result.ioctls += g.commands.ioctls;
    engine::add_counters(result.commands, g.commands);
    engine::add_counters(result.events, g.events);
    engine::add_counters(result.merge, g.merge);
  }
  result.abi = (*host)->abi();
  result.shards = plan.shards.size();
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

}  // namespace faultline
