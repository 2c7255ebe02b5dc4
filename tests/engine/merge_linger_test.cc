// SPDX-License-Identifier: BSD-3-Clause
#include "engine/merge/linger.h"

#include <gtest/gtest.h>

#include "tests/engine/merge_operations.h"

namespace faultline::merge {
namespace {

using namespace operations;

TEST(Linger, LastsAQuarterOfASubmissionAfterTwoSyncs) {
  MergeCounters counters;
  Linger linger(LingerMode::kOn);
  linger.submitted(4'000);
  linger.released(1, 0, 10'000, counters);
  EXPECT_FALSE(linger.waiting(1, 10'000)) << "one owner has nobody to wait for";
  linger.released(2, 1, 10'000, counters);
  EXPECT_TRUE(linger.waiting(1, 10'999));
  EXPECT_FALSE(linger.waiting(1, 11'000));
  EXPECT_EQ(counters.lingers, 1U);
}

TEST(Linger, EndsWhenAllThatCouldComeHaveCome) {
  MergeCounters counters;
  Linger linger(LingerMode::kOn);
  linger.submitted(4'000);
  linger.released(2, 1, 0, counters);
  EXPECT_TRUE(linger.waiting(2, 100));
  EXPECT_FALSE(linger.waiting(3, 100));
}

TEST(Linger, CountsTheSyncsThatCameBecauseItWaited) {
  MergeCounters counters;
  Linger linger(LingerMode::kOn);
  linger.submitted(4'000);
  linger.released(3, 1, 0, counters);
  linger.sync(2, 500);
  linger.sync(3, 600);
  linger.over(3, counters);
  EXPECT_EQ(counters.linger_gains, 2U);
  linger.released(3, 0, 10'000, counters);
  linger.sync(1, 10'500);
  linger.sync(2, 10'500);
  linger.over(2, counters);
  EXPECT_EQ(counters.linger_gains, 2U) << "those of one moment would have gone together anyway";
}

TEST(Linger, AutoGivesUpWhatGainsNothingAndTriesAgainLater) {
  MergeCounters counters;
  Linger linger(LingerMode::kAuto);
  linger.submitted(4'000);
  for (int i = 0; i < 70; ++i) {
    linger.released(2, 0, 10'000, counters);
    linger.over(0, counters);
  }
  const std::uint64_t given_up = counters.lingers;
  EXPECT_LT(given_up, 20U);
  for (int i = 0; i < 64; ++i) {
    linger.released(2, 0, 10'000, counters);
    linger.over(0, counters);
  }
  EXPECT_GT(counters.lingers, given_up);
}

TEST(Linger, AutoGivesUpWhenNothingComesAtAll) {
  MergeCounters counters;
  Linger linger(LingerMode::kAuto);
  linger.submitted(4'000);
  for (Nanos now = 0; now < 60'000'000; now += 1'000'000) linger.released(2, 0, now, counters);
  EXPECT_LT(counters.lingers, 20U);
}

TEST(Linger, OffNeverWaits) {
  MergeCounters counters;
  Linger linger(LingerMode::kOff);
  linger.submitted(4'000);
  linger.released(8, 0, 10'000, counters);
  EXPECT_FALSE(linger.waiting(0, 10'000));
  EXPECT_EQ(counters.lingers, 0U);
}

TEST(Linger, HoldsASubmissionBackUntilTheOwnersReturn) {
  MergeSetup s = setup(array_sink());
  s.options.linger = LingerMode::kOn;
  Merge policy(s);
  policy.add(va(1), 0, 0);
  policy.add_sync(1, 0);
  policy.add(va(3), 2, 0);
  policy.add_sync(3, 0);
  submit(policy, 0, 8'000);
  policy.released(2, 8'000);
  policy.add(va(5), 4, 8'100);
  policy.add_sync(5, 8'100);
  EXPECT_FALSE(policy.due(8'100)) << "the other owner may come";
  EXPECT_TRUE(policy.due(10'000)) << "but is not waited for longer than a quarter";
  policy.add(va(7), 6, 8'200);
  policy.add_sync(7, 8'200);
  EXPECT_TRUE(policy.due(8'200)) << "it came";
  EXPECT_EQ(submit(policy, 8'200, 8'000).size(), 2U);
  EXPECT_EQ(policy.counters().linger_gains, 1U);
}

}  // namespace
}  // namespace faultline::merge
