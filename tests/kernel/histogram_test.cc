// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/base/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <vector>

namespace faultline {
namespace {

TEST(Histogram, SaysNothingWhenEmpty) {
  const auto h = std::make_unique<Histogram>();
  EXPECT_EQ(h->count(), 0U);
  EXPECT_EQ(h->percentile(0.5), 0U);
  EXPECT_EQ(h->max(), 0U);
}

TEST(Histogram, PercentilesOfOneToHundredAreTheHandComputedOnes) {
  const auto h = std::make_unique<Histogram>();
  for (std::uint64_t v = 1; v <= 100; ++v) h->record(v);
  // Up to 63 each value has its bucket; from 64 on they are two wide: rank 98 falls into 98..99.
  EXPECT_EQ(h->percentile(0.25), 25U);
  EXPECT_EQ(h->percentile(0.50), 50U);
  EXPECT_EQ(h->percentile(0.98), 99U);
  EXPECT_EQ(h->percentile(0.99), 99U);
  EXPECT_EQ(h->percentile(1.00), 100U);
  EXPECT_EQ(h->percentile(0.001), 1U);
}

TEST(Histogram, BucketsTileTheRangeWithoutGapsOrOverlaps) {
  std::uint64_t next = 0;
  for (std::size_t i = 0; i + 1 < Histogram::kBuckets; ++i) {
    ASSERT_EQ(Histogram::index_of(next), i);
    const std::uint64_t upper = Histogram::upper_of(i);
    ASSERT_GE(upper, next);
    ASSERT_EQ(Histogram::index_of(upper), i);
    next = upper + 1;
  }
}

TEST(Histogram, IsNeverMoreThanOneBucketAboveTheSortedTruth) {
  std::mt19937_64 random(7);
  const auto h = std::make_unique<Histogram>();
  std::vector<std::uint64_t> all;
  for (int i = 0; i < 20'000; ++i) {
    const std::uint64_t v = random() >> (24 + random() % 38);
    all.push_back(v);
    h->record(v);
  }
  std::sort(all.begin(), all.end());
  for (const double p : {0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 1.0}) {
    const auto rank = static_cast<std::size_t>(std::ceil(p * static_cast<double>(all.size())));
    const std::uint64_t truth = all[rank - 1];
    EXPECT_GE(h->percentile(p), truth);
    EXPECT_LE(static_cast<double>(h->percentile(p)), static_cast<double>(truth) * (33.0 / 32) + 1);
  }
  EXPECT_EQ(h->max(), all.back());
}

TEST(Histogram, ValuesBeyondTheRangeKeepTheExactMaximum) {
  const auto h = std::make_unique<Histogram>();
  h->record(~std::uint64_t{0});
  EXPECT_EQ(h->percentile(1.0), ~std::uint64_t{0});
}

TEST(Histogram, MergingEqualsRecordingAllInOne) {
  const auto a = std::make_unique<Histogram>();
  const auto b = std::make_unique<Histogram>();
  const auto both = std::make_unique<Histogram>();
  for (std::uint64_t v = 0; v < 5000; v += 3) {
    (v % 2 == 0 ? *a : *b).record(v * v);
    both->record(v * v);
  }
  a->merge(*b);
  EXPECT_EQ(a->count(), both->count());
  for (const double p : {0.1, 0.5, 0.99, 1.0}) EXPECT_EQ(a->percentile(p), both->percentile(p));
}

}  // namespace
}  // namespace faultline
