// SPDX-License-Identifier: BSD-3-Clause
// Stage-1 configuration of a stream: what each transaction becomes, and the event it leaves.
#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <random>

#include "kernel/model/fl_iommu.h"
#include "tests/support/model_world.h"

namespace faultline::test {
namespace {

constexpr std::uint64_t kSidField = static_cast<std::uint64_t>(ModelWorld::kSid) << 32U;

class ModelStream : public ::testing::Test {
 protected:
  ModelStream() { world.map_ram(); }

  void expect_event(std::uint64_t w0, std::uint64_t w1, std::uint64_t w2, std::uint64_t w3) {
    EXPECT_EQ(kSidField | w0, world.event.w[0]) << std::hex << world.event.w[0];
    EXPECT_EQ(w1, world.event.w[1]) << std::hex << world.event.w[1];
    EXPECT_EQ(w2, world.event.w[2]);
    EXPECT_EQ(w3, world.event.w[3]) << std::hex << world.event.w[3];
  }

  /// A CD whose low half maps 0x1000 to `page`.
  CdFields cd_to(std::uint64_t page, std::uint16_t asid) {
    auto cd = world.simple_cd(asid);
    world.put(cd.regime.half[0], 0x1000, 3, page | kPage);
    return cd;
  }

  fl_s1_config substreams(std::uint8_t fmt, std::uint8_t dss, std::uint8_t cdmax) {
    return {
        .base_ptr = 0x10000, .mode = FL_S1_TRANSLATE, .s1fmt = fmt, .s1dss = dss, .s1cdmax = cdmax};
  }

  ModelWorld world;
};

constexpr std::uint64_t kRnW = 1ULL << 35U;
constexpr std::uint64_t kInD = 1ULL << 34U;
constexpr std::uint64_t kPnU = 1ULL << 33U;
constexpr std::uint64_t kS2 = 1ULL << 39U;
constexpr std::uint64_t kClassTt = 1ULL << 40U;
constexpr std::uint64_t kClassIn = 2ULL << 40U;

TEST_F(ModelStream, AbortedAndUnattachedStreamsEndSilently) {
  EXPECT_EQ(FL_TERMINATED, world.go(0x1000));  // never configured
  world.attach({.base_ptr = 0, .mode = FL_S1_ABORT, .s1fmt = 0, .s1dss = 0, .s1cdmax = 0});
  EXPECT_EQ(FL_TERMINATED, world.go(0x1000));
  world.attach({.base_ptr = 0, .mode = FL_S1_BYPASS, .s1fmt = 0, .s1dss = 0, .s1cdmax = 0});
  world.stream.domain = nullptr;
  EXPECT_EQ(FL_TERMINATED, world.go(0x1000));
  EXPECT_EQ(3U, world.iommu.stats.aborted);
  EXPECT_EQ(0U, world.iommu.stats.events);
}

TEST_F(ModelStream, BypassIsStageTwoAlone) {
  world.attach({.base_ptr = 0, .mode = FL_S1_BYPASS, .s1fmt = 0, .s1dss = 0, .s1cdmax = 0});
  EXPECT_EQ(0x12345U, world.reach(0x12345));
  EXPECT_EQ(ModelWorld::kRam - 0x12345, world.result.size);
  EXPECT_EQ(0U, world.result.entry);

  ASSERT_EQ(FL_FAULTED, world.go(ModelWorld::kRam + 0x1234, FL_ACCESS_WRITE));
  expect_event(0x10, kS2 | kClassIn, ModelWorld::kRam + 0x1234, ModelWorld::kRam + 0x1000);
  ASSERT_EQ(FL_FAULTED, world.go(1ULL << 48U));
  expect_event(0x11, kRnW | kClassIn, 1ULL << 48U, 0);
  ASSERT_EQ(FL_FAULTED, world.go(0x1000, 0, 5));
  expect_event(0x08 | 5U << 12U, 0, 0, 0);
}

TEST_F(ModelStream, RefusesOnlyWhatTheStreamTableEntryCannotSay) {
  fl_s1_config s1{.base_ptr = 0x10000, .mode = 0, .s1fmt = 0, .s1dss = 0, .s1cdmax = 0};
  EXPECT_EQ(-FL_EINVAL, fl_stream_set_s1(&world.iommu, &world.stream, &s1));
  s1.mode = 4;
  EXPECT_EQ(-FL_EINVAL, fl_stream_set_s1(&world.iommu, &world.stream, &s1));
  s1.mode = FL_S1_TRANSLATE;
  s1.s1cdmax = 21;
  EXPECT_EQ(-FL_EINVAL, fl_stream_set_s1(&world.iommu, &world.stream, &s1));
  EXPECT_EQ(0, world.stream.s1.mode);
  s1.s1cdmax = 20;
  s1.base_ptr = 0xfff0'0000'0001'003f;
  EXPECT_EQ(0, fl_stream_set_s1(&world.iommu, &world.stream, &s1));
  EXPECT_EQ(0x10000U, world.stream.s1.base_ptr);
}

TEST_F(ModelStream, EventsSayWhoWantedWhat) {
  const auto cd = world.attach_simple();
  ASSERT_EQ(FL_FAULTED, world.go(0x5678));
  expect_event(0x10, kRnW | kClassIn, 0x5678, 0);
  ASSERT_EQ(FL_FAULTED, world.go(0x5678, FL_ACCESS_WRITE | FL_ACCESS_PRIV));
  expect_event(0x10, kPnU | kClassIn, 0x5678, 0);
  ASSERT_EQ(FL_FAULTED, world.go(0x5678, FL_ACCESS_EXEC));
  expect_event(0x10, kRnW | kInD | kClassIn, 0x5678, 0);
  ASSERT_EQ(FL_FAULTED, world.go(0x5678, FL_ACCESS_EXEC | FL_ACCESS_WRITE));
  expect_event(0x10, kClassIn, 0x5678, 0);
  world.put(cd.regime.half[0], 0x5000, 3, (0x9000 | kPage | kReadOnly));
  ASSERT_EQ(FL_FAULTED, world.go(0x5678, FL_ACCESS_WRITE));
  expect_event(0x13, kClassIn, 0x5678, 0);
}

TEST_F(ModelStream, ExternalAbortsTellTheFetchAddress) {
  const auto cd = world.attach_simple();
  const std::uint64_t table = cd.regime.half[0].table;
  world.broken.insert(ModelWorld::kHost + table);
  ASSERT_EQ(FL_FAULTED, world.go(3ULL << 39U));
  expect_event(0x0b, kRnW | kClassTt, 3ULL << 39U, ModelWorld::kHost + table + 24);
  world.broken.insert(ModelWorld::kHost + ModelWorld::kCd);
  fl_inv_cd_all(&world.iommu, ModelWorld::kSid);
  ASSERT_EQ(FL_FAULTED, world.go(0x1000));
  expect_event(0x09, 0, 0, ModelWorld::kHost + ModelWorld::kCd);
}

TEST_F(ModelStream, AContextDescriptorOutsideStageTwoIsAStageTwoFaultOfClassCd) {
  world.attach({.base_ptr = ModelWorld::kRam + 0x40,
                .mode = FL_S1_TRANSLATE,
                .s1fmt = 0,
                .s1dss = 0,
                .s1cdmax = 0});
  ASSERT_EQ(FL_FAULTED, world.go(0x1000, FL_ACCESS_WRITE));
  expect_event(0x10, kS2, 0x1000, ModelWorld::kRam);
  EXPECT_EQ(1U, world.iommu.stats.s2_cd_events);
}

TEST_F(ModelStream, AnInvalidContextDescriptorIsBadCd) {
  world.attach(
      {.base_ptr = 0x10000, .mode = FL_S1_TRANSLATE, .s1fmt = 0, .s1dss = 0, .s1cdmax = 0});
  ASSERT_EQ(FL_FAULTED, world.go(0x1000));
  expect_event(0x0a, 0, 0, 0);
}

TEST_F(ModelStream, SuppressesRecordsOnlyOfStageOneTranslationFaults) {
  auto cd = world.simple_cd();
  cd.record = false;
  world.write_cd(ModelWorld::kCd, cd);
  world.attach(
      {.base_ptr = ModelWorld::kCd, .mode = FL_S1_TRANSLATE, .s1fmt = 0, .s1dss = 0, .s1cdmax = 0});
  EXPECT_EQ(FL_TERMINATED, world.go(0x1000));
  EXPECT_EQ(1U, world.iommu.stats.unrecorded);
  world.put(cd.regime.half[0], 0x1000, 3, ModelWorld::kRam | kPage);
  EXPECT_EQ(FL_FAULTED, world.go(0x1000));  // stage 2
  world.put(cd.regime.half[0], 0x2000, 3, 0x9000 | kPage);
  world.broken.insert(ModelWorld::kHost + cd.regime.half[0].table);
  fl_inv_vmid(&world.iommu, ModelWorld::kVmid);
  EXPECT_EQ(FL_FAULTED, world.go(0x2000));  // external abort
  EXPECT_EQ(FL_EVT_F_WALK_EABT, fl_event_id(&world.event));
}

TEST_F(ModelStream, SubstreamsIndexALinearTable) {
  for (std::uint16_t i = 0; i < 4; ++i)
    world.write_cd(0x10000 + 64 * i, cd_to(0x20000 + 0x1000 * i, i));
  world.attach(substreams(FL_S1_LINEAR, FL_S1_DSS_TERMINATE, 2));
  for (std::uint32_t i = 0; i < 4; ++i) EXPECT_EQ(0x20000U + 0x1000 * i, world.reach(0x1000, i));
  ASSERT_EQ(FL_FAULTED, world.go(0x1000, 0, 4));
  expect_event(0x08 | 4U << 12U, 0, 0, 0);
  ASSERT_EQ(FL_FAULTED, world.go(0x1000));
  expect_event(0x06, 0, 0, 0);
  // Events of a substream name it, with the qualifier.
  ASSERT_EQ(FL_FAULTED, world.go(0x7000, 0, 3));
  expect_event(0x10 | 1U << 11U | 3U << 12U, kRnW | kClassIn, 0x7000, 0);
}

TEST_F(ModelStream, DefaultSubstreamRulesDecideTrafficWithoutOne) {
  for (std::uint16_t i = 0; i < 2; ++i)
    world.write_cd(0x10000 + 64 * i, cd_to(0x20000 + 0x1000 * i, i));
  world.attach(substreams(FL_S1_LINEAR, FL_S1_DSS_BYPASS, 1));
  EXPECT_EQ(0x1000U, world.reach(0x1000));
  EXPECT_EQ(0x20000U, world.reach(0x1000, 0));
  world.attach(substreams(FL_S1_LINEAR, FL_S1_DSS_CD0, 1));
  EXPECT_EQ(0x20000U, world.reach(0x1000));
  EXPECT_EQ(0x21000U, world.reach(0x1000, 1));
  ASSERT_EQ(FL_FAULTED, world.go(0x1000, 0, 0));
  EXPECT_EQ(FL_EVT_F_STREAM_DISABLED, fl_event_id(&world.event));
  world.attach(substreams(FL_S1_LINEAR, 3, 1));  // reserved: as terminate
  ASSERT_EQ(FL_FAULTED, world.go(0x1000));
  EXPECT_EQ(FL_EVT_F_STREAM_DISABLED, fl_event_id(&world.event));
  // Without substreams both fields are ignored.
  world.attach(substreams(FL_S1_2LVL_4K, FL_S1_DSS_TERMINATE, 0));
  EXPECT_EQ(0x20000U, world.reach(0x1000));
  ASSERT_EQ(FL_FAULTED, world.go(0x1000, 0, 0));
  EXPECT_EQ(FL_EVT_C_BAD_SUBSTREAMID, fl_event_id(&world.event));
}

TEST_F(ModelStream, TwoLevelTablesHave64Or1024CdsPerLeaf) {
  for (const auto& [fmt, split] :
       {std::pair<std::uint8_t, unsigned>{FL_S1_2LVL_4K, 6}, {FL_S1_2LVL_64K, 10}}) {
    world.write(0x10000, 0x40000 | 1);
    world.write(0x10008, 0);
    world.write(0x10010, 0x50000 | 1);
    const std::uint32_t last = (1U << split) - 1, third = 2U << split;
    world.write_cd(0x40000 + 64ULL * last, cd_to(0x20000, 1));
    world.write_cd(0x50000, cd_to(0x21000, 2));
    world.attach(substreams(fmt, FL_S1_DSS_CD0, 13));
    EXPECT_EQ(0x20000U, world.reach(0x1000, last)) << split;
    EXPECT_EQ(0x21000U, world.reach(0x1000, third)) << split;
    ASSERT_EQ(FL_FAULTED, world.go(0x1000, 0, 1U << split));  // its level-1 descriptor is invalid
    expect_event(0x08 | (1ULL << split) << 12U, 0, 0, 0);
    world.write(0x10000, 0);
    fl_inv_cd_all(&world.iommu, ModelWorld::kSid);
    ASSERT_EQ(FL_FAULTED, world.go(0x1000));  // without substream, through CD 0
    expect_event(0x08, 0, 0, 0);
  }
}

// A guest writes whatever it likes into its tables and descriptors; each answer is still one of the
// three, and a walk always ends.
TEST(ModelStreamHostile, RandomMemoryIsOnlyEverAnOutcome) {
  std::mt19937_64 random(3);
  ModelWorld world(4);
  // Dense: every word of memory is random, half of them look like valid table descriptors.
  const fl_mem garbage{.read64 =
                           [](void* ctx, std::uint64_t host, std::uint64_t* value) {
                             auto& generator = *static_cast<std::mt19937_64*>(ctx);
                             *value = generator() & 0xffff0000fffffffb;
                             if (generator() % 2 == 0) *value |= 3;
                             return host % 4096 == 4088 && generator() % 4 == 0 ? -FL_EFAULT : 0;
                           },
                       .ctx = &random};
  world.map_ram();
  world.iommu.mem = garbage;
  std::map<int, int> outcomes;
  for (int i = 0; i < 60000; ++i) {
    if (i % 16 == 0) {
      const fl_s1_config s1{.base_ptr = random() & 0x1fffffff,
                            .mode = FL_S1_TRANSLATE,
                            .s1fmt = static_cast<std::uint8_t>(random()),
                            .s1dss = static_cast<std::uint8_t>(random()),
                            .s1cdmax = static_cast<std::uint8_t>(random() % 21)};
      world.attach(s1);
      // A believable descriptor now and then, or nothing would get past C_BAD_CD.
      fl_config_entry e{};
      e.sid = ModelWorld::kSid;
      auto raw = encode_cd({});
      raw[0] ^= random() & 0xffff0ffd003f003f;
      raw[1] ^= random() & 0xffffffff;
      e.bad = fl_cd_decode(raw.data(), 48, &e.cd) != 0;
      fl_config_cache_put(&world.iommu.configs, &e);
    }
    const std::optional<std::uint32_t> ssid =
        random() % 4 == 0 ? std::optional(static_cast<std::uint32_t>(random())) : std::nullopt;
    // One draw per statement: compilers order arguments differently.
    const unsigned shift = random() % 64;
    const std::uint64_t iova = random() >> shift;
    ++outcomes[world.go(iova, static_cast<std::uint8_t>(random()), ssid)];
    if (i % 64 == 0) {
      const bool leaf = random() % 2 == 0;
      fl_inv_vaa_range(&world.iommu, ModelWorld::kVmid, iova, random(), leaf);
    }
  }
  EXPECT_EQ(60000, outcomes[FL_TRANSLATED] + outcomes[FL_TERMINATED] + outcomes[FL_FAULTED]);
  EXPECT_GT(outcomes[FL_TRANSLATED], 50);
  EXPECT_GT(outcomes[FL_FAULTED], 1000);
}

}  // namespace
}  // namespace faultline::test
