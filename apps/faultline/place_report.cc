// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/place_report.h"

#include <fmt/format.h>

#include <iterator>
#include <nlohmann/json.hpp>

namespace faultline {
namespace {

using engine::Rejected;
using nlohmann::ordered_json;

std::string rejected_text(const std::vector<Rejected>& rejected) {
  std::string out;
  for (const Rejected& r : rejected) {
    fmt::format_to(std::back_inserter(out), "           not CPU {:<4} {:+}: {}\n", r.cpu,
                   r.cost_more, r.reason);
  }
  return out;
}

ordered_json rejected_json(const std::vector<Rejected>& rejected) {
  ordered_json out = ordered_json::array();
  for (const Rejected& r : rejected) {
    out.push_back({{"cpu", r.cpu}, {"cost_more", r.cost_more}, {"reason", r.reason}});
  }
  return out;
}

}  // namespace

std::string cpu_list(const std::vector<unsigned>& cpus) {
  std::string out;
  for (std::size_t i = 0; i < cpus.size();) {
    std::size_t end = i + 1;
    while (end < cpus.size() && cpus[end] == cpus[end - 1] + 1) ++end;
    if (!out.empty()) out += ',';
    out += std::to_string(cpus[i]);
    if (end - i > 1) out += '-' + std::to_string(cpus[end - 1]);
    i = end;
  }
  return out;
}

std::string plan_text(const engine::Topology& topology, const engine::Plan& plan) {
  std::string out;
  const auto put = std::back_inserter(out);
  fmt::format_to(put, "topology   {}: {} CPUs, {} node{}\n", topology.source, topology.cpus.size(),
                 topology.nodes().size(), topology.nodes().size() == 1 ? "" : "s");
  fmt::format_to(put, "node       {}: {}\n", plan.node, plan.node_reason);
  for (std::size_t i = 0; i < plan.shards.size(); ++i) {
    const engine::ShardPlan& shard = plan.shards[i];
    fmt::format_to(put, "shard {:<4} CPU {:<4} load {:<3} {}{}\n", i, shard.cpu, shard.load,
                   shard.reason, shard.shared ? ", shared with another shard" : "");
    out += rejected_text(shard.rejected);
  }
  for (const engine::GuestPlan& guest : plan.guests) {
    fmt::format_to(put, "guest      {}: {}\n", guest.name, guest.reason);
    fmt::format_to(put, "  events   on shard {}, CPU {}\n", guest.event_shard,
                   plan.shards[guest.event_shard].cpu);
    out += rejected_text(guest.event_rejected);
    fmt::format_to(put, "  commands on shard {}, CPU {}\n", guest.command_shard,
                   plan.shards[guest.command_shard].cpu);
    out += rejected_text(guest.command_rejected);
  }
  fmt::format_to(put, "housekeeping on CPUs {}", cpu_list(plan.housekeeping));
  if (!plan.quiet.empty()) fmt::format_to(put, "; to be left idle: {}", cpu_list(plan.quiet));
  fmt::format_to(put, "\ncost       {}\n", plan.cost);
  for (const std::string& warning : plan.warnings) fmt::format_to(put, "warning: {}\n", warning);
  return out;
}

std::string plan_json(const engine::Topology& topology, const engine::Plan& plan) {
  ordered_json out;
  out["topology"] = topology.source;
  out["node"] = {{"index", plan.node}, {"reason", plan.node_reason}};
  out["shards"] = ordered_json::array();
  for (const engine::ShardPlan& shard : plan.shards) {
    out["shards"].push_back({{"cpu", shard.cpu},
                             {"load", shard.load},
                             {"isolated", shard.isolated},
                             {"shared", shard.shared},
                             {"reason", shard.reason},
                             {"rejected", rejected_json(shard.rejected)}});
  }
  out["guests"] = ordered_json::array();
  for (const engine::GuestPlan& guest : plan.guests) {
    out["guests"].push_back(
        {{"name", guest.name},
         {"reason", guest.reason},
         {"events",
          {{"shard", guest.event_shard}, {"rejected", rejected_json(guest.event_rejected)}}},
         {"commands",
          {{"shard", guest.command_shard}, {"rejected", rejected_json(guest.command_rejected)}}}});
  }
  out["housekeeping"] = plan.housekeeping;
  out["quiet"] = plan.quiet;
  out["cost"] = plan.cost;
  out["warnings"] = plan.warnings;
  return out.dump(2) + "\n";
}

}  // namespace faultline
