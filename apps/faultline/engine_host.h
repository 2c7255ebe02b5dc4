// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/wiring/host_guest.h"
#include "apps/wiring/wiring.h"
#include "engine/cold_lane.h"
#include "engine/engine.h"
#include "engine/hugepages.h"
#include "engine/journal.h"
#include "engine/lcore.h"
#include "engine/placement.h"
#include "engine/topology.h"
#include "kernel/base/result.h"

namespace faultline {

/// How the engine of a run is started.
struct EngineChoices {
  engine::PolicyKind policy = engine::PolicyKind::kMerge;
  merge::MergeOptions merge;
  vfio::AbiChoice abi = vfio::AbiChoice::kAuto;
  engine::Plant plant = engine::Plant::kNone;
  unsigned shards = 0;
  bool strict_cores = false;
  bool hugepages = false;                  ///< where they can still be had when the engine starts
  std::optional<engine::IdlePolicy> idle;  ///< unset: by what the core is
  Nanos sleep_after_ns = 200'000;          ///< of IdlePolicy::kSleep
};

/// A plan for these guests on this machine.
Result<engine::Plan> make_plan(const std::vector<HostGuest>& guests, const EngineChoices& choices);

/// Decide where the memory of the shards comes from, as --hugepages asks.
///
/// asked    "on": from hugepages; "auto": from hugepages where there are any; "off": not
/// plan     is given a warning where hugepages are reserved and of no use
/// errors   "on" and there are not enough: one line
Result<void> choose_hugepages(const std::string& asked, EngineChoices& choices, engine::Plan& plan);

/// The engine of one process: cold lane, EAL, shards, and all guests on one kind of kernel.
///
/// Wires    the host's side of a guest: Wiring or IommufdWiring. They must outlive this object, as
///          must guests and journals
/// thread   one
template <class Wires, engine::StepHook Hook = engine::NoHook>
class EngineHost {
 public:
  using EngineType = engine::Engine<typename Wires::Sources, typename Wires::SinkType, Hook>;

  /// All that takes long and needs no guest: the cold lane and EAL.
  static Result<std::unique_ptr<EngineHost>> prepare(const engine::Plan& plan,
                                                     const EngineChoices& choices) {
    auto host = std::unique_ptr<EngineHost>(new EngineHost);
    // The cold lane first: EAL pins threads, and workers of a pinned thread would not exist.
    host->lane_ = std::make_unique<engine::ColdLane>(plan.housekeeping);
    engine::LcoreOptions lcores;
    for (const engine::ShardPlan& shard : plan.shards) lcores.cpus.push_back(shard.cpu);
    lcores.housekeeping_cpu = plan.housekeeping.front();
    lcores.hugepages = choices.hugepages && engine::check_hugepages(plan.node).has_value();
    auto started = engine::Lcores::start(lcores);
    if (!started) return tl::unexpected(started.error());
    host->lcores_ = std::move(*started);
    return host;
  }

  /// Take the guests on, fresh or where their journals stand, and serve them.
  ///
  /// host   from prepare(), with the same plan
  static Result<std::unique_ptr<EngineHost>> start(std::unique_ptr<EngineHost> host,
                                                   const std::vector<HostGuest>& guests,
                                                   std::vector<std::unique_ptr<Wires>>& wirings,
                                                   std::vector<engine::Journal>& journals,
                                                   const EngineChoices& choices,
                                                   const engine::Plan& plan, Hook hook = {}) {
    engine::EngineOptions options;
    options.plant = choices.plant;
    options.idle = choices.idle;
    options.sleep.quiet = choices.sleep_after_ns;
    options.features = wirings.front()->features();
    host->engine_ = std::make_unique<EngineType>(*host->lane_, options, hook);
    for (std::size_t g = 0; g < guests.size(); ++g) {
      auto sources = wirings[g]->sources(choices.abi, journals[g]);
      if (!sources) return fail(std::move(sources.error()), guests[g].name);
      host->abi_ = Wires::abi_of(*sources);
      auto ok = host->engine_->add_guest(spec_of(guests[g], choices.policy, choices.merge),
                                         std::move(*sources), wirings[g]->sink(), journals[g]);
      if (!ok) return tl::unexpected(ok.error());
    }
    if (auto ok = host->engine_->start(plan, engine::on_lcores(*host->lcores_)); !ok) {
      return tl::unexpected(ok.error());
    }
    return host;
  }

  Result<void> stop() { return engine_->stop(); }
  Result<unsigned> rebalance(const engine::Plan& plan) { return engine_->rebalance(plan); }
  [[nodiscard]] engine::EngineSnapshot snapshot() const { return engine_->snapshot(); }
  [[nodiscard]] unsigned abi() const noexcept { return abi_; }

 private:
  EngineHost() = default;
  std::unique_ptr<engine::ColdLane> lane_;
  std::unique_ptr<engine::Lcores> lcores_;
  std::unique_ptr<EngineType> engine_;
  unsigned abi_ = 0;
};

}  // namespace faultline
