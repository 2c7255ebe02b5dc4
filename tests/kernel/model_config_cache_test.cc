// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/model/fl_config_cache.h"

#include <gtest/gtest.h>

#include "kernel/model/fl_iommu.h"
#include "tests/support/model_world.h"

namespace faultline::test {
namespace {

/// Two-level CD table with substreams 1, 2 (first leaf) and 65 (second leaf), all at 0x1000.
class ModelConfigCache : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kL1 = 0x10000, kLeaf0 = 0x20000, kLeaf1 = 0x21000;
  static constexpr std::uint64_t kOld = 0x700000, kNew = 0x900000;

  ModelConfigCache() {
    world.map_ram();
    world.write(kL1, kLeaf0 | 1);
    world.write(kL1 + 8, kLeaf1 | 1);
    write_cds(kOld, 1);
    attach();
    for (auto s : {1U, 2U, 65U}) EXPECT_EQ(kOld + 0x1000 * s, world.reach(0x1000, s));
    // New tables and new ASIDs, so that no TLB entry can answer for the new descriptors.
    write_cds(kNew, 101);
  }

  void attach() {
    world.attach({.base_ptr = kL1,
                  .mode = FL_S1_TRANSLATE,
                  .s1fmt = FL_S1_2LVL_4K,
                  .s1dss = 0,
                  .s1cdmax = 8});
  }

  static std::uint64_t place(std::uint32_t ssid) {
    return (ssid < 64 ? kLeaf0 : kLeaf1) + 64ULL * (ssid % 64);
  }

  void write_cds(std::uint64_t ipa, std::uint16_t asid) {
    for (auto s : {1U, 2U, 65U}) {
      const auto cd = world.simple_cd(static_cast<std::uint16_t>(asid + s));
      world.put(cd.regime.half[0], 0x1000, 3, (ipa + 0x1000 * s) | kPage);
      world.write_cd(place(s), cd);
    }
  }

  bool is_new(std::uint32_t ssid) { return world.reach(0x1000, ssid) == kNew + 0x1000 * ssid; }
  bool is_old(std::uint32_t ssid) { return world.reach(0x1000, ssid) == kOld + 0x1000 * ssid; }

  ModelWorld world;
};

TEST_F(ModelConfigCache, KeepsUsingStaleDescriptorsUntilInvalidated) {
  for (auto s : {1U, 2U, 65U}) EXPECT_TRUE(is_old(s));
  fl_inv_tlb_all(&world.iommu);  // no part of the configuration cache
  for (auto s : {1U, 2U, 65U}) EXPECT_TRUE(is_old(s));
}

TEST_F(ModelConfigCache, BySubstreamRemovesThatDescriptorOnly) {
  EXPECT_EQ(1U, fl_inv_cd(&world.iommu, ModelWorld::kSid, 2, true));
  EXPECT_TRUE(is_old(1));
  EXPECT_TRUE(is_new(2));
  EXPECT_TRUE(is_old(65));
  EXPECT_EQ(0U, fl_inv_cd(&world.iommu, ModelWorld::kSid + 1, 1, true));
  EXPECT_TRUE(is_old(1));
}

TEST_F(ModelConfigCache, ByStreamRemovesAllItsDescriptors) {
  EXPECT_EQ(0U, fl_inv_cd_all(&world.iommu, ModelWorld::kSid + 1));
  EXPECT_TRUE(is_old(1));
  EXPECT_EQ(5U, fl_inv_cd_all(&world.iommu, ModelWorld::kSid));  // three CDs, two of level 1
  for (auto s : {1U, 2U, 65U}) EXPECT_TRUE(is_new(s));
}

TEST_F(ModelConfigCache, AllRemovesEveryStream) {
  EXPECT_EQ(5U, fl_inv_config_all(&world.iommu));
  for (auto s : {1U, 2U, 65U}) EXPECT_TRUE(is_new(s));
}

TEST_F(ModelConfigCache, AnUnchangedStreamTableEntryWrittenAgainDropsItsDescriptors) {
  attach();
  for (auto s : {1U, 2U, 65U}) EXPECT_TRUE(is_new(s));
}

TEST_F(ModelConfigCache, OnlyNonLeafReachesLevelOneDescriptors) {
  world.write(kL1, kLeaf1 | 1);  // substream 1 now at the second leaf's place 1, as 65 was
  fl_inv_cd(&world.iommu, ModelWorld::kSid, 1, true);
  EXPECT_TRUE(is_new(1));  // through the old leaf table
  EXPECT_EQ(2U, fl_inv_cd(&world.iommu, ModelWorld::kSid, 1, false));
  EXPECT_EQ(kNew + 0x1000 * 65, world.reach(0x1000, 1));
  EXPECT_TRUE(is_old(65));
}

TEST_F(ModelConfigCache, InvalidDescriptorsAreRememberedAsWell) {
  EXPECT_EQ(FL_FAULTED, world.go(0x1000, 0, 3));
  EXPECT_EQ(FL_EVT_C_BAD_CD, fl_event_id(&world.event));
  const auto cd = world.simple_cd(200);
  world.put(cd.regime.half[0], 0x1000, 3, 0x5000 | kPage);
  world.write_cd(place(3), cd);
  EXPECT_EQ(FL_FAULTED, world.go(0x1000, 0, 3));
  fl_inv_cd(&world.iommu, ModelWorld::kSid, 3, true);
  EXPECT_EQ(0x5000U, world.reach(0x1000, 3));

  EXPECT_EQ(FL_FAULTED, world.go(0x1000, 0, 128));
  EXPECT_EQ(FL_EVT_C_BAD_SUBSTREAMID, fl_event_id(&world.event));
  world.write(kL1 + 16, kLeaf0 | 1);
  EXPECT_EQ(FL_FAULTED, world.go(0x1000, 0, 128 + 3));
  fl_inv_cd(&world.iommu, ModelWorld::kSid, 128, false);
  EXPECT_EQ(0x5000U, world.reach(0x1000, 128 + 3));
}

TEST(ModelConfigCacheItself, ReplacesRoundRobinWithinASet) {
  fl_config_set set{};
  fl_config_cache c{};
  ASSERT_EQ(0, fl_config_cache_init(&c, &set, 1));
  for (std::uint32_t i = 0; i < FL_CONFIG_WAYS + 1; ++i) {
    fl_config_entry e{};
    e.sid = i;
    fl_config_cache_put(&c, &e);
  }
  EXPECT_EQ(nullptr, fl_config_cache_find(&c, 0, 0, false));
  for (std::uint32_t i = 1; i < FL_CONFIG_WAYS + 1; ++i)
    EXPECT_NE(nullptr, fl_config_cache_find(&c, i, 0, false));
  EXPECT_EQ(-FL_EINVAL, fl_config_cache_init(&c, &set, 3));
}

}  // namespace
}  // namespace faultline::test
