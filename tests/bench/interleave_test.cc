// SPDX-License-Identifier: BSD-3-Clause
#include "bench/support/interleave.h"

#include <gtest/gtest.h>

#include <string>

namespace faultline::bench {
namespace {

TEST(Spread, OfNothingIsZero) {
  EXPECT_EQ(spread_of({}).median, 0);
  EXPECT_EQ(spread_of({}).max, 0);
}

TEST(Spread, MedianIsTheMiddleOrTheMeanOfTheTwoInIt) {
  EXPECT_EQ(spread_of({5, 1, 3}).median, 3);
  EXPECT_EQ(spread_of({4, 1, 3, 100}).median, 3.5);
  EXPECT_EQ(spread_of({4, 1, 3, 100}).min, 1);
  EXPECT_EQ(spread_of({4, 1, 3, 100}).max, 100);
}

TEST(Interleave, TakesTurnsAndLetsTheOtherGoFirstEveryTime) {
  std::string order;
  const auto run = [&](char who) {
    order += who;
    return 1.0;
  };
  interleave(
      3, [&] { return run('a'); }, [&] { return run('b'); });
  EXPECT_EQ(order, "abbaab");
}

TEST(Interleave, RatiosAreOfTheSameRoundSoThatSlowRoundsCancel) {
  int a = 0, b = 0;
  const double slow[] = {1, 10, 1};
  const Interleaved pair = interleave(
      3, [&] { return 2 * slow[a++]; }, [&] { return slow[b++]; });
  EXPECT_EQ(pair.ratio.min, 0.5);
  EXPECT_EQ(pair.ratio.max, 0.5);
  EXPECT_EQ(pair.baseline.max, 20);
  EXPECT_EQ(pair.rounds, 3U);
}

}  // namespace
}  // namespace faultline::bench
