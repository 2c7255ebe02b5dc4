// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

#include "kernel/base/histogram.h"

namespace faultline {

/// A histogram as HdrHistogram's percentile text (.hgrm), which its plotters read: one line for
/// each bucket that holds something, then mean, deviation, maximum and count.
///
/// scale    what a recorded value is divided by: 1000 prints ns as µs
/// returns  columns Value, Percentile, TotalCount, 1/(1-Percentile); of an empty histogram the head
///          and the tail alone. Values are upper ends of buckets, the last one is max()
/// source   HdrHistogram, AbstractHistogram.outputPercentileDistribution()
inline std::string hgrm(const Histogram& histogram, double scale = 1.0) {
  std::string out = "       Value     Percentile TotalCount 1/(1-Percentile)\n\n";
  char line[160];
  const auto total = static_cast<double>(histogram.count());
  const double mean = histogram.mean();
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < Histogram::kBuckets; ++i) {
    const std::uint64_t here = histogram.in_bucket(i);
    if (here == 0) continue;
    seen += here;
    const double fraction = static_cast<double>(seen) / total;
    const double value = static_cast<double>(histogram.value_of(i)) / scale;
    if (fraction < 1.0) {
      std::snprintf(line, sizeof line, "%12.3f %2.12f %10llu %14.2f\n", value, fraction,
                    static_cast<unsigned long long>(seen), 1.0 / (1.0 - fraction));
    } else {
      std::snprintf(line, sizeof line, "%12.3f %2.12f %10llu\n", value, fraction,
                    static_cast<unsigned long long>(seen));
    }
    out += line;
  }
  std::snprintf(line, sizeof line,
                "#[Mean    = %12.3f, StdDeviation   = %12.3f]\n"
                "#[Max     = %12.3f, Total count    = %12llu]\n",
                mean / scale, histogram.deviation() / scale,
                static_cast<double>(histogram.max()) / scale,
                static_cast<unsigned long long>(histogram.count()));
  out += line;
  std::snprintf(line, sizeof line, "#[Buckets = %12u, SubBuckets     = %12u]\n",
                Histogram::kMaxBits - Histogram::kSubBits + 1, 1U << Histogram::kSubBits);
  return out + line;
}

}  // namespace faultline
