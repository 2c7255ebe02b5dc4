// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace faultline::bench {

/// Median, least and greatest of one figure over several rounds. Empty: all 0.
struct Spread {
  double median = 0, min = 0, max = 0;
};

inline Spread spread_of(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size();
  const double middle = n % 2 != 0 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
  return {middle, values.front(), values.back()};
}

/// Baseline and subject measured in turn, so that whatever disturbs the machine meets both.
///
/// ratio   subject / baseline of the same round, so that slow rounds cancel
struct Interleaved {
  Spread baseline, subject, ratio;
  std::size_t rounds = 0;
};

/// Run both `rounds` times, in turn; who goes first alternates.
///
/// baseline, subject   () → double, the figure of one run; a baseline of 0 gives no ratio
template <class A, class B>
Interleaved interleave(std::size_t rounds, A baseline, B subject) {
  std::vector<double> a, b, ratio;
  for (std::size_t i = 0; i < rounds; ++i) {
    if (i % 2 == 0) {
      a.push_back(baseline());
      b.push_back(subject());
    } else {
      b.push_back(subject());
      a.push_back(baseline());
    }
    if (a.back() > 0) ratio.push_back(b.back() / a.back());
  }
  return {spread_of(a), spread_of(b), spread_of(ratio), rounds};
}

}  // namespace faultline::bench
