// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/model/fl_walk.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/support/model_world.h"
#include "tests/support/reference_walker.h"

namespace faultline::test {
namespace {

// ---- against the second walker, on random tables ------------------------------------------------

/// One random regime with tables, leaves, holes in stage 2 and broken memory.
class RandomTables {
 public:
  RandomTables(std::mt19937_64& random, ModelWorld& cold, ModelWorld& warm)
      : random_(random), cold_(cold), warm_(warm) {
    make_stage2();
    make_regime();
    for (int i = 0; i < 24; ++i) add_leaf();
    for (int i = 0; i < 6; ++i) spoil_an_entry();
    for (int i = 0; i < 2; ++i)
      if (chance(2)) break_page(pick(tables_));
    for (auto* w : {&cold_, &warm_}) {
      w->write_cd(ModelWorld::kCd, cd_);
      w->attach({.base_ptr = ModelWorld::kCd,
                 .mode = FL_S1_TRANSLATE,
                 .s1fmt = 0,
                 .s1dss = 0,
                 .s1cdmax = 0});
    }
  }

  /// An address worth asking about: near a leaf, near the ends of a region, or anything.
  std::uint64_t address() {
    const std::uint64_t near_leaf = pick(vas_);
    switch (below(8)) {
      case 0:
        return random_();
      case 1: {
        const unsigned i = below(2);
        const std::uint64_t size = 1ULL << (64 - cd_.regime.half.at(i).txsz);
        const std::uint64_t edge = i == 0 ? size : 0 - size;
        return edge + below(0x3000) - 0x1800;
      }
      case 2:
        return near_leaf ^ (random_() << 56U);
      default:
        return near_leaf + (below(2) == 0 ? below(0x1000) : below(1U << 21U));
    }
  }

  /// What the architecture says, as an outcome and event words.
  std::pair<fl_outcome, std::array<std::uint64_t, 4>> expect(std::uint64_t va,
                                                             std::uint8_t access) {
    const ReferenceWalker walker(cd_.regime, stage2_, [this](std::uint64_t host) {
      return cold_.broken.contains(host & ~0xfffULL) ? std::nullopt : std::optional(lookup(host));
    });
    const ReferenceAccess a{.write = (access & FL_ACCESS_WRITE) != 0,
                            .fetch = (access & FL_ACCESS_EXEC) != 0,
                            .privileged = (access & FL_ACCESS_PRIV) != 0};
    const auto outcome = walker.translate(va, a);
    if (const auto* host = std::get_if<std::uint64_t>(&outcome)) return {FL_TRANSLATED, {*host}};
    const auto fault = std::get<ReferenceFault>(outcome);
    constexpr std::array<std::uint64_t, 5> kIds = {0x10, 0x11, 0x12, 0x13, 0x0b};
    const std::uint64_t id = kIds.at(static_cast<std::size_t>(fault.kind));
    if (!cd_.record && !fault.stage2 && id >= 0x10) return {FL_TERMINATED, {}};
    std::uint64_t w1 = static_cast<std::uint64_t>(fault.klass) << 40U;
    if (a.privileged) w1 |= 1ULL << 33U;
    if (a.fetch && !a.write) w1 |= 1ULL << 34U;
    if (!a.write) w1 |= 1ULL << 35U;
    if (fault.stage2) w1 |= 1ULL << 39U;
    if (fault.stage2 && id == 0x13 && fault.klass == FaultClass::kTable) w1 |= 1ULL << 44U;
    return {
        FL_FAULTED,
        {static_cast<std::uint64_t>(ModelWorld::kSid) << 32U | id, w1, va, fault.second_address}};
  }

 private:
  unsigned below(unsigned n) { return static_cast<unsigned>(random_() % n); }
  bool chance(unsigned one_in) { return below(one_in) == 0; }
  template <class T>
  T pick(const std::vector<T>& v) {
    return v.at(random_() % v.size());
  }

  std::uint64_t lookup(std::uint64_t host) const {
    const auto it = cold_.words.find(host);
    return it == cold_.words.end() ? 0 : it->second;
  }

  // Low windows with each kind of rights, and some that a small IPS cannot reach.
  void make_stage2() {
    const auto window = [&](std::uint64_t ipa, std::uint64_t size, unsigned prot) {
      stage2_[ipa] = {.size = size,
                      .host = ModelWorld::kHost + ipa,
                      .readable = (prot & FL_PROT_READ) != 0,
                      .writable = (prot & FL_PROT_WRITE) != 0};
      for (auto* w : {&cold_, &warm_})
        ASSERT_EQ(0, fl_stage2_map(&w->domain.s2, ipa, size, ModelWorld::kHost + ipa, prot));
    };
    constexpr unsigned kRw = FL_PROT_READ | FL_PROT_WRITE;
    window(0, 0x10000000, kRw);
    window(0x10000000, 0x1000, FL_PROT_READ);
    window(0x10001000, 0x3000, FL_PROT_WRITE);
    window(0x20000000, 0x20000000, kRw);
    window(0x40000000, 0x40000000, FL_PROT_READ);
    window(0x800000000, 0x80000000, kRw);
    window(0x2000000000, 0x40000000, kRw);
  }

  void make_regime() {
    auto& r = cd_.regime;
    for (auto& h : r.half) {
      h.txsz = 16 + below(24);
      h.table = 0x200000 + 0x1000 * below(16);
      h.epd = chance(8);
      h.tbi = chance(2);
      h.hpd = chance(3);
      // A starting table shorter than a page may lie anywhere in one.
      const unsigned bits = 64 - h.txsz - 12;
      const std::uint64_t size = 8ULL << (bits % 9 == 0 ? 9 : bits % 9);
      h.table += size * below(static_cast<unsigned>(0x1000 / size));
      tables_.push_back(h.table & ~0xfffULL);
    }
    if (r.half[0].table >> 12U == r.half[1].table >> 12U) r.half[1].table += 0x20000;
    constexpr std::array<unsigned, 6> kIps = {32, 36, 40, 42, 44, 48};
    r.ips_bits = kIps.at(below(6));
    r.access_flag_faults = !chance(4);
    r.wxn = chance(4);
    r.pan = chance(4);
    cd_.record = !chance(8);
  }

  std::uint64_t table_address() {
    switch (below(24)) {
      case 0:
        return 0x10000000;  // read only is enough for a table
      case 1:
        return 0x10001000;  // no read permission
      case 2:
        return 0x1f000000 + 0x1000 * below(16);  // a hole
      case 3:
        return 0x800000000 + 0x1000ULL * below(1024);  // beyond a 32-bit IPS
      default:
        return 0x300000 + 0x1000ULL * below(4096);
    }
  }

  std::uint64_t output_address() {
    switch (below(12)) {
      case 0:
        return random_() & 0xfffffffff000;
      case 1:
        return 0x10000000 + 0x1000ULL * below(8);
      case 2:
        return 0x2000000000 + 0x1000ULL * below(0x40000);
      case 3:
        return 0x40000000 + 0x1000ULL * below(0x40000);
      default:
        return 0x1000ULL * below(0x90000);
    }
  }

  std::uint64_t leaf_attributes() {
    std::uint64_t d = random_() & (0x3ULL << 6U | kNonGlobal | kPxn | kUxn | 0xffcULL << 52U);
    if (!chance(6)) d |= kAf;
    if (chance(2)) d &= ~(kPxn | kUxn | static_cast<std::uint64_t>(kReadOnly));
    if (chance(2)) d |= kUser;
    return d;
  }

  void both_write(std::uint64_t ipa, std::uint64_t value) {
    cold_.write(ipa, value);
    warm_.write(ipa, value);
    entries_.push_back(ipa);
  }

  void add_leaf() {
    const unsigned which = below(2);
    const auto& h = cd_.regime.half.at(which);
    const unsigned region = 64 - h.txsz;
    std::uint64_t offset = random_() & ((1ULL << region) - 1);
    if (!vas_.empty() && chance(2))
      offset = (pick(vas_) & ((1ULL << region) - 1)) ^ (0x1000ULL * below(1024));
    const std::uint64_t va = which == 0 ? offset : ~0ULL << region | offset;
    vas_.push_back(va);
    unsigned level = 3 - (region - 12 - 1) / 9;
    std::uint64_t table = h.table;
    for (;; ++level) {
      const unsigned shift = 39 - 9 * level;
      const std::uint64_t entry = table + 8 * ((offset >> shift) & 511U);
      const bool leaf = level == 3 || (level > 0 && chance(level == 1 ? 6 : 3));
      if (leaf) {
        both_write(entry, output_address() | leaf_attributes() |
                              (level == 3 ? kValid | kPageOrTable : kValid));
        return;
      }
      std::uint64_t next = lookup(entry + ModelWorld::kHost);
      if ((next & kTable) != kTable) {
        next = table_address() | kTable;
        if (chance(4)) next |= 1ULL << (59 + below(4));
        both_write(entry, next);
        tables_.push_back(next & 0xfffffffff000);
      }
      table = next & 0xfffffffff000;
    }
  }

  // Reserved and invalid encodings, and random words, where a descriptor was.
  void spoil_an_entry() {
    const std::uint64_t ipa = pick(entries_);
    const std::uint64_t old = lookup(ipa + ModelWorld::kHost);
    switch (below(4)) {
      case 0:
        return both_write(ipa, old & ~1ULL);
      case 1:
        return both_write(ipa, old ^ 2U);
      case 2:
        return both_write(ipa, old ^ (1ULL << below(64)));
      default:
        return both_write(ipa, random_());
    }
  }

  void break_page(std::uint64_t ipa) {
    cold_.broken.insert(ipa + ModelWorld::kHost);
    warm_.broken.insert(ipa + ModelWorld::kHost);
  }

  std::mt19937_64& random_;
  ModelWorld& cold_;
  ModelWorld& warm_;
  CdFields cd_;
  Stage2 stage2_;
  std::vector<std::uint64_t> vas_, tables_, entries_;
};

TEST(ModelWalk, AgreesWithTheSecondWalkerOnRandomTables) {
  constexpr std::uint64_t kSeed = 20190408;
  std::mt19937_64 random(kSeed);
  std::map<std::pair<int, unsigned>, int> seen;
  for (int table = 0; table < 1500; ++table) {
    ModelWorld cold(0);
    ModelWorld warm(4);  // small, so that replacement happens as well
    RandomTables tables(random, cold, warm);
    for (int i = 0; i < 80; ++i) {
      const std::uint64_t va = tables.address();
      const auto access = static_cast<std::uint8_t>(random() % 8);
      const auto [outcome, words] = tables.expect(va, access);
      SCOPED_TRACE(::testing::Message() << "seed " << kSeed << " table " << table << " query " << i
                                        << std::hex << " va " << va << " access " << +access);
      for (auto* w : {&cold, &warm}) {
        ASSERT_EQ(outcome, w->go(va, access));
        if (outcome == FL_TRANSLATED) {
          ASSERT_EQ(words[0], w->result.host);
        }
        for (unsigned k = 0; outcome == FL_FAULTED && k < 4; ++k) {
          ASSERT_EQ(words.at(k), w->event.w[k]) << "word " << k;
        }
      }
      ++seen[{outcome, outcome == FL_FAULTED ? words[0] & 0xff : 0}];
    }
  }
  // The comparison is worth nothing unless every kind of answer came up often.
  EXPECT_GT((seen[{FL_TRANSLATED, 0}]), 5000);
  for (unsigned id : {0x0bU, 0x10U, 0x11U, 0x12U, 0x13U})
    EXPECT_GT((seen[{FL_FAULTED, id}]), 200) << std::hex << id;
  EXPECT_GT((seen[{FL_TERMINATED, 0}]), 200);
}

// ---- by hand
// ---------------------------------------------------------------------------------------

class ModelWalkByHand : public ::testing::Test {
 protected:
  ModelWalkByHand() { world.map_ram(); }
  ModelWorld world{0};
};

TEST_F(ModelWalkByHand, EveryRegionSizeOfBothHalvesReachesItsFirstAndLastPage) {
  for (unsigned txsz = 16; txsz <= 39; ++txsz) {
    for (unsigned which = 0; which < 2; ++which) {
      CdFields cd;
      cd.regime.half.at(1 - which).epd = true;
      auto& half = cd.regime.half.at(which);
      half.txsz = txsz;
      half.table = world.alloc_page();
      const std::uint64_t size = 1ULL << (64 - txsz);
      const std::uint64_t first = which == 0 ? 0 : 0 - size;
      const std::uint64_t last = first + size - 0x1000;
      world.put(half, first, 3, 0x5000 | kPage);
      world.put(half, last, 3, 0x6000 | kPage);
      world.write_cd(ModelWorld::kCd, cd);
      world.attach({.base_ptr = ModelWorld::kCd,
                    .mode = FL_S1_TRANSLATE,
                    .s1fmt = 0,
                    .s1dss = 0,
                    .s1cdmax = 0});
      EXPECT_EQ(0x5123U, world.reach(first + 0x123)) << txsz << " half " << which;
      EXPECT_EQ(0x6fffU, world.reach(last + 0xfff)) << txsz << " half " << which;
      // One byte outside the region.
      EXPECT_EQ(std::nullopt, world.reach(which == 0 ? size : first - 1));
      EXPECT_EQ(FL_EVT_F_TRANSLATION, fl_event_id(&world.event));
    }
  }
}

TEST_F(ModelWalkByHand, BlocksExistAtLevelsOneAndTwoOnly) {
  const auto cd = world.attach_simple();
  const auto& half = cd.regime.half[0];
  world.put(half, 0, 2, 0x00a00000 | kBlock);
  world.put(half, 1ULL << 30U, 1, 0x40000000 | kBlock);
  world.put(half, 1ULL << 39U, 0, 0x40000000 | kBlock);
  world.put(half, 2ULL << 30U, 3, 0x5000 | kBlock);
  EXPECT_EQ(0x00a12345U, world.reach(0x12345));
  EXPECT_EQ(0x52345678U, world.reach((1ULL << 30U) + 0x12345678));
  EXPECT_EQ(std::nullopt, world.reach(1ULL << 39U));
  EXPECT_EQ(FL_EVT_F_TRANSLATION, fl_event_id(&world.event));
  EXPECT_EQ(std::nullopt, world.reach(2ULL << 30U));
  EXPECT_EQ(FL_EVT_F_TRANSLATION, fl_event_id(&world.event));
}

TEST_F(ModelWalkByHand, TaggedAddressesAreReportedAsTheyCame) {
  auto cd = world.simple_cd();
  cd.regime.half[0].tbi = true;
  world.write_cd(ModelWorld::kCd, cd);
  world.attach(
      {.base_ptr = ModelWorld::kCd, .mode = FL_S1_TRANSLATE, .s1fmt = 0, .s1dss = 0, .s1cdmax = 0});
  world.put(cd.regime.half[0], 0x8000, 3, 0x5000 | kPage);
  EXPECT_EQ(0x5000U, world.reach(0xab00000000008000));
  EXPECT_EQ(std::nullopt, world.reach(0xab00000000009000));
  EXPECT_EQ(0xab00000000009000U, world.event.w[2]);
}

TEST_F(ModelWalkByHand, AddressSizeIsCheckedBeforeTheAccessFlagAndPermissions) {
  auto cd = world.simple_cd();
  cd.regime.ips_bits = 36;
  world.write_cd(ModelWorld::kCd, cd);
  world.attach(
      {.base_ptr = ModelWorld::kCd, .mode = FL_S1_TRANSLATE, .s1fmt = 0, .s1dss = 0, .s1cdmax = 0});
  const auto& half = cd.regime.half[0];
  world.put(half, 0x1000, 3, (1ULL << 36U) | kValid | kPageOrTable);
  world.put(half, 0x2000, 3, 0x5000 | kValid | kPageOrTable);
  world.put(half, 1ULL << 39U, 0, (1ULL << 40U) | kTable);
  world.go(0x1000);
  EXPECT_EQ(FL_EVT_F_ADDR_SIZE, fl_event_id(&world.event));
  world.go(0x2000);
  EXPECT_EQ(FL_EVT_F_ACCESS, fl_event_id(&world.event));
  world.go(1ULL << 39U);
  EXPECT_EQ(FL_EVT_F_ADDR_SIZE, fl_event_id(&world.event));
  EXPECT_EQ(FL_CLASS_IN, fl_event_class_of(&world.event));
}

TEST_F(ModelWalkByHand, ADoorbellCanBeWrittenButNotReadOrWalkedThrough) {
  const auto cd = world.attach_simple();
  constexpr std::uint64_t kDoorbell = 0x200000000;
  ASSERT_EQ(0, fl_stage2_bind_doorbell(&world.domain.s2, kDoorbell, 0x1000, 0x9000));
  world.put(cd.regime.half[0], 0x1000, 3, kDoorbell | kPage);
  world.put(cd.regime.half[0], 1ULL << 39U, 0, kDoorbell | kTable);
  ASSERT_EQ(FL_TRANSLATED, world.go(0x1040, FL_ACCESS_WRITE));
  EXPECT_EQ(0x9040U, world.result.host);
  EXPECT_TRUE(world.result.prot & FL_PROT_MMIO);
  ASSERT_EQ(FL_FAULTED, world.go(0x1040));
  EXPECT_TRUE(fl_event_s2(&world.event));
  EXPECT_EQ(FL_CLASS_IN, fl_event_class_of(&world.event));
  ASSERT_EQ(FL_FAULTED, world.go(1ULL << 39U));
  EXPECT_TRUE(fl_event_s2(&world.event));
  EXPECT_EQ(FL_CLASS_TT, fl_event_class_of(&world.event));
  EXPECT_EQ(1U, world.iommu.stats.s2_events);
  EXPECT_EQ(1U, world.iommu.stats.s2_tt_events);
}

TEST_F(ModelWalkByHand, ResultCoversThePageTheBlockOrWhatStageTwoBacks) {
  const auto cd = world.attach_simple();
  const auto& half = cd.regime.half[0];
  world.put(half, 0x3000, 3, 0x5000 | kPage);
  world.put(half, 0x400000, 2, 0x600000 | kBlock);
  // This block ends in memory that stage 2 has elsewhere: only whole pieces are contiguous.
  world.put(half, 0x600000, 2, (ModelWorld::kRam - 0x200000) | kBlock);
  ASSERT_EQ(0, fl_stage2_map(&world.domain.s2, ModelWorld::kRam, 0x1000, 0x1000, FL_PROT_READ));
  world.put(half, 1ULL << 30U, 1, (ModelWorld::kRam + 0x40000000) | kBlock);
  ASSERT_EQ(0, fl_stage2_map(&world.domain.s2, ModelWorld::kRam + 0x40001000, 0x3000, 0x2000,
                             FL_PROT_READ));
  ASSERT_EQ(0x5abcU, world.reach(0x3abc));
  EXPECT_EQ(0x544U, world.result.size);
  ASSERT_EQ(0x600010U, world.reach(0x400010));
  EXPECT_EQ(0x1ffff0U, world.result.size);
  ASSERT_TRUE(world.reach(0x600000));
  EXPECT_EQ(0x200000U, world.result.size);
  ASSERT_EQ(FL_TRANSLATED, world.go((1ULL << 30U) + 0x2800));
  EXPECT_EQ(0x3800U, world.result.host);
  EXPECT_EQ(0x800U, world.result.size);
}

}  // namespace
}  // namespace faultline::test
