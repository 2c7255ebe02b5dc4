// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/model/fl_stage2.h"

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <random>

namespace faultline::test {
namespace {

constexpr std::uint32_t kRw = FL_PROT_READ | FL_PROT_WRITE;

class ModelStage2 : public ::testing::Test {
 protected:
  ModelStage2() { fl_stage2_init(&s2, maps.data(), 4, doorbells.data(), 2); }

  std::uint64_t unmap(std::uint64_t ipa, std::uint64_t size, int expect = 0) {
    std::uint64_t bytes = 99;
    EXPECT_EQ(expect, fl_stage2_unmap(&s2, ipa, size, &bytes));
    return bytes;
  }

  std::array<fl_s2_map, 4> maps{};
  std::array<fl_s2_map, 2> doorbells{};
  fl_stage2 s2{};
};

TEST_F(ModelStage2, FindsTheMappingOfEachByteAndNothingBeside) {
  ASSERT_EQ(0, fl_stage2_map(&s2, 0x4000, 0x2000, 0xa000, kRw));
  ASSERT_EQ(0, fl_stage2_map(&s2, 0x1000, 0x1000, 0xb000, FL_PROT_READ));
  EXPECT_EQ(nullptr, fl_stage2_find(&s2, 0xfff));
  EXPECT_EQ(0xb000U, fl_stage2_find(&s2, 0x1000)->host);
  EXPECT_EQ(0xb000U, fl_stage2_find(&s2, 0x1fff)->host);
  EXPECT_EQ(nullptr, fl_stage2_find(&s2, 0x2000));
  EXPECT_EQ(nullptr, fl_stage2_find(&s2, 0x3fff));
  EXPECT_EQ(0xa000U, fl_stage2_find(&s2, 0x4000)->host);
  EXPECT_EQ(0xa000U, fl_stage2_find(&s2, 0x5fff)->host);
  EXPECT_EQ(nullptr, fl_stage2_find(&s2, 0x6000));
}

TEST_F(ModelStage2, RefusesOverlapsAndChangesNothing) {
  ASSERT_EQ(0, fl_stage2_map(&s2, 0x4000, 0x2000, 0xa000, kRw));
  for (const auto& [ipa, size] : {std::pair<std::uint64_t, std::uint64_t>{0x4000, 0x2000},
                                  {0x3000, 0x2000},
                                  {0x5000, 0x1000},
                                  {0x5000, 0x4000},
                                  {0x0, 0x10000}})
    EXPECT_EQ(-FL_EEXIST, fl_stage2_map(&s2, ipa, size, 0, kRw)) << std::hex << ipa;
  EXPECT_EQ(0, fl_stage2_map(&s2, 0x3000, 0x1000, 0, kRw));
  EXPECT_EQ(0, fl_stage2_map(&s2, 0x6000, 0x1000, 0, kRw));
  EXPECT_EQ(3U, s2.nr_maps);
}

TEST_F(ModelStage2, RefusesWhatMapDmaRefuses) {
  EXPECT_EQ(-FL_EINVAL, fl_stage2_map(&s2, 0x1000, 0, 0, kRw));
  EXPECT_EQ(-FL_EINVAL, fl_stage2_map(&s2, 0x1001, 0x1000, 0, kRw));
  EXPECT_EQ(-FL_EINVAL, fl_stage2_map(&s2, 0x1000, 0x800, 0, kRw));
  EXPECT_EQ(-FL_EINVAL, fl_stage2_map(&s2, ~0xfffULL, 0x2000, 0, kRw));
  EXPECT_EQ(-FL_EINVAL, fl_stage2_map(&s2, 0x1000, 0x1000, 0, 0));
  EXPECT_EQ(-FL_EINVAL, fl_stage2_map(&s2, 0x1000, 0x1000, 0, 8));
  EXPECT_EQ(0, fl_stage2_map(&s2, ~0xfffULL, 0x1000, 0, kRw));
  for (unsigned i = 0; i < 3; ++i) ASSERT_EQ(0, fl_stage2_map(&s2, 0x1000 * i, 0x1000, 0, kRw));
  EXPECT_EQ(-FL_ENOSPC, fl_stage2_map(&s2, 0x100000, 0x1000, 0, kRw));
}

TEST_F(ModelStage2, UnmapsWholeMappingsAndTellsTheBytes) {
  ASSERT_EQ(0, fl_stage2_map(&s2, 0x1000, 0x1000, 0, kRw));
  ASSERT_EQ(0, fl_stage2_map(&s2, 0x4000, 0x2000, 0, kRw));
  ASSERT_EQ(0, fl_stage2_map(&s2, 0x8000, 0x1000, 0, kRw));
  EXPECT_EQ(0U, unmap(0x2000, 0x2000));
  EXPECT_EQ(0x3000U, unmap(0x0, 0x7000));
  EXPECT_EQ(nullptr, fl_stage2_find(&s2, 0x1000));
  EXPECT_NE(nullptr, fl_stage2_find(&s2, 0x8000));
  EXPECT_EQ(0x1000U, unmap(0, 0 - 0x1000ULL));
  EXPECT_EQ(0U, s2.nr_maps);
}

TEST_F(ModelStage2, NeverCutsAMapping) {
  ASSERT_EQ(0, fl_stage2_map(&s2, 0x1000, 0x1000, 0, kRw));
  ASSERT_EQ(0, fl_stage2_map(&s2, 0x4000, 0x3000, 0, kRw));
  EXPECT_EQ(0U, unmap(0x4000, 0x1000, -FL_EINVAL));
  EXPECT_EQ(0U, unmap(0x5000, 0x1000, -FL_EINVAL));
  EXPECT_EQ(0U, unmap(0x6000, 0x1000, -FL_EINVAL));
  EXPECT_EQ(0U, unmap(0x0, 0x6000, -FL_EINVAL));  // the first one alone would have fitted
  EXPECT_EQ(0U, unmap(0x4001, 0x3000, -FL_EINVAL));
  EXPECT_EQ(0U, unmap(0x4000, 0, -FL_EINVAL));
  EXPECT_EQ(2U, s2.nr_maps);
}

TEST_F(ModelStage2, DoorbellsAreBesideTheMappings) {
  ASSERT_EQ(0, fl_stage2_map(&s2, 0x1000, 0x1000, 0, kRw));
  EXPECT_EQ(-FL_EEXIST, fl_stage2_bind_doorbell(&s2, 0x1000, 0x1000, 0));
  ASSERT_EQ(0, fl_stage2_bind_doorbell(&s2, 0x8000000, 0x1000, 0xd000));
  EXPECT_EQ(-FL_EEXIST, fl_stage2_bind_doorbell(&s2, 0x8000000, 0x1000, 0xd000));
  EXPECT_EQ(-FL_EEXIST, fl_stage2_map(&s2, 0x8000000, 0x1000, 0, kRw));
  const fl_s2_map* m = fl_stage2_find(&s2, 0x8000040);
  ASSERT_NE(nullptr, m);
  EXPECT_EQ(0xd000U, m->host);
  EXPECT_EQ(static_cast<std::uint32_t>(FL_PROT_WRITE | FL_PROT_MMIO), m->prot);
  EXPECT_EQ(0x1000U, unmap(0, 0 - 0x1000ULL));  // leaves doorbells alone
  EXPECT_EQ(-FL_ENOENT, fl_stage2_unbind_doorbell(&s2, 0x8001000));
  EXPECT_EQ(0, fl_stage2_unbind_doorbell(&s2, 0x8000000));
  EXPECT_EQ(nullptr, fl_stage2_find(&s2, 0x8000040));
}

TEST(ModelStage2AtRandom, KeepsTheSameMappingsAsAPlainMapOfPages) {
  std::mt19937_64 random(7);
  std::array<fl_s2_map, 16> maps{};
  fl_stage2 s2{};
  fl_stage2_init(&s2, maps.data(), maps.size(), nullptr, 0);
  std::map<std::uint64_t, std::pair<std::uint64_t, std::uint64_t>> pages;  // page → host, mapping
  for (int round = 0; round < 20000; ++round) {
    const std::uint64_t first = random() % 48;
    const std::uint64_t n = 1 + random() % 8;
    if (random() % 2 == 0) {
      bool free = true;
      for (std::uint64_t p = first; p < first + n; ++p) free = free && !pages.contains(p);
      const int expect = !free ? -FL_EEXIST : s2.nr_maps == maps.size() ? -FL_ENOSPC : 0;
      const std::uint64_t host = random() & ~0xfffULL;
      ASSERT_EQ(expect, fl_stage2_map(&s2, first << 12U, n << 12U, host, kRw));
      if (expect == 0)
        for (std::uint64_t p = 0; p < n; ++p) pages[first + p] = {host + (p << 12U), first};
    } else {
      std::uint64_t covered = 0;
      bool cut = false;
      for (const auto& [p, what] : pages) {
        const bool inside = p >= first && p < first + n;
        covered += inside ? 1 : 0;
        for (const auto& [q, other] : pages)
          cut = cut || (inside && other.second == what.second && (q < first || q >= first + n));
      }
      std::uint64_t bytes = 0;
      ASSERT_EQ(cut ? -FL_EINVAL : 0, fl_stage2_unmap(&s2, first << 12U, n << 12U, &bytes));
      ASSERT_EQ(cut ? 0 : covered << 12U, bytes);
      if (!cut)
        for (std::uint64_t p = first; p < first + n; ++p) pages.erase(p);
    }
    const std::uint64_t probe = random() % 60;
    const fl_s2_map* m = fl_stage2_find(&s2, probe << 12U);
    ASSERT_EQ(pages.contains(probe), m != nullptr);
    if (m != nullptr) {
      ASSERT_EQ(pages[probe].first, m->host + ((probe << 12U) - m->ipa));
    }
  }
}

}  // namespace
}  // namespace faultline::test
