// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/vfio/loss_watch.h"

#include <gtest/gtest.h>

#include "kernel/vfio/full_rule.h"

namespace faultline::vfio {
namespace {

struct Enumeration {
  std::uint32_t spurious = 0;         ///< states reported full that are not
  std::uint32_t overwriting = 0;      ///< full states not reported
  std::uint32_t least = 0xffffffffU;  ///< records in the ring at the first full state
};

Enumeration enumerate(std::uint32_t entries, bool masked) {
  const FullRule rule(entries, masked);
  Enumeration e;
  for (std::uint32_t prod = 0; prod < entries; ++prod) {
    for (std::uint32_t cons = 0; cons < entries; ++cons) {
      const std::uint32_t held = (prod + entries - cons) % entries;
      const bool truly = held == entries - 1;
      if (rule.full(prod, cons)) {
        e.least = std::min(e.least, held);
        e.spurious += truly ? 0 : 1;
      } else {
        e.overwriting += truly ? 1 : 0;
      }
    }
  }
  return e;
}

TEST(VfioFullRule, IsThatOfV7InEveryStateOfAFourKilobyteRing) {
  const auto e = enumerate(85, true);
  EXPECT_EQ(e.spurious, 916U);  // of 7,225
  EXPECT_EQ(e.overwriting, 0U);
  EXPECT_EQ(e.least, 41U);
  EXPECT_EQ(FullRule(85, true).threshold(), 41U);
}

TEST(VfioFullRule, IsThatOfV7InEveryStateOfA64KilobyteRing) {
  const auto e = enumerate(1365, true);
  EXPECT_EQ(e.spurious, 64076U);
  EXPECT_EQ(e.overwriting, 0U);
  EXPECT_EQ(e.least, 681U);
  EXPECT_EQ(FullRule(1365, true).threshold(), 681U);
}

TEST(VfioFullRule, IsExactForPowersOfTwoAndWithoutTheMask) {
  for (const std::uint32_t entries : {2U, 64U, 128U}) {
    EXPECT_EQ(enumerate(entries, true).spurious, 0U) << entries;
    EXPECT_EQ(enumerate(entries, true).overwriting, 0U) << entries;
    EXPECT_EQ(FullRule(entries, true).threshold(), entries - 1);
  }
  EXPECT_EQ(enumerate(85, false).spurious, 0U);
  EXPECT_EQ(enumerate(85, false).overwriting, 0U);
  EXPECT_EQ(FullRule(85, false).threshold(), 84U);
}

TEST(VfioFullRule, HasTheLeastFillItSaysForEverySize) {
  for (std::uint32_t entries = 2; entries < 300; ++entries) {
    EXPECT_EQ(enumerate(entries, true).least, FullRule(entries, true).threshold()) << entries;
  }
}

TEST(VfioLossWatch, SaysNothingBelowTheThreshold) {
  FaultStats stats;
  LossWatch watch(85, true);
  for (std::uint64_t cons = 85; cons < 5000; cons += 20) {
    watch.replaced(cons, cons + 20, stats);
    watch.passed(cons + 20, cons + 40, stats);
  }
  EXPECT_FALSE(watch.any());
}

TEST(VfioLossWatch, ForgetsNothingWhenProdCannotBeRead) {
  FaultStats stats;
  LossWatch watch(85, true);
  for (std::uint64_t i = 0; i < 20; ++i) watch.replaced(85 + i, 110, stats);
  EXPECT_TRUE(watch.crowded());
  watch.passed(110, 112, stats);
  for (std::uint32_t slot = 25; slot <= 27; ++slot) EXPECT_TRUE(watch.take(slot));
}

TEST(VfioLossWatch, ReadsAForeignCookieAsNothingKnown) {
  FaultStats stats;
  LossWatch watch(85, true);
  watch.resume(0, 100, stats);
  watch.resume(86, 100, stats);  // an index outside of the ring
  EXPECT_FALSE(watch.any());
  watch.passed(100, 120, stats);
  EXPECT_FALSE(watch.any());
}

TEST(VfioLossWatch, TakesAnUncertainCookieForALossAnywhereUpToProd) {
  FaultStats stats;
  LossWatch watch(85, true);
  watch.resume(std::uint64_t{1} << 63U, 100, stats);
  watch.passed(100, 101, stats);
  EXPECT_TRUE(watch.take(15));
  EXPECT_TRUE(watch.take(16));
  EXPECT_FALSE(watch.any());
}

}  // namespace
}  // namespace faultline::vfio
