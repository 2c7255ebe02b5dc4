// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/model/fl_atc.h"

#include <gtest/gtest.h>

#include "kernel/model/fl_iommu.h"
#include "tests/support/model_world.h"

namespace faultline::test {
namespace {

/// A device with an ATC: page 0x1000 and block 0x200000 for substreams 1, 2 and for none.
class ModelAtc : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kOld = 0x700000, kNew = 0x900000;
  static constexpr std::uint64_t kPageVa = 0x1000, kBlockVa = 0x200000;

  ModelAtc() {
    world.map_ram();
    fl_atc_init(&atc, entries.data(), entries.size());
    world.stream.atc = &atc;
    for (std::uint16_t i = 0; i < 3; ++i) {
      cd.at(i) = world.simple_cd(i);
      world.write_cd(ModelWorld::kCd + 64 * i, cd.at(i));
    }
    world.attach({.base_ptr = ModelWorld::kCd,
                  .mode = FL_S1_TRANSLATE,
                  .s1fmt = 0,
                  .s1dss = FL_S1_DSS_CD0,
                  .s1cdmax = 2});
    point_at(kOld);
    for (const auto& who : everyone())
      for (const auto va : {kPageVa, kBlockVa}) EXPECT_TRUE(world.reach(va, who));
    point_at(kNew);
    fl_inv_tlb_all(&world.iommu);
  }

  static std::array<std::optional<std::uint32_t>, 3> everyone() { return {std::nullopt, 1U, 2U}; }

  void point_at(std::uint64_t ipa) {
    for (auto& c : cd) {
      world.put(c.regime.half[0], kPageVa, 3, ipa | kPage);
      world.put(c.regime.half[0], kBlockVa, 2, (ipa << 4U & ~0x1fffffULL) | kBlock);
    }
  }

  bool stale(std::optional<std::uint32_t> ssid, std::uint64_t va) {
    return fl_atc_find(&atc, ssid.has_value(), ssid.value_or(0), false, va) != nullptr;
  }
  /// How many of the six translations are still there.
  int left() {
    int n = 0;
    for (const auto& who : everyone())
      for (const auto va : {kPageVa, kBlockVa}) n += stale(who, va) ? 1 : 0;
    return n;
  }

  ModelWorld world;
  std::array<fl_atc_entry, 16> entries{};
  fl_atc atc{};
  std::array<CdFields, 3> cd;
};

TEST_F(ModelAtc, KeepsItsAnswersWhateverHappensToTheTlb) {
  EXPECT_EQ(6, left());
  EXPECT_EQ(kOld, world.reach(kPageVa, 1));
  EXPECT_TRUE(world.result.from_atc);
  fl_inv_config_all(&world.iommu);
  EXPECT_EQ(kOld, world.reach(kPageVa, 1));
  EXPECT_EQ(1U, fl_inv_atc(&world.iommu, &world.stream, true, false, 1, kPageVa, 0));
  EXPECT_EQ(kNew, world.reach(kPageVa, 1));
  EXPECT_FALSE(world.result.from_atc);
  EXPECT_EQ(kNew, world.reach(kPageVa, 1));
  EXPECT_TRUE(world.result.from_atc);
}

TEST_F(ModelAtc, BySubstreamSparesOtherSubstreamsAndTrafficWithoutOne) {
  EXPECT_EQ(2U, fl_inv_atc(&world.iommu, &world.stream, true, false, 2, 0, FL_ATC_ALL));
  EXPECT_EQ(4, left());
  EXPECT_FALSE(stale(2, kPageVa));
  EXPECT_TRUE(stale(std::nullopt, kPageVa));
}

TEST_F(ModelAtc, WithoutSubstreamReachesOnlyTrafficWithoutOne) {
  EXPECT_EQ(2U, fl_inv_atc(&world.iommu, &world.stream, false, true, 1, 0, FL_ATC_ALL));
  EXPECT_EQ(4, left());
  EXPECT_TRUE(stale(1, kPageVa));
}

TEST_F(ModelAtc, GlobalReachesEverySubstream) {
  EXPECT_EQ(4U, fl_inv_atc(&world.iommu, &world.stream, true, true, 0, 0, FL_ATC_ALL));
  EXPECT_EQ(2, left());
  EXPECT_TRUE(stale(std::nullopt, kBlockVa));
}

TEST_F(ModelAtc, RangesAreAlignedToTheirSize) {
  EXPECT_EQ(0U, fl_inv_atc(&world.iommu, &world.stream, true, false, 1, 0x2000, 0));
  EXPECT_EQ(0U, fl_inv_atc(&world.iommu, &world.stream, true, false, 1, 0x2000, 1));
  EXPECT_EQ(6, left());
  EXPECT_EQ(1U, fl_inv_atc(&world.iommu, &world.stream, true, false, 1, 0x3fff, 2));  // 0..0x3fff
  EXPECT_FALSE(stale(1, kPageVa));
  EXPECT_TRUE(stale(1, kBlockVa));
  // One page inside a cached block removes the block.
  EXPECT_EQ(1U, fl_inv_atc(&world.iommu, &world.stream, true, false, 2, kBlockVa + 0x5000, 0));
  EXPECT_FALSE(stale(2, kBlockVa));
}

TEST_F(ModelAtc, ResetRemovesEverything) {
  EXPECT_EQ(6U, fl_inv_atc_all(&world.iommu, &world.stream));
  EXPECT_EQ(0, left());
  world.stream.atc = nullptr;
  EXPECT_EQ(0U, fl_inv_atc_all(&world.iommu, &world.stream));
  EXPECT_EQ(0U, fl_inv_atc(&world.iommu, &world.stream, false, false, 0, 0, FL_ATC_ALL));
}

TEST_F(ModelAtc, AsksAgainForRightsItWasNotGranted) {
  fl_inv_atc_all(&world.iommu, &world.stream);
  world.put(cd[1].regime.half[0], kPageVa, 3, (kNew | kPage | kReadOnly));
  EXPECT_EQ(kNew, world.reach(kPageVa, 1));
  EXPECT_EQ(FL_FAULTED, world.go(kPageVa, FL_ACCESS_WRITE, 1));
  EXPECT_EQ(FL_EVT_F_PERMISSION, fl_event_id(&world.event));
  world.put(cd[1].regime.half[0], kPageVa, 3, kNew | kPage);
  fl_inv_tlb_all(&world.iommu);
  EXPECT_EQ(FL_TRANSLATED, world.go(kPageVa, FL_ACCESS_WRITE, 1));
  EXPECT_FALSE(world.result.from_atc);
  EXPECT_EQ(FL_TRANSLATED, world.go(kPageVa, FL_ACCESS_WRITE, 1));
  EXPECT_TRUE(world.result.from_atc);
}

TEST_F(ModelAtc, FaultsAreNotKept) {
  EXPECT_EQ(FL_FAULTED, world.go(0x9000, 0, 1));
  world.put(cd[1].regime.half[0], 0x9000, 3, 0x5000 | kPage);
  EXPECT_EQ(0x5000U, world.reach(0x9000, 1));
}

TEST_F(ModelAtc, BypassedTrafficIsKeptInAlignedPieces) {
  fl_inv_atc_all(&world.iommu, &world.stream);
  world.attach({.base_ptr = 0, .mode = FL_S1_BYPASS, .s1fmt = 0, .s1dss = 0, .s1cdmax = 0});
  ASSERT_EQ(0x40000123U, world.reach(0x40000123));
  ASSERT_EQ(0x40000123U, world.reach(0x40000123));
  EXPECT_TRUE(world.result.from_atc);
  EXPECT_EQ(0x40000000U - 0x123, world.result.size);
}

TEST_F(ModelAtc, DoorbellsAreNotKept) {
  fl_inv_atc_all(&world.iommu, &world.stream);
  ASSERT_EQ(0, fl_stage2_bind_doorbell(&world.domain.s2, ModelWorld::kRam, 0x1000, 0x9000));
  world.put(cd[1].regime.half[0], 0x9000, 3, ModelWorld::kRam | kPage);
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ(FL_TRANSLATED, world.go(0x9000, FL_ACCESS_WRITE, 1));
    EXPECT_FALSE(world.result.from_atc);
    EXPECT_TRUE(world.result.prot & FL_PROT_MMIO);
  }
}

}  // namespace
}  // namespace faultline::test
