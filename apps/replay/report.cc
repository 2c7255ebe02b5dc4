// SPDX-License-Identifier: BSD-3-Clause
#include "apps/replay/report.h"

#include <cmath>
#include <nlohmann/json.hpp>

namespace faultline {
namespace {

double ratio(std::uint64_t part, std::uint64_t whole, double of_nothing) noexcept {
  return whole == 0 ? of_nothing : static_cast<double>(part) / static_cast<double>(whole);
}

double digits(double value, double scale) noexcept {
  return std::round(value * scale) / scale;
}

}  // namespace

double ReplayReport::over_invalidation() const noexcept {
  return ratio(entries_removed, entries_asked, 1);
}

double ReplayReport::mean_outstanding_syncs() const noexcept {
  return ratio(outstanding_sum, syncs, 0);
}

double ReplayReport::ioctls_per_sync() const noexcept {
  return ratio(ioctls, syncs, 0);
}

double ReplayReport::limit_ioctls_per_sync() const noexcept {
  return ratio(busiest_syncs, syncs, 0);
}

std::string to_json(const ReplayReport& r) {
  const Histogram& h = r.sync_latency;
  nlohmann::ordered_json json = {
      {"commands", r.commands},
      {"syncs", r.syncs},
      {"ioctls", r.ioctls},
      {"operations", r.operations},
      {"host_syncs", r.host_syncs},
      {"attaches", r.attaches},
      {"over_invalidation", digits(r.over_invalidation(), 1e6)},
      {"mean_outstanding_syncs", digits(r.mean_outstanding_syncs(), 1e6)},
      {"limit_ioctls_per_sync", digits(r.limit_ioctls_per_sync(), 1e6)},
      {"sync_latency_ns",
       {{"p50", h.percentile(0.5)},
        {"p90", h.percentile(0.9)},
        {"p99", h.percentile(0.99)},
        {"p999", h.percentile(0.999)},
        {"max", h.max()},
        {"count", h.count()}}},
      {"engine_ns_per_command", nullptr},
      {"seconds", digits(r.seconds, 1e9)},
  };
  if (r.engine_ns_per_command) {
    json["engine_ns_per_command"] = digits(*r.engine_ns_per_command, 1e2);
  }
  return json.dump(2) + '\n';
}

}  // namespace faultline
