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
  fmt::print("\n{:.1f} s, fault ABI {}, {} polling shard{}\n", r.seconds, r.abi, r.shards,
             r.shards == 1 ? "" : "s");
  spread("fault to guest", r.fault_latency);
  spread("CMD_SYNC      ", r.sync_latency);
  fmt::print("commands        {} with {} CMD_SYNCs, {:.2f} outstanding when one is rung\n",
             g.commands, g.syncs, r.outstanding);
  fmt::print("ioctls          {}, {:.2f} per CMD_SYNC\n", r.ioctls, per_sync(r));
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
      {"stale_dma", g.dma_stale},
      {"latency_ns",
       {{"fault", percentiles(r.fault_latency)}, {"sync", percentiles(r.sync_latency)}}},
  };
  return json.dump(2) + '\n';
}

}  // namespace faultline
