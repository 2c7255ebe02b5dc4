// SPDX-License-Identifier: BSD-3-Clause
#include <string_view>

#include "apps/metrics/table.h"

namespace faultline::metrics {
namespace {

struct Part {
  std::string_view label;  ///< first one of its metrics; empty: they have none
  std::string_view title;
  std::string_view about;
};

constexpr Part kParts[] = {
    {"", "Service", "One value of each."},
    {"shard", "Shards", "One value for each polling core, by number and CPU."},
    {"guest", "Guests", "One value for each guest that the service has."},
    {"device", "Devices",
     "One value for each device of each guest. Every record polled is in one "
     "of delivered, discarded, dropped_full, untranslatable, pages_folded and "
     "pages_retried."},
};

/// A device's name stands behind its guest's.
std::string part_of(const Metric& metric) {
  if (metric.labels.empty()) return "";
  return metric.labels.back() == "device" ? metric.labels.back() : metric.labels.front();
}

std::string row(const Metric& metric) {
  const char* type = metric.type == MetricType::kCounter ? "counter"
                     : metric.type == MetricType::kGauge ? "gauge"
                                                         : "histogram";
  std::string labels;
  for (const std::string& label : metric.labels) labels += (labels.empty() ? "" : ", ") + label;
  return "| `" + metric.name + "` | " + type + " | " + metric.unit + " | " + labels + " | " +
         metric.help + " |\n";
}

}  // namespace

std::string metrics_markdown() {
  std::string out;
  for (const Part& part : kParts) {
    out += std::string(out.empty() ? "" : "\n") + "### " + std::string(part.title) + "\n\n" +
           std::string(part.about) +
           "\n\n| metric | type | unit | labels | meaning |\n|---|---|---|---|---|\n";
    for (const Metric& metric : metric_table()) {
      if (part_of(metric) == part.label) out += row(metric);
    }
  }
  return out;
}

}  // namespace faultline::metrics
