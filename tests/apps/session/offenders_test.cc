// SPDX-License-Identifier: BSD-3-Clause
#include "apps/session/offenders.h"

#include <gtest/gtest.h>

namespace faultline::session {
namespace {

constexpr Nanos kSecond = 1'000'000'000;
constexpr Nanos kStart = 1000 * kSecond;

TEST(Offenders, AreAsideForAMinute) {
  Offenders offenders;
  EXPECT_FALSE(offenders.aside(7));
  offenders.put_aside(7, kStart);
  EXPECT_TRUE(offenders.aside(7));
  EXPECT_FALSE(offenders.aside(8));
  EXPECT_EQ(offenders.seconds_left(7, kStart), 60U);
  EXPECT_EQ(offenders.seconds_left(7, kStart + 1), 60U);
  EXPECT_EQ(offenders.seconds_left(7, kStart + 59 * kSecond), 1U);
  offenders.expire(kStart + Offenders::kAside - 1);
  EXPECT_TRUE(offenders.aside(7));
  offenders.expire(kStart + Offenders::kAside);
  EXPECT_FALSE(offenders.aside(7));
}

TEST(Offenders, WhoDoesItAgainStaysLonger) {
  Offenders offenders;
  offenders.put_aside(7, kStart);
  offenders.put_aside(8, kStart);
  offenders.put_aside(7, kStart + 30 * kSecond);
  offenders.expire(kStart + Offenders::kAside);
  EXPECT_TRUE(offenders.aside(7));
  EXPECT_FALSE(offenders.aside(8));
}

TEST(Offenders, StayUntilTheyAreLetGo) {
  Offenders offenders;
  offenders.put_aside(7, kStart);
  EXPECT_TRUE(offenders.aside(7));
  EXPECT_EQ(offenders.seconds_left(7, kStart + 2 * Offenders::kAside), 1U);
}

}  // namespace
}  // namespace faultline::session
