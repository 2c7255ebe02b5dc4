// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/model/fl_cd.h"

#include <gtest/gtest.h>

#include <array>
#include <functional>

#include "tests/support/model_world.h"

namespace faultline::test {
namespace {

CdFields good_cd() {
  CdFields f;
  f.asid = 0xbeef;
  f.aset = true;
  f.regime.half[0] = {.table = 0x12345000, .txsz = 16, .epd = false, .tbi = true, .hpd = false};
  f.regime.half[1] = {.table = 0x6789a000, .txsz = 25, .epd = false, .tbi = false, .hpd = true};
  f.regime.ips_bits = 44;
  f.regime.pan = true;
  return f;
}

TEST(ModelCd, DecodesTheFieldsWhereTheArchitectureHasThem) {
  // By hand, from the field table: T0SZ 16, T1SZ 25, TG1 4K = 2, V, IPS 44 bits = 4, WXN, TBI1,
  // AA64, R, A, ASID 0x1234; HAD0; EPD0 and EPD1 clear.
  const std::array<std::uint64_t, 8> raw = {0x1234'0000'8000'0000 | 16 | 25U << 16U | 2U << 22U |
                                                4ULL << 32U | 1ULL << 36U | 1ULL << 39U |
                                                1ULL << 41U | 1ULL << 45U | 1ULL << 46U,
                                            0x0000'0123'4567'8000 | 1U << 1U,
                                            0x0000'0abc'def0'1000,
                                            0,
                                            0,
                                            0,
                                            0,
                                            0};
  fl_cd cd{};
  ASSERT_EQ(0, fl_cd_decode(raw.data(), 48, &cd));
  EXPECT_EQ(0x1234, cd.asid);
  EXPECT_EQ(44, cd.ips_bits);
  EXPECT_TRUE(cd.wxn);
  EXPECT_TRUE(cd.record);
  EXPECT_FALSE(cd.affd);
  EXPECT_FALSE(cd.pan);
  EXPECT_FALSE(cd.aset);
  EXPECT_EQ(0x0000'0123'4567'8000U, cd.tt[0].base);
  EXPECT_EQ(16, cd.tt[0].tsz);
  EXPECT_TRUE(cd.tt[0].had);
  EXPECT_FALSE(cd.tt[0].tbi);
  EXPECT_EQ(0x0000'0abc'def0'1000U, cd.tt[1].base);
  EXPECT_EQ(25, cd.tt[1].tsz);
  EXPECT_FALSE(cd.tt[1].had);
  EXPECT_TRUE(cd.tt[1].tbi);
}

TEST(ModelCd, RefusesEveryIllegalOrUnsupportedValue) {
  const struct {
    const char* what;
    unsigned word;
    std::uint64_t clear, set;
  } cases[] = {
      {"V", 0, 1ULL << 31U, 0},
      {"AA64", 0, 1ULL << 41U, 0},
      {"A", 0, 1ULL << 46U, 0},
      {"S", 0, 0, 1ULL << 44U},
      {"HA", 0, 0, 1ULL << 43U},
      {"HD", 0, 0, 1ULL << 42U},
      {"ENDI", 0, 0, 1ULL << 15U},
      {"T0SZ 15", 0, 0x3f, 15},
      {"T0SZ 40", 0, 0x3f, 40},
      {"T1SZ 0", 0, 0x3fULL << 16U, 0},
      {"T1SZ 63", 0, 0x3fULL << 16U, 63ULL << 16U},
      {"TG0 64K", 0, 3ULL << 6U, 1ULL << 6U},
      {"TG0 16K", 0, 3ULL << 6U, 2ULL << 6U},
      {"TG0 reserved", 0, 3ULL << 6U, 3ULL << 6U},
      {"TG1 reserved", 0, 3ULL << 22U, 0},
      {"TG1 16K", 0, 3ULL << 22U, 1ULL << 22U},
      {"TG1 64K", 0, 3ULL << 22U, 3ULL << 22U},
      {"TTB0 beyond IPS", 1, 0, 1ULL << 44U},
      {"TTB1 beyond IPS", 2, 0, 1ULL << 51U},
  };
  fl_cd cd{};
  auto raw = encode_cd(good_cd());
  ASSERT_EQ(0, fl_cd_decode(raw.data(), 48, &cd));
  for (const auto& c : cases) {
    auto bad = raw;
    bad.at(c.word) = (bad.at(c.word) & ~c.clear) | c.set;
    EXPECT_EQ(-FL_EINVAL, fl_cd_decode(bad.data(), 48, &cd)) << c.what;
  }
}

TEST(ModelCd, IgnoresEverythingOfADisabledTable) {
  fl_cd cd{};
  auto f = good_cd();
  f.regime.half[1] = {.table = 0xfffffffff000, .txsz = 63, .epd = true, .tbi = false, .hpd = false};
  auto raw = encode_cd(f);
  raw[0] &= ~(3ULL << 22U);
  EXPECT_EQ(0, fl_cd_decode(raw.data(), 48, &cd));
  raw[0] |= 1ULL << 15U;  // endianness still matters to the other table
  EXPECT_EQ(-FL_EINVAL, fl_cd_decode(raw.data(), 48, &cd));
  raw[0] |= 1ULL << 14U;
  EXPECT_EQ(0, fl_cd_decode(raw.data(), 48, &cd));
  EXPECT_TRUE(cd.tt[0].disabled);
}

TEST(ModelCd, CapsTheIntermediateSizeToTheUnitsOwn) {
  fl_cd cd{};
  const auto raw = encode_cd(good_cd());
  ASSERT_EQ(0, fl_cd_decode(raw.data(), 40, &cd));
  EXPECT_EQ(40, cd.ips_bits);
  auto reserved = raw;
  reserved[0] |= 7ULL << 32U;
  ASSERT_EQ(0, fl_cd_decode(reserved.data(), 48, &cd));
  EXPECT_EQ(48, cd.ips_bits);
}

TEST(ModelCd, AlignsTheStartingTableToItsSize) {
  fl_cd cd{};
  for (unsigned txsz = 16; txsz <= 39; ++txsz) {
    auto f = good_cd();
    f.regime.half[0].txsz = txsz;
    auto raw = encode_cd(f);
    raw[1] |= 0xff0;
    ASSERT_EQ(0, fl_cd_decode(raw.data(), 48, &cd));
    const unsigned bits = 64 - txsz - 12;
    const std::uint64_t size = 8ULL << (bits % 9 == 0 ? 9 : bits % 9);
    EXPECT_EQ(0x12345ff0 & ~(size - 1), cd.tt[0].base) << txsz;
  }
}

}  // namespace
}  // namespace faultline::test
