// SPDX-License-Identifier: BSD-3-Clause
#include <fmt/format.h>

#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "apps/faultline/session.h"

namespace faultline {
namespace {

double per_sync(const RunResult& r) {
  const std::uint64_t syncs = r.verdict.guests.syncs_completed;
  return syncs == 0 ? 0 : static_cast<double>(r.ioctls) / static_cast<double>(syncs);
}

double share(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

/// What merging did: nothing with the other policies, or with an engine in another process.
void print_merging(const merge::MergeCounters& m, const engine::CommandCounters& c) {
  if (m.operations == 0) return;
  fmt::print(
      "merging         {} operations - {} duplicates - {} joined = {} in {} submissions, "
      "{} host syncs, {} attaches\n",
      m.operations, m.duplicates, m.ranges_merged, m.planned, c.submissions, c.host_syncs,
      c.attaches);
  fmt::print(
      "                {} entries asked, x{:.3f} removed, LEAF kept {:.1f} %; widened: gap {}, "
      "leaf "
      "{}, asids {}, asid {}, all {}, size {}, deadline {}\n",
      m.entries_asked, share(m.entries_removed, m.entries_asked),
      100 * share(m.leaf_kept, m.leaf_asked), m.widened_gap, m.widened_leaf, m.widened_asids,
      m.widened_asid, m.widened_all, m.widened_size, m.widened_deadline);
  fmt::print("                {} lingers gained {} SYNCs; {} plans audited, {} wrong\n", m.lingers,
             m.linger_gains, m.audits, m.audit_failures);
}

nlohmann::ordered_json merging(const merge::MergeCounters& m, const engine::CommandCounters& c) {
  return {{"operations", m.operations},
          {"duplicates", m.duplicates},
          {"ranges_merged", m.ranges_merged},
          {"planned", m.planned},
          {"submissions", c.submissions},
          {"host_syncs", c.host_syncs},
          {"attaches", c.attaches},
          {"widened",
           {{"gap", m.widened_gap},
            {"leaf", m.widened_leaf},
            {"asids", m.widened_asids},
            {"asid", m.widened_asid},
            {"all", m.widened_all},
            {"size", m.widened_size},
            {"deadline", m.widened_deadline}}},
          {"entries_asked", m.entries_asked},
          {"entries_removed", m.entries_removed},
          {"leaf_asked", m.leaf_asked},
          {"leaf_kept", m.leaf_kept},
          {"lingers", m.lingers},
          {"linger_gains", m.linger_gains},
          {"audits", m.audits},
          {"audit_failures", m.audit_failures}};
}

nlohmann::ordered_json percentiles(const Histogram& h) {
  return {{"p50", h.percentile(0.5)},    {"p90", h.percentile(0.9)}, {"p99", h.percentile(0.99)},
          {"p999", h.percentile(0.999)}, {"max", h.max()},           {"count", h.count()}};
}

}  // namespace

bool print_verdict(const RunResult& r) {
  const guest::FaultCounts& f = r.verdict.faults;
  const guest::GuestCounters& g = r.verdict.guests;
  const auto spread = [](const char* name, const Histogram& h) {
    fmt::print("{}  p50 {}, p90 {}, p99 {}, p99.9 {}, max {} ({} samples)\n", name,
               duration(h.percentile(0.5)), duration(h.percentile(0.9)),
               duration(h.percentile(0.99)), duration(h.percentile(0.999)), duration(h.max()),
               h.count());
  };
  // iommufd negotiates no ABI.
  fmt::print("\n{:.1f} s, {}, {} polling shard{}\n", r.seconds,
             r.abi == 0 ? std::string("faults by vEVENTQ") : fmt::format("fault ABI {}", r.abi),
             r.shards, r.shards == 1 ? "" : "s");
  if (r.duties_moved != 0) fmt::print("{} moves of a duty to another shard\n", r.duties_moved);
  spread("fault to guest", r.fault_latency);
  spread("CMD_SYNC      ", r.sync_latency);
  fmt::print("commands        {} with {} CMD_SYNCs, {:.2f} outstanding when one is rung\n",
             g.commands, g.syncs, r.outstanding);
  fmt::print("ioctls          {}, {:.2f} per CMD_SYNC\n", r.ioctls, per_sync(r));
  print_merging(r.merge, r.commands);
  if (r.commands.submissions != 0) {
    fmt::print(
        "budgets         {} rounds cut by commands, {} by records; rounds behind a foreign "
        "submission: {} of commands, {} of faults\n",
        r.commands.commands_cut, r.events.records_cut, r.commands.foreign_waits,
        r.events.foreign_waits);
  }
  fmt::print("\naudit of the kernel's ledgers against what the guests saw\n");
  fmt::print("  faults    {} produced = {} delivered + {} lost and reported + {} lost in silence\n",
             f.produced, f.delivered, f.lost_reported, f.lost_silent);
  fmt::print(
      "            {} misdelivered, {} duplicated; {} found the kernel's queue full; "
      "{} overflows seen, {} interrupts\n",
      f.misdelivered, f.duplicated, f.dropped, g.overflows, g.interrupts);
  fmt::print(
      "  DMA       {} accesses, {} faulted; {} mappings changed, {} reconfigurations; "
      "{} stale, {} unexplained\n",
      g.dma, g.dma_faulted, g.changes, g.reconfigurations, g.dma_stale, g.dma_wrong);
  fmt::print("  CMD_SYNC  {} issued, {} completed\n", g.syncs, g.syncs_completed);
  for (const std::string& finding : r.verdict.findings) fmt::print("audit: {}\n", finding);
  fmt::print("audit: {}\n", r.verdict.clean() ? "clean" : "FAILED");
  std::fflush(stdout);
  return r.verdict.clean();
}

std::string result_json(const RunOptions& options, const RunResult& r) {
  const guest::FaultCounts& f = r.verdict.faults;
  const guest::GuestCounters& g = r.verdict.guests;
  const nlohmann::ordered_json json = {
      {"seconds", std::round(r.seconds * 1000) / 1000},
      {"policy", options.policy},
      {"abi", r.abi},
      {"guests", options.guests},
      {"devices", options.devices},
      {"shards", r.shards},
      {"duties_moved", r.duties_moved},
      {"faults",
       {{"produced", f.produced},
        {"delivered", f.delivered},
        {"lost_reported", f.lost_reported},
        {"lost_silent", f.lost_silent},
        {"misdelivered", f.misdelivered},
        {"duplicated", f.duplicated}}},
      {"commands", g.commands},
      {"syncs", g.syncs},
      {"syncs_completed", g.syncs_completed},
      {"ioctls", r.ioctls},
      {"ioctls_per_sync", std::round(per_sync(r) * 1000) / 1000},
      {"merge", merging(r.merge, r.commands)},
      {"budgets",
       {{"commands_cut", r.commands.commands_cut},
        {"records_cut", r.events.records_cut},
        {"command_foreign_waits", r.commands.foreign_waits},
        {"fault_foreign_waits", r.events.foreign_waits}}},
      {"stale_dma", g.dma_stale},
      {"latency_ns",
       {{"fault", percentiles(r.fault_latency)}, {"sync", percentiles(r.sync_latency)}}},
  };
  return json.dump(2) + '\n';
}

}  // namespace faultline
