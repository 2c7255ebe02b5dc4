// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "apps/metrics/moment.h"

namespace faultline::metrics {

enum class MetricType { kCounter, kGauge, kHistogram };

/// One value of a metric. Of a histogram only `histogram` counts, in ns, else only `value`.
struct Sample {
  std::vector<std::string> labels;  ///< values, in the order of Metric::labels
  double value = 0;
  const Histogram* histogram = nullptr;  ///< lives as long as the moment
};

/// One metric, as every way out shows it.
struct Metric {
  std::string name;  ///< faultline_*, base units, a counter ends with _total
  std::string help;
  std::string unit;  ///< "seconds", "cycles", "ratio", "1"
  MetricType type = MetricType::kCounter;
  std::vector<std::string> labels;
  std::function<std::vector<Sample>(const Moment&)> read;
};

/// All of them. thread: any
const std::vector<Metric>& metric_table();

/// The page of all of them, in doc/metrics.md: tables of Markdown.
std::string metrics_markdown();

/// Prometheus' text format, version 0.0.4. Latencies are in seconds.
std::string to_prometheus(const Moment& moment);

}  // namespace faultline::metrics
