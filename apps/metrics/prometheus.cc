// SPDX-License-Identifier: BSD-3-Clause
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <limits>

#include "apps/metrics/table.h"

namespace faultline::metrics {
namespace {

/// Bounds at every power of two from 256 ns to 2^36 ns (69 s): ends of buckets of ours, so exact.
constexpr unsigned kFirstBit = 8;
constexpr unsigned kLastBit = 36;

prometheus::ClientMetric::Histogram histogram(const Histogram& h) {
  prometheus::ClientMetric::Histogram out;
  std::uint64_t seen = 0;
  std::size_t i = 0;
  double sum = 0;
  const auto take = [&] {
    const std::uint64_t n = h.in_bucket(i);
    seen += n;
    if (n != 0) sum += static_cast<double>(n) * static_cast<double>(h.value_of(i)) / 1e9;
    ++i;
  };
  for (unsigned bit = kFirstBit; bit <= kLastBit; ++bit) {
    const std::uint64_t end = std::uint64_t{1} << bit;
    while (i < Histogram::kBuckets && Histogram::upper_of(i) < end) take();
    out.bucket.push_back({seen, static_cast<double>(end) / 1e9});
  }
  while (i < Histogram::kBuckets) take();
  out.bucket.push_back({seen, std::numeric_limits<double>::infinity()});
  out.sample_count = seen;
  out.sample_sum = sum;
  return out;
}

}  // namespace

std::string to_prometheus(const Moment& moment) {
  std::vector<prometheus::MetricFamily> families;
  for (const Metric& metric : metric_table()) {
    prometheus::MetricFamily family;
    family.name = metric.name;
    family.help = metric.help;
    family.type = metric.type == MetricType::kCounter ? prometheus::MetricType::Counter
                  : metric.type == MetricType::kGauge ? prometheus::MetricType::Gauge
                                                      : prometheus::MetricType::Histogram;
    for (const Sample& sample : metric.read(moment)) {
      prometheus::ClientMetric& m = family.metric.emplace_back();
      for (std::size_t i = 0; i < sample.labels.size(); ++i) {
        m.label.push_back({metric.labels[i], sample.labels[i]});
      }
      if (sample.histogram != nullptr) m.histogram = histogram(*sample.histogram);
      m.counter.value = m.gauge.value = sample.value;
    }
    families.push_back(std::move(family));
  }
  return prometheus::TextSerializer{}.Serialize(families);
}

}  // namespace faultline::metrics
