// SPDX-License-Identifier: BSD-3-Clause
// hot path: record() is one index computation and two relaxed stores.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "kernel/base/shared.h"

namespace faultline {

/// A log-linear histogram of durations: 32 buckets per power of two, so that a percentile is at
/// most 1/32 (3.1 %) above the true value.
///
/// value   ns (or any unit), 0 .. 2^42; larger ones fall into the last bucket, max() stays exact
/// thread  record: one writer. Reading from another thread is allowed at any time and sees each
///         counter whole; percentiles of a histogram being written are of some recent moment
/// memory  about 10 KiB, no allocation
class Histogram {
 public:
  static constexpr unsigned kSubBits = 5;
  static constexpr unsigned kMaxBits = 42;
  static constexpr std::size_t kBuckets = (kMaxBits - kSubBits + 1) << kSubBits;

  void record(std::uint64_t value) noexcept {
    std::uint64_t& bucket = counts_[index_of(value)];
    store_relaxed(bucket, load_relaxed(bucket) + 1);
    if (value > load_relaxed(max_)) store_relaxed(max_, value);
  }

  [[nodiscard]] std::uint64_t count() const noexcept {
    std::uint64_t sum = 0;
    for (const std::uint64_t& c : counts_) sum += load_relaxed(c);
    return sum;
  }

  [[nodiscard]] std::uint64_t max() const noexcept { return load_relaxed(max_); }

  /// The smallest value v such that at least `fraction` of all samples are <= v, rounded up to the
  /// end of its bucket (but never above max()).
  ///
  /// fraction  0 < fraction <= 1, e.g. 0.999
  /// returns   0 when there are no samples
  [[nodiscard]] std::uint64_t percentile(double fraction) const noexcept {
    const std::uint64_t total = count();
    if (total == 0) return 0;
    const auto exact = static_cast<double>(total) * fraction;
    auto rank = static_cast<std::uint64_t>(exact);
    if (static_cast<double>(rank) < exact) ++rank;
    rank = std::clamp<std::uint64_t>(rank, 1, total);
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < kBuckets; ++i) {
      seen += load_relaxed(counts_[i]);
      if (seen >= rank) return value_of(i);
    }
    return max();
  }

  /// Samples in bucket i, and the value that stands for them: its upper end, never above max().
  [[nodiscard]] std::uint64_t in_bucket(std::size_t i) const noexcept {
    return load_relaxed(counts_[i]);
  }
  [[nodiscard]] std::uint64_t value_of(std::size_t i) const noexcept {
    return i + 1 == kBuckets ? max() : std::min(upper_of(i), max());
  }

  /// Mean and standard deviation of the values that stand for the samples; 0 without samples.
  [[nodiscard]] double mean() const noexcept {
    double sum = 0, n = 0;
    for (std::size_t i = 0; i < kBuckets; ++i) {
      const auto here = static_cast<double>(in_bucket(i));
      n += here;
      sum += here * static_cast<double>(value_of(i));
    }
    return n > 0 ? sum / n : 0;
  }
  [[nodiscard]] double deviation() const noexcept {
    const double middle = mean();
    double sum = 0, n = 0;
    for (std::size_t i = 0; i < kBuckets; ++i) {
      const auto here = static_cast<double>(in_bucket(i));
      const double off = static_cast<double>(value_of(i)) - middle;
      n += here;
      sum += here * off * off;
    }
    return n > 0 ? std::sqrt(sum / n) : 0;
  }

  /// Add samples known only by their bucket, and the largest value of all. thread: the writer
  void add(std::size_t bucket, std::uint64_t samples, std::uint64_t largest) noexcept {
    store_relaxed(counts_[bucket], load_relaxed(counts_[bucket]) + samples);
    store_relaxed(max_, std::max(max(), largest));
  }

  /// Add another one's samples to this one. thread: the writer of this one
  void merge(const Histogram& other) noexcept {
    for (std::size_t i = 0; i < kBuckets; ++i) {
      store_relaxed(counts_[i], load_relaxed(counts_[i]) + load_relaxed(other.counts_[i]));
    }
    store_relaxed(max_, std::max(max(), other.max()));
  }

  static constexpr std::size_t index_of(std::uint64_t value) noexcept {
    if (value < (1U << kSubBits)) return static_cast<std::size_t>(value);
    const auto top = static_cast<unsigned>(std::bit_width(value)) - 1;
    if (top >= kMaxBits) return kBuckets - 1;
    const unsigned shift = top - kSubBits;
    const auto sub = static_cast<std::size_t>(value >> shift) - (1U << kSubBits);
    return ((shift + 1U) << kSubBits) + sub;
  }

  /// The largest value that falls into bucket i.
  static constexpr std::uint64_t upper_of(std::size_t i) noexcept {
    if (i < (1U << kSubBits)) return i;
    const auto shift = static_cast<unsigned>((i >> kSubBits) - 1);
    const std::uint64_t sub = (i & ((1U << kSubBits) - 1)) + (1U << kSubBits);
    return ((sub + 1) << shift) - 1;
  }

 private:
  std::array<std::uint64_t, kBuckets> counts_{};
  std::uint64_t max_ = 0;
};

}  // namespace faultline
