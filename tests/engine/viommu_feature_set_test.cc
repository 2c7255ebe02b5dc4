// SPDX-License-Identifier: BSD-3-Clause
#include "engine/viommu/feature_set.h"

#include <gtest/gtest.h>

#include "tests/engine/viommu_memory.h"

namespace faultline::viommu {
namespace {

constexpr std::uint64_t kRegs = 0x0900'0000;

TEST(ViommuFeatureSet, OffersWhatQemuOffersLessStage2) {
  // QEMU 10.0: IDR0 0d44101b, IDR1 02730010, IDR3 1414, IDR5 74, which Linux drives. Without
  // stage 2 go S2P and VMID16, XNX and BBML; MSI and two-level contexts are ours.
  Features f;
  f.granule_16k = f.granule_64k = true;
  f.msi = false;
  const IdRegisters ids = id_registers(f);
  EXPECT_EQ(ids.idr[0], 0x0d44101bU & ~(1U << 0) & ~(1U << 18));
  EXPECT_EQ(ids.idr[1], 0x02730010U);
  EXPECT_EQ(ids.idr[2], 0U);
  EXPECT_EQ(ids.idr[3], 0x1414U & ~(1U << 4) & ~(1U << 12));
  EXPECT_EQ(ids.idr[4], 0U);
  EXPECT_EQ(ids.idr[5], 0x74U);
}

TEST(ViommuFeatureSet, SaysEachFeatureInItsField) {
  Features f;
  f.sid_bits = 8;
  f.ssid_bits = 20;
  f.oas_bits = 48;
  f.cmdq_log2 = 9;
  f.evtq_log2 = 7;
  f.ats = f.pri = f.stalls = f.msi = true;
  f.ranges = f.coherent = f.two_level_streams = false;
  const IdRegisters ids = id_registers(f);
  EXPECT_EQ(ids.idr[0] >> 10 & 1, 1U);  // ATS
  EXPECT_EQ(ids.idr[0] >> 13 & 1, 1U);  // MSI
  EXPECT_EQ(ids.idr[0] >> 14 & 1, 0U);  // SEV
  EXPECT_EQ(ids.idr[0] >> 16 & 1, 1U);  // PRI
  EXPECT_EQ(ids.idr[0] >> 19 & 1, 1U);  // CD2L
  EXPECT_EQ(ids.idr[0] >> 24 & 3, 0U);  // stalls
  EXPECT_EQ(ids.idr[0] >> 27 & 3, 0U);  // linear
  EXPECT_EQ(ids.idr[0] >> 4 & 1, 0U);   // COHACC
  EXPECT_EQ(ids.idr[1] & 0x3f, 8U);
  EXPECT_EQ(ids.idr[1] >> 6 & 0x1f, 20U);
  EXPECT_EQ(ids.idr[1] >> 16 & 0x1f, 7U);
  EXPECT_EQ(ids.idr[1] >> 21 & 0x1f, 9U);
  EXPECT_EQ(ids.idr[3] >> 10 & 1, 0U);
  EXPECT_EQ(ids.idr[5] & 7, 5U);
}

TEST(ViommuFeatureSet, OffersAtsOnlyWithASinkForIt) {
  Features wanted;
  wanted.ats = wanted.pri = true;
  SinkCaps caps;
  EXPECT_FALSE(negotiate(wanted, caps)->ats);
  EXPECT_FALSE(negotiate(wanted, caps)->pri);
  caps.atc = true;
  EXPECT_TRUE(negotiate(wanted, caps)->ats);
  EXPECT_TRUE(negotiate(wanted, caps)->pri);
  EXPECT_TRUE(negotiate(Features{}, SinkCaps{}));
}

TEST(ViommuFeatureSet, RefusesWhatCannotBeSaidOrDriven) {
  const auto refused = [](auto change) {
    Features f;
    change(f);
    return !negotiate(f, SinkCaps{});
  };
  EXPECT_TRUE(refused([](Features& f) { f.cmdq_log2 = 6; }));
  EXPECT_TRUE(refused([](Features& f) { f.cmdq_log2 = 20; }));
  EXPECT_TRUE(refused([](Features& f) { f.evtq_log2 = 0; }));
  EXPECT_TRUE(refused([](Features& f) { f.oas_bits = 52; }));
  EXPECT_TRUE(refused([](Features& f) { f.sid_bits = 33; }));
  EXPECT_TRUE(refused([](Features& f) { f.ssid_bits = 21; }));
  EXPECT_TRUE(refused([](Features& f) { f.granule_4k = false; }));
}

TEST(ViommuRegisters, MapOnlyInsideOneRegion) {
  test::Memory memory{{kRegs, kRegisterBytes}};
  EXPECT_TRUE(RegisterPage::map(memory.get(), Gpa{kRegs}));
  EXPECT_FALSE(RegisterPage::map(memory.get(), Gpa{kRegs + 0x1000}));
  EXPECT_FALSE(RegisterPage::map(memory.get(), Gpa{kRegs + 0x10000}));
}

TEST(ViommuRegisters, StandAtTheirOffsets) {
  test::Memory memory{{kRegs, kRegisterBytes}};
  const RegisterPage page = *RegisterPage::map(memory.get(), Gpa{kRegs});
  page.store(Reg32::kCmdqProd, 0x1234);
  page.release(Reg32::kEvtqCons, 0x8000'0001);
  page.store(Reg64::kStrtabBase, 0x4000'0000'1234'5678);
  EXPECT_EQ(memory.word(kRegs + 0x98) & 0xffff'ffff, 0x1234U);
  EXPECT_EQ(memory.word(kRegs + 0x100a8) >> 32, 0x8000'0001U);
  EXPECT_EQ(memory.word(kRegs + 0x80), 0x4000'0000'1234'5678U);
  EXPECT_EQ(page.load(Reg64::kStrtabBase), 0x4000'0000'1234'5678U);
  EXPECT_EQ(page.acquire(Reg32::kCmdqProd), 0x1234U);
}

TEST(ViommuRegisters, ResetLeavesOnlyTheIdentity) {
  test::Memory memory{{kRegs, kRegisterBytes}};
  const RegisterPage page = *RegisterPage::map(memory.get(), Gpa{kRegs});
  for (std::uint64_t at = 0; at < kRegisterBytes; at += 8) memory.put(kRegs + at, {~0ULL});
  reset_registers(page, id_registers(Features{}));
  EXPECT_EQ(page.load(Reg32::kIdr1), 0x02730010U);
  EXPECT_EQ(page.load(Reg32::kAidr), 2U);
  for (std::uint64_t at = 0x20; at < kRegisterBytes; at += 8)
    ASSERT_EQ(memory.word(kRegs + at), 0U);
}

}  // namespace
}  // namespace faultline::viommu
