// SPDX-License-Identifier: BSD-3-Clause
// TLB and walk cache: what stays visible after the tables changed, and what each invalidation ends.
#include "kernel/model/fl_tlb.h"

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <random>
#include <set>
#include <tuple>

#include "kernel/model/fl_iommu.h"
#include "tests/support/model_world.h"

namespace faultline::test {
namespace {

// ---- seen through translations
// ---------------------------------------------------------------------

constexpr std::uint64_t kVa = 0x40001000;  ///< a page, in one 2 MiB region with kNext
constexpr std::uint64_t kNext = 0x40002000;
constexpr std::uint64_t kGlobalVa = 0x40003000;
constexpr std::uint64_t kBlockVa = 0x80200000;
constexpr std::uint64_t kOld = 0x700000, kNew = 0x900000;  ///< IPA before and after, plus the page

/// One stream with two substreams (ASIDs 1 and 2) that share nothing but the VMID.
class ModelTlb : public ::testing::Test {
 protected:
  ModelTlb() {
    world.map_ram();
    for (std::uint16_t i = 0; i < 2; ++i) {
      cd.at(i) = world.simple_cd(static_cast<std::uint16_t>(i + 1));
      world.write_cd(ModelWorld::kCd + 64 * i, cd.at(i));
    }
    world.attach({.base_ptr = ModelWorld::kCd,
                  .mode = FL_S1_TRANSLATE,
                  .s1fmt = 0,
                  .s1dss = 0,
                  .s1cdmax = 1});
    point_at(kOld);
    look_everywhere(kOld);
    point_at(kNew);
  }

  void point_at(std::uint64_t ipa) {
    for (auto& c : cd) {
      auto& half = c.regime.half[0];
      world.put(half, kVa, 3, (ipa + 0x1000) | kPage);
      world.put(half, kNext, 3, (ipa + 0x2000) | kPage);
      world.put(half, kGlobalVa, 3, ((ipa + 0x3000) | kPage) & ~kNonGlobal);
      world.put(half, kBlockVa, 2, ((ipa & ~0x1fffffULL) + 0x10000000) | kBlock);
    }
  }

  void look_everywhere(std::uint64_t ipa) {
    for (std::uint32_t i = 0; i < 2; ++i)
      for (const auto& [va, to] : expected(ipa)) ASSERT_EQ(to, world.reach(va, i));
  }

  static std::map<std::uint64_t, std::uint64_t> expected(std::uint64_t ipa) {
    return {{kVa, ipa + 0x1000},
            {kNext, ipa + 0x2000},
            {kGlobalVa, ipa + 0x3000},
            {kBlockVa, (ipa & ~0x1fffffULL) + 0x10000000}};
  }

  /// Which (substream, address) still answer with the old translation.
  std::set<std::pair<std::uint32_t, std::uint64_t>> stale() {
    std::set<std::pair<std::uint32_t, std::uint64_t>> s;
    for (std::uint32_t i = 0; i < 2; ++i)
      for (const auto& [va, old] : expected(kOld)) {
        // Ask without filling the TLB: an entry made by one question must not answer the next.
        const fl_tlb before = world.iommu.tlb;
        if (fl_tlb_find(&before, ModelWorld::kVmid, static_cast<std::uint16_t>(i + 1), false, va) !=
            nullptr)
          s.emplace(i, va);
      }
    return s;
  }
  static std::set<std::pair<std::uint32_t, std::uint64_t>> everything() {
    std::set<std::pair<std::uint32_t, std::uint64_t>> s;
    for (std::uint32_t i = 0; i < 2; ++i)
      for (const auto& [va, old] : expected(kOld)) s.emplace(i, va);
    return s;
  }

  ModelWorld world;
  std::array<CdFields, 2> cd;
};

TEST_F(ModelTlb, AnswersFromStaleEntriesUntilInvalidated) {
  EXPECT_EQ(kOld + 0x1000, world.reach(kVa, 0));
  EXPECT_TRUE(world.result.cached);
  const std::uint64_t entry = world.result.entry;
  EXPECT_EQ(kOld + 0x1000, world.reach(kVa, 0));
  EXPECT_EQ(entry, world.result.entry);
  fl_inv_va(&world.iommu, ModelWorld::kVmid, 1, kVa, true);
  EXPECT_EQ(kNew + 0x1000, world.reach(kVa, 0));
  EXPECT_FALSE(world.result.cached);
  EXPECT_NE(entry, world.result.entry);
}

TEST_F(ModelTlb, ByVmidRemovesEverythingOfThatVmid) {
  fl_inv_vmid(&world.iommu, ModelWorld::kVmid + 1);
  EXPECT_EQ(everything(), stale());
  fl_inv_vmid(&world.iommu, ModelWorld::kVmid);
  EXPECT_TRUE(stale().empty());
  look_everywhere(kNew);
}

TEST_F(ModelTlb, AllRemovesEveryVmid) {
  fl_inv_tlb_all(&world.iommu);
  EXPECT_TRUE(stale().empty());
}

TEST_F(ModelTlb, ByAsidSparesGlobalEntriesAndOtherAsids) {
  fl_inv_asid(&world.iommu, ModelWorld::kVmid, 1);
  auto left = everything();
  for (auto va : {kVa, kNext, kBlockVa}) left.erase({0, va});
  EXPECT_EQ(left, stale());
  EXPECT_EQ(kOld + 0x3000, world.reach(kGlobalVa, 0));
  EXPECT_EQ(kNew + 0x1000, world.reach(kVa, 0));
  EXPECT_EQ(kOld + 0x1000, world.reach(kVa, 1));
}

TEST_F(ModelTlb, ByAddressRemovesOfThatAsidOnlyThatAddress) {
  fl_inv_va(&world.iommu, ModelWorld::kVmid, 1, kVa, true);
  auto left = everything();
  left.erase({0, kVa});
  EXPECT_EQ(left, stale());
  EXPECT_EQ(kNew + 0x1000, world.reach(kVa, 0));
}

TEST_F(ModelTlb, ByAddressRemovesGlobalEntriesWhateverTheAsid) {
  fl_inv_va(&world.iommu, ModelWorld::kVmid, 99, kGlobalVa, true);
  auto left = everything();
  left.erase({0, kGlobalVa});
  left.erase({1, kGlobalVa});
  EXPECT_EQ(left, stale());
  EXPECT_EQ(kNew + 0x3000, world.reach(kGlobalVa, 0));
}

TEST_F(ModelTlb, ByAddressOfAnyAsidRemovesItForAll) {
  fl_inv_vaa(&world.iommu, ModelWorld::kVmid, kNext, true);
  auto left = everything();
  left.erase({0, kNext});
  left.erase({1, kNext});
  EXPECT_EQ(left, stale());
}

TEST_F(ModelTlb, AnyAddressOfABlockRemovesIt) {
  fl_inv_va(&world.iommu, ModelWorld::kVmid, 2, kBlockVa + 0x1ff000, true);
  auto left = everything();
  left.erase({1, kBlockVa});
  EXPECT_EQ(left, stale());
  fl_inv_va(&world.iommu, ModelWorld::kVmid, 1, kBlockVa - 0x1000, true);
  EXPECT_EQ(left, stale());
}

TEST_F(ModelTlb, RangesCoverTheirBytesAndNoMore) {
  fl_inv_va_range(&world.iommu, ModelWorld::kVmid, 1, kVa, 0x2000, true);
  auto left = everything();
  left.erase({0, kVa});
  left.erase({0, kNext});
  EXPECT_EQ(left, stale());
  fl_inv_vaa_range(&world.iommu, ModelWorld::kVmid, kVa - 0x1000, 0x1000, true);
  fl_inv_vaa_range(&world.iommu, ModelWorld::kVmid, kVa, 0, true);
  EXPECT_EQ(left, stale());
  // To the end of the address space, and not around it.
  fl_inv_vaa_range(&world.iommu, ModelWorld::kVmid, kBlockVa, ~0ULL, true);
  left.erase({0, kBlockVa});
  left.erase({1, kBlockVa});
  EXPECT_EQ(left, stale());
}

TEST_F(ModelTlb, AForbiddenAccessIsAnsweredFromTheCacheToo) {
  auto& half = cd[0].regime.half[0];
  world.put(half, kVa, 3, (kNew | kPage | kReadOnly));
  fl_inv_va(&world.iommu, ModelWorld::kVmid, 1, kVa, true);
  EXPECT_EQ(FL_FAULTED, world.go(kVa, FL_ACCESS_WRITE, 0));
  world.put(half, kVa, 3, kNew | kPage);
  EXPECT_EQ(FL_FAULTED, world.go(kVa, FL_ACCESS_WRITE, 0));
  EXPECT_EQ(FL_EVT_F_PERMISSION, fl_event_id(&world.event));
  fl_inv_va(&world.iommu, ModelWorld::kVmid, 1, kVa, true);
  EXPECT_EQ(FL_TRANSLATED, world.go(kVa, FL_ACCESS_WRITE, 0));
}

TEST_F(ModelTlb, ADisabledHalfStillAnswersFromTheCache) {
  cd[0].regime.half[0].epd = true;
  world.write_cd(ModelWorld::kCd, cd[0]);
  fl_inv_cd(&world.iommu, ModelWorld::kSid, 0, true);
  EXPECT_EQ(kOld + 0x1000, world.reach(kVa, 0));
  EXPECT_EQ(std::nullopt, world.reach(kVa + 0x10000, 0));
  EXPECT_EQ(FL_EVT_F_TRANSLATION, fl_event_id(&world.event));
  fl_inv_asid(&world.iommu, ModelWorld::kVmid, 1);
  EXPECT_EQ(std::nullopt, world.reach(kVa, 0));
  EXPECT_EQ(FL_EVT_F_TRANSLATION, fl_event_id(&world.event));
}

TEST_F(ModelTlb, FaultingDescriptorsAreNeverCached) {
  auto& half = cd[0].regime.half[0];
  constexpr std::uint64_t kOther = 0x40005000;
  for (const std::uint64_t bad :
       {std::uint64_t{0}, (kNew | kPage) & ~static_cast<std::uint64_t>(kAf), kNew | kBlock,
        ModelWorld::kRam | kPage}) {
    world.put(half, kOther, 3, bad);
    EXPECT_EQ(std::nullopt, world.reach(kOther, 0));
    world.put(half, kOther, 3, kNew | kPage);
    EXPECT_EQ(kNew, world.reach(kOther, 0));
    fl_inv_va(&world.iommu, ModelWorld::kVmid, 1, kOther, true);
  }
}

TEST_F(ModelTlb, AnyAddressOfALeafRemovesAllItsPieces) {
  // Stage 2 backs this block in two halves, so it is cached in pages.
  auto& half = cd[0].regime.half[0];
  const std::uint64_t ipa = ModelWorld::kRam;
  ASSERT_EQ(0, fl_stage2_map(&world.domain.s2, ipa, 0x100000, 0x10000, FL_PROT_READ));
  ASSERT_EQ(0, fl_stage2_map(&world.domain.s2, ipa + 0x100000, 0x100000, 0x900000, FL_PROT_READ));
  world.put(half, 0xc0000000, 2, ipa | kBlock);
  ASSERT_EQ(FL_TRANSLATED, world.go(0xc0000000, 0, 0));
  EXPECT_EQ(0x1000U, world.result.size);
  ASSERT_EQ(FL_TRANSLATED, world.go(0xc0100000, 0, 0));
  EXPECT_EQ(0x900000U, world.result.host);
  EXPECT_EQ(2U, fl_inv_va(&world.iommu, ModelWorld::kVmid, 1, 0xc01ff000, true));
}

// ---- walk cache
// ---------------------------------------------------------------------------------------

TEST_F(ModelTlb, LeafInvalidationsLeaveTableDescriptors) {
  auto& half = cd[0].regime.half[0];
  // The whole level-3 table is replaced by another one.
  const std::uint64_t other = world.alloc_page();
  world.write(other + 8 * 1, 0xaaa000 | kPage);
  world.put(half, kVa, 2, other | kTable);
  fl_inv_va(&world.iommu, ModelWorld::kVmid, 1, kVa, true);
  EXPECT_EQ(kNew + 0x1000, world.reach(kVa, 0));  // through the old table
  fl_inv_va(&world.iommu, ModelWorld::kVmid, 2, kVa, false);
  fl_inv_va(&world.iommu, ModelWorld::kVmid, 1, kVa, true);
  EXPECT_EQ(kNew + 0x1000, world.reach(kVa, 0));
  fl_inv_va(&world.iommu, ModelWorld::kVmid, 1, kVa, false);
  EXPECT_EQ(0xaaa000U, world.reach(kVa, 0));
}

TEST_F(ModelTlb, EveryWiderInvalidationRemovesTableDescriptorsToo) {
  auto& half = cd[0].regime.half[0];
  const std::function<void()> kinds[] = {
      [&] { fl_inv_vmid(&world.iommu, ModelWorld::kVmid); },
      [&] { fl_inv_tlb_all(&world.iommu); },
      [&] { fl_inv_asid(&world.iommu, ModelWorld::kVmid, 1); },
      [&] { fl_inv_vaa(&world.iommu, ModelWorld::kVmid, kVa, false); },
      [&] { fl_inv_va_range(&world.iommu, ModelWorld::kVmid, 1, kVa, 0x1000, false); },
      [&] { fl_inv_vaa_range(&world.iommu, ModelWorld::kVmid, 0, ~0ULL, false); },
  };
  std::uint64_t page = 0xaaa000;
  for (const auto& invalidate : kinds) {
    const std::uint64_t other = world.alloc_page();
    world.write(other + 8 * 1, (page += 0x1000) | kPage);
    world.put(half, kVa, 2, other | kTable);
    invalidate();
    EXPECT_EQ(page, world.reach(kVa, 0));
  }
}

TEST_F(ModelTlb, ACachedTableSavesItsReads) {
  world.reads = 0;
  auto& half = cd[0].regime.half[0];
  world.put(half, 0x40009000, 3, 0x5000 | kPage);
  ASSERT_EQ(0x5000U, world.reach(0x40009000, 0));
  EXPECT_EQ(1U, world.reads);
}

TEST_F(ModelTlb, TableRestrictionsSurviveInTheWalkCache) {
  auto& half = cd[0].regime.half[0];
  constexpr std::uint64_t kRegion = 0x100000000;
  world.put(half, kRegion, 3, 0x5000 | kPage);
  world.put(half, kRegion + 0x1000, 3, 0x6000 | kPage);
  const std::uint64_t entry = world.put(half, kRegion, 1, 0);  // where the table descriptor was
  world.write(entry, world.alloc_page() | kTable | 1ULL << 62U);
  world.put(half, kRegion, 3, 0x5000 | kPage);
  world.put(half, kRegion + 0x1000, 3, 0x6000 | kPage);
  EXPECT_EQ(FL_TRANSLATED, world.go(kRegion, 0, 0));
  EXPECT_EQ(FL_FAULTED, world.go(kRegion + 0x1000, FL_ACCESS_WRITE, 0));  // found in the cache
  EXPECT_EQ(FL_EVT_F_PERMISSION, fl_event_id(&world.event));
}

// ---- exact coverage, on random contents
// -----------------------------------------------------------------

class RandomTlb {
 public:
  explicit RandomTlb(std::uint64_t seed) : random_(seed) {
    EXPECT_EQ(0, fl_tlb_init(&tlb, sets_.data(), static_cast<std::uint32_t>(sets_.size())));
    for (int i = 0; i < 200; ++i) add();
  }

  void add() {
    fl_tlb_entry e{};
    constexpr std::array<std::uint8_t, 3> kLog2 = {12, 21, 30};
    const unsigned leaf = static_cast<unsigned>(random_() % 3);
    e.leaf_log2 = kLog2.at(leaf);
    e.log2 = kLog2.at(random_() % (leaf + 1));
    const std::uint64_t va = address();
    e.va = va >> e.log2 << e.log2;
    e.leaf_va = va >> e.leaf_log2 << e.leaf_log2;
    e.vmid = static_cast<std::uint16_t>(random_() % 2);
    e.asid = static_cast<std::uint16_t>(random_() % 3);
    e.global = random_() % 3 == 0;
    fl_tlb_put(&tlb, &e);
  }

  std::uint64_t address() {
    const std::uint64_t low = random_() % (4ULL << 30U);
    return random_() % 4 == 0 ? ~low : low;
  }

  std::multiset<std::uint64_t> serials(const std::function<bool(const fl_tlb_entry&)>& keep) const {
    std::multiset<std::uint64_t> s;
    for (const auto& set : sets_)
      for (const auto& e : set.way)
        if (e.valid && keep(e)) s.insert(e.serial);
    return s;
  }

  std::array<fl_tlb_set, 64> sets_{};
  fl_tlb tlb{};
  std::mt19937_64 random_;
};

TEST(ModelTlbAtRandom, RemovesExactlyWhatTheArchitectureSays) {
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    RandomTlb t(seed);
    auto& random = t.random_;
    const auto vmid = static_cast<std::uint16_t>(random() % 2);
    const auto asid = static_cast<std::uint16_t>(random() % 3);
    const std::uint64_t va = t.address() & ~0xfffULL;
    const std::uint64_t size = 0x1000ULL << random() % 24;
    const std::uint64_t last = size - 1 > ~va ? ~0ULL : va + size - 1;
    const bool any = random() % 2 == 0;
    const auto overlaps = [&](const fl_tlb_entry& e) {
      const std::uint64_t end = e.leaf_va + ((1ULL << e.leaf_log2) - 1);
      return e.leaf_va <= last && end >= va;
    };
    std::function<bool(const fl_tlb_entry&)> gone;
    std::function<std::uint32_t()> act;
    switch (seed % 4) {
      case 0:
        gone = [&](const auto& e) { return e.vmid == vmid; };
        act = [&] { return fl_tlb_drop_vmid(&t.tlb, vmid); };
        break;
      case 1:
        gone = [&](const auto& e) { return e.vmid == vmid && !e.global && e.asid == asid; };
        act = [&] { return fl_tlb_drop_asid(&t.tlb, vmid, asid); };
        break;
      default:
        gone = [&](const auto& e) {
          return e.vmid == vmid && (any || e.global || e.asid == asid) && overlaps(e);
        };
        act = [&] { return fl_tlb_drop_range(&t.tlb, vmid, asid, any, va, last); };
    }
    const auto all = t.serials([](const auto&) { return true; });
    const auto expect = t.serials([&](const auto& e) { return !gone(e); });
    ASSERT_EQ(all.size() - expect.size(), act()) << "seed " << seed;
    ASSERT_EQ(expect, t.serials([](const auto&) { return true; })) << "seed " << seed;
    ASSERT_EQ(expect.size(), t.tlb.used[0] + t.tlb.used[1] + t.tlb.used[2]);
  }
}

TEST(ModelTlbAtRandom, FindsWhatWasPutUntilItIsReplaced) {
  RandomTlb t(1);
  for (const auto& set : t.sets_)
    for (const auto& e : set.way) {
      if (!e.valid) continue;
      const auto* found = fl_tlb_find(&t.tlb, e.vmid, e.asid, e.aset, e.va + (1ULL << e.log2) - 1);
      ASSERT_NE(nullptr, found);
      EXPECT_LE(found->va, e.va);
    }
}

TEST(ModelTlbAtRandom, GlobalEntriesMatchWithinTheirAsetOnly) {
  std::array<fl_tlb_set, 2> sets{};
  fl_tlb tlb{};
  ASSERT_EQ(0, fl_tlb_init(&tlb, sets.data(), 2));
  fl_tlb_entry e{};
  e.va = e.leaf_va = 0x5000;
  e.log2 = e.leaf_log2 = 12;
  e.asid = 1;
  e.global = true;
  fl_tlb_put(&tlb, &e);
  EXPECT_NE(nullptr, fl_tlb_find(&tlb, 0, 9, false, 0x5000));
  EXPECT_EQ(nullptr, fl_tlb_find(&tlb, 0, 1, true, 0x5000));
  EXPECT_EQ(-FL_EINVAL, fl_tlb_init(&tlb, sets.data(), 3));
}

}  // namespace
}  // namespace faultline::test
