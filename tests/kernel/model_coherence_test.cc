// SPDX-License-Identifier: BSD-3-Clause
// All caches together: a guest that follows each change of its tables with an invalidation that is
// just sufficient never sees anything but its tables.
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "kernel/model/fl_iommu.h"
#include "tests/support/model_world.h"

namespace faultline::test {
namespace {

class Guest {
 public:
  explicit Guest(std::uint64_t seed) : random_(seed) {
    for (auto* w : {&warm_, &cold_}) w->map_ram();
    for (std::uint32_t s = 0; s < 2; ++s) change_cd(s);
    for (auto* w : {&warm_, &cold_})
      w->attach({.base_ptr = ModelWorld::kCd,
                 .mode = FL_S1_TRANSLATE,
                 .s1fmt = FL_S1_LINEAR,
                 .s1dss = 0,
                 .s1cdmax = 1});
  }

  void step() {
    switch (below(16)) {
      case 0:
        return change_table();
      case 1:
        return below(8) == 0 ? change_cd(below(2)) : change_block();
      case 2:
        return change_global();
      case 3:
      case 4:
      case 5:
        return change_page();
      default:
        return ask();
    }
  }

  [[nodiscard]] std::uint64_t hits() const { return warm_.iommu.stats.tlb_hits; }

 private:
  unsigned below(unsigned n) { return static_cast<unsigned>(random_() % n); }

  // 8 pages in each of 4 regions of 2 MiB, two of them in one region of 1 GiB; the last two pages
  // of each are global.
  std::uint64_t page_va() { return region_va() + 0x1000ULL * below(6); }
  std::uint64_t global_va() { return region_va() + 0x6000 + 0x1000ULL * below(2); }
  std::uint64_t region_va() {
    constexpr std::uint64_t kRegions[] = {0, 0x200000, 0x40000000, 0x8000000000};
    return kRegions[below(4)];
  }
  static constexpr std::uint64_t kBlock0 = 0x400000;  // two blocks beside them

  std::uint64_t leaf() {
    std::uint64_t d = (0x10000000 + 0x1000ULL * below(0x1000)) | kPage;
    if (below(8) == 0) d &= ~1ULL;
    if (below(8) == 0) d |= kReadOnly;
    return d;
  }

  const Regime::Half& half(std::uint32_t s) const { return cd_[s].regime.half[0]; }
  static std::uint16_t asid(std::uint32_t s) { return static_cast<std::uint16_t>(s + 1); }

  void put(std::uint32_t s, std::uint64_t va, unsigned level, std::uint64_t descriptor) {
    warm_.put(half(s), va, level, descriptor);
  }

  void change_page() {
    const std::uint32_t s = below(2);
    const std::uint64_t va = page_va();
    put(s, va, 3, leaf());
    invalidate_leaf(s, va, true);
  }

  void change_block() {
    const std::uint32_t s = below(2);
    const std::uint64_t va = kBlock0 + 0x200000ULL * below(2);
    put(s, va, 2, (0x20000000 + 0x200000ULL * below(64)) | kBlock);
    invalidate_leaf(s, va + 0x1000ULL * below(512), true);
  }

  void change_global() {
    const std::uint64_t va = global_va();
    const std::uint64_t d = leaf() & ~static_cast<std::uint64_t>(kNonGlobal);
    for (std::uint32_t s = 0; s < 2; ++s) put(s, va, 3, d);
    invalidate_leaf(below(5), va, false);  // the ASID does not matter
  }

  // Another level-3 table in place of the one there, with other pages in it.
  void change_table() {
    const std::uint32_t s = below(2);
    const std::uint64_t region = region_va();
    const std::uint64_t old = warm_.read(warm_.put(half(s), region, 2, peek(s, region)));
    const std::uint64_t table = warm_.alloc_page();
    for (unsigned i = 0; i < 6; ++i) warm_.write(table + 8 * i, leaf());
    for (unsigned i = 6; i < 8; ++i)
      warm_.write(table + 8 * i, warm_.read((old & 0xfffffffff000) + 8 * i));
    put(s, region, 2, table | kTable);
    fl_iommu* mmu = &warm_.iommu;
    switch (below(4)) {
      case 0:
        fl_inv_vmid(mmu, ModelWorld::kVmid);
        break;
      case 1:
        fl_inv_asid(mmu, ModelWorld::kVmid, asid(s));
        break;
      case 2:
        fl_inv_va_range(mmu, ModelWorld::kVmid, asid(s), region, 0x200000, false);
        break;
      default:
        for (unsigned i = 0; i < 8; ++i)
          fl_inv_va(mmu, ModelWorld::kVmid, asid(s), region + 0x1000 * i, i != 3);
    }
  }

  /// The level-2 descriptor there is now (making the tables above it).
  std::uint64_t peek(std::uint32_t s, std::uint64_t va) {
    const std::uint64_t any = warm_.put(half(s), va, 3, 0);  // makes the level-3 table
    put(s, va, 3, leaf());
    invalidate_leaf(s, va, true);
    return (any & ~0xfffULL) | kTable;
  }

  void change_cd(std::uint32_t s) {
    // New tables under the old ASID: its translations have to go, and so has the descriptor.
    cd_[s] = warm_.simple_cd(asid(s));
    warm_.write_cd(ModelWorld::kCd + 64 * s, cd_[s]);
    for (const std::uint64_t va : {0ULL, 0x200000ULL, 0x40000000ULL, 0x8000000000ULL})
      for (unsigned i = 6; i < 8; ++i) put(s, va + 0x1000 * i, 3, 0);
    if (cd_[1 - s].regime.half[0].table != 0)
      for (const std::uint64_t va : {0ULL, 0x200000ULL, 0x40000000ULL, 0x8000000000ULL})
        for (unsigned i = 6; i < 8; ++i) put(1 - s, va + 0x1000 * i, 3, 0);
    fl_inv_cd(&warm_.iommu, ModelWorld::kSid, s, true);
    fl_inv_asid(&warm_.iommu, ModelWorld::kVmid, asid(s));
    for (const std::uint64_t va : {0ULL, 0x200000ULL, 0x40000000ULL, 0x8000000000ULL})
      fl_inv_vaa_range(&warm_.iommu, ModelWorld::kVmid, va + 0x6000, 0x2000, true);
  }

  // Any of the commands that cover one address of one ASID.
  void invalidate_leaf(std::uint32_t s, std::uint64_t va, bool own) {
    fl_iommu* mmu = &warm_.iommu;
    switch (below(own ? 7 : 6)) {
      case 0:
        fl_inv_vaa(mmu, ModelWorld::kVmid, va, true);
        return;
      case 1:
        fl_inv_vaa_range(mmu, ModelWorld::kVmid, va & ~0xfffffULL, 0x100000, true);
        return;
      case 2:
        fl_inv_va_range(mmu, ModelWorld::kVmid, asid(s), va, 1, below(2) == 0);
        return;
      case 3:
        if (below(16) == 0) fl_inv_tlb_all(mmu);
        [[fallthrough]];
      case 4:
      case 5:
        fl_inv_va(mmu, ModelWorld::kVmid, asid(s), va, below(2) == 0);
        return;
      default:
        fl_inv_asid(mmu, ModelWorld::kVmid, asid(s));
    }
  }

  void ask() {
    const std::uint32_t s = below(2);
    std::uint64_t va = below(4) == 0 ? global_va() : page_va();
    if (below(4) == 0) va = kBlock0 + 0x1000ULL * below(1024);
    va += 8 * below(512);
    const auto access = static_cast<std::uint8_t>(below(2));
    cold_.words = warm_.words;
    const auto expect = cold_.go(va, access, s);
    ASSERT_EQ(expect, warm_.go(va, access, s)) << std::hex << va << " of " << s;
    ASSERT_EQ(cold_.result.host, warm_.result.host) << std::hex << va << " of " << s;
    for (unsigned i = 0; i < 4; ++i) ASSERT_EQ(cold_.event.w[i], warm_.event.w[i]);
  }

  std::mt19937_64 random_;
  ModelWorld warm_{16}, cold_{0};
  CdFields cd_[2];
};

TEST(ModelCoherence, SufficientInvalidationsNeverLeaveAnythingStale) {
  std::uint64_t hits = 0;
  for (std::uint64_t seed = 0; seed < 16; ++seed) {
    Guest guest(seed);
    for (int i = 0; i < 1000 && !::testing::Test::HasFatalFailure(); ++i) {
      SCOPED_TRACE(::testing::Message() << "seed " << seed << " step " << i);
      guest.step();
    }
    hits += guest.hits();
  }
  EXPECT_GT(hits, 300U);
}

}  // namespace
}  // namespace faultline::test
