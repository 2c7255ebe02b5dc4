// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultlined/node_engine.h"

#include <algorithm>
#include <utility>

#include "apps/session/engine_guests.h"
#include "engine/engine.h"
#include "engine/hugepages.h"
#include "engine/monitor.h"

namespace faultline::daemon {
namespace {

engine::PlacementOptions placement_of(const config::Options& o) {
  engine::PlacementOptions p;
  p.node = static_cast<unsigned>(o.node);
  p.shards = static_cast<unsigned>(o.shards);
  p.strict_cores = o.strict_cores;
  p.cpus = o.cpus;
  return p;
}

merge::MergeOptions merge_of(const config::Options& o) {
  merge::MergeOptions m;
  m.cap = o.merge_cap;
  m.deadline = o.merge_deadline_us * 1000;
  m.wait = o.merge_wait_us * 1000;
  m.linger = o.merge_linger == "on"    ? merge::LingerMode::kOn
             : o.merge_linger == "off" ? merge::LingerMode::kOff
                                       : merge::LingerMode::kAuto;
  m.assume_nonglobal = o.assume_nonglobal;
  m.audit_every = static_cast<std::uint32_t>(o.audit_every);
  return m;
}

session::EngineGuestsOptions engine_of(const config::Options& o, engine::Topology topology) {
  session::EngineGuestsOptions e;
  e.backend = o.backend == "vfio"      ? session::Backend::kVfio
              : o.backend == "iommufd" ? session::Backend::kIommufd
                                       : session::Backend::kSoft;
  e.engine.idle = engine::idle_from_name(o.idle_policy);  // none for "auto"
  e.engine.sleep.quiet = o.sleep_after_us * 1000;
  e.engine.sleep.longest = o.sleep_longest_us * 1000;
  e.policy = o.merge_policy == "forward-each"       ? engine::PolicyKind::kForwardEach
             : o.merge_policy == "batch-until-sync" ? engine::PolicyKind::kBatchUntilSync
                                                    : engine::PolicyKind::kMerge;
  e.merge = merge_of(o);
  e.budget = budget_of(o);
  e.register_poll_ns = o.exitless_poll_us * 1000;
  e.topology = std::move(topology);
  e.placement = placement_of(o);
  return e;
}

/// DPDK's name of the service: dpdk-telemetry.py --file-prefix.
std::string eal_prefix(const config::Options& o) {
  return "faultline-" + std::to_string(o.node) + (o.instance.empty() ? "" : "-" + o.instance);
}

Result<void> check_idle(const config::Options& o) {
  const auto policy = engine::idle_from_name(o.idle_policy);
  if (!policy) return {};
  auto ok = engine::check_idle(*policy);
  if (!ok) return fail(std::move(ok.error()), "idle.policy = \"" + o.idle_policy + '"');
  return {};
}

/// What placement says of the options of `faultline`, said of the keys.
std::string in_keys(std::string line) {
  const std::string advice = "; use --shards ";
  const std::string other = " or drop --strict-cores";
  const std::size_t at = line.find(advice);
  const std::size_t or_at = line.find(other);
  if (at == std::string::npos || or_at == std::string::npos) return line;
  line.replace(or_at, other.size(), " or placement.strict-cores = false");
  return line.replace(at, advice.size(), "; set placement.shards = ");
}

/// returns  whether to take hugepages
Result<bool> choose_hugepages(const config::Options& o, engine::Plan& plan) {
  if (o.hugepages == "off") return false;
  auto enough = engine::check_hugepages(plan.node);
  if (enough) return true;
  if (o.hugepages == "on") return fail(std::move(enough.error()), "placement.hugepages = \"on\"");
  if (engine::hugepages_of(plan.node).reserved > 0) {
    plan.warnings.push_back(enough.error().message() + "; going without");
  }
  return false;
}

}  // namespace

engine::Budget budget_of(const config::Options& o) noexcept {
  engine::Budget budget;
  if (o.budget_commands != 0) budget.commands = static_cast<std::uint32_t>(o.budget_commands);
  if (o.budget_records != 0) budget.records = static_cast<std::uint32_t>(o.budget_records);
  if (o.budget_submissions != 0) {
    budget.submissions = static_cast<std::uint32_t>(o.budget_submissions);
  }
  return budget;
}

Result<engine::Plan> plan_node(const config::Options& o, const engine::Topology& topology) {
  // As for one guest: with both its duties there is work for two cores.
  engine::GuestPlacement any;
  any.name = "guest";
  auto plan = engine::place(topology, {any}, placement_of(o));
  if (!plan) return fail(plan.error().code, in_keys(plan.error().what));
  plan->guests.clear();
  if (o.housekeeping.empty()) return plan;
  for (const unsigned cpu : o.housekeeping) {
    if (topology.find(cpu) == nullptr) {
      return fail(0, "placement.housekeeping: there is no CPU " + std::to_string(cpu) +
                         " that this process may run on");
    }
    if (std::any_of(plan->shards.begin(), plan->shards.end(),
                    [&](const engine::ShardPlan& s) { return s.cpu == cpu; })) {
      plan->warnings.push_back("CPU " + std::to_string(cpu) +
                               " is in placement.housekeeping and polls, too: name the others in "
                               "placement.cpus");
    }
  }
  plan->housekeeping = o.housekeeping;
  return plan;
}

Result<void> check_node(const config::Options& o) {
  if (auto ok = check_idle(o); !ok) return ok;
  auto topology = engine::live_topology();
  if (!topology) return tl::unexpected(std::move(topology.error()));
  auto plan = plan_node(o, *topology);
  if (!plan) return tl::unexpected(std::move(plan.error()));
  auto hugepages = choose_hugepages(o, *plan);
  if (!hugepages) return tl::unexpected(std::move(hugepages.error()));
  return {};
}

Result<std::unique_ptr<NodeEngine>> NodeEngine::start(const config::Options& o) {
  if (auto ok = check_idle(o); !ok) return tl::unexpected(std::move(ok.error()));
  auto topology = engine::live_topology();
  if (!topology) return tl::unexpected(std::move(topology.error()));
  auto plan = plan_node(o, *topology);
  if (!plan) return tl::unexpected(std::move(plan.error()));
  std::unique_ptr<NodeEngine> node(new NodeEngine);
  node->plan_ = std::move(*plan);
  auto hugepages = choose_hugepages(o, node->plan_);
  if (!hugepages) return tl::unexpected(std::move(hugepages.error()));

  // Before EAL and from a thread that is not pinned: cold_lane.h.
  node->lane_ = std::make_unique<engine::ColdLane>(node->plan_.housekeeping);
  engine::stay_on(node->plan_.housekeeping);
  engine::LcoreOptions lcores;
  for (const engine::ShardPlan& s : node->plan_.shards) lcores.cpus.push_back(s.cpu);
  lcores.housekeeping_cpu = node->plan_.housekeeping.front();
  lcores.hugepages = *hugepages;
  lcores.memory_mib = static_cast<unsigned>(o.eal_memory_mib);
  lcores.telemetry = o.telemetry;
  lcores.file_prefix = eal_prefix(o);
  auto started = engine::Lcores::start(lcores);
  if (!started) return tl::unexpected(std::move(started.error()));
  node->lcores_ = std::move(*started);
  auto host =
      session::make_engine_guests(*node->lane_, node->plan_, engine::on_lcores(*node->lcores_),
                                  engine_of(o, std::move(*topology)));
  if (!host) return tl::unexpected(std::move(host.error()));
  node->host_ = std::move(*host);
  return node;
}

NodeEngine::~NodeEngine() = default;

std::string NodeEngine::cores() const {
  std::string out;
  for (const engine::ShardPlan& s : plan_.shards) {
    out += (out.empty() ? "" : ", ") + std::to_string(s.cpu);
  }
  return out;
}

}  // namespace faultline::daemon
