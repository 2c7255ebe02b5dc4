// SPDX-License-Identifier: BSD-3-Clause
#include "engine/viommu/command.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "tests/engine/viommu_memory.h"

namespace faultline::viommu {
namespace {

/// Everything that the decoder knows to check, on.
Features all_features() {
  Features f;
  f.ssid_bits = 20;
  f.ats = f.pri = f.stalls = true;
  f.granule_16k = f.granule_64k = true;
  return f;
}

Command decoded(RawCommand raw, const Features& features = all_features()) {
  Command c;
  EXPECT_EQ(decode(raw, features, c), CommandError::kNone) << std::hex << raw.word[0];
  return c;
}

bool illegal(RawCommand raw, const Features& features = all_features()) {
  Command c;
  return decode(raw, features, c) == CommandError::kIllegal;
}

/// Every opcode that a stage-1-only, non-secure SMMU with all options accepts.
const std::set<unsigned> kLegal = {0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x10, 0x11,
                                   0x12, 0x13, 0x30, 0x40, 0x41, 0x44, 0x45, 0x46};

TEST(ViommuCommand, AcceptsExactlyTheOpcodesOfAStage1NonSecureSmmu) {
  for (unsigned op = 0; op < 256; ++op) {
    EXPECT_EQ(illegal({{op, 0}}), !kLegal.contains(op)) << std::hex << op;
  }
}

TEST(ViommuCommand, AcceptsNothingThatIsNotOffered) {
  const Features plain;  // no ATS, PRI, stalls
  for (const unsigned op : {0x40U, 0x41U, 0x44U, 0x45U}) EXPECT_TRUE(illegal({{op, 0}}, plain));
}

TEST(ViommuCommand, RefusesASecureStreamInEveryCommandThatNamesOne) {
  for (const unsigned op : {0x01U, 0x02U, 0x03U, 0x04U, 0x05U, 0x06U, 0x40U, 0x41U, 0x44U, 0x45U}) {
    EXPECT_TRUE(illegal({{op | 1U << 10, 0}})) << std::hex << op;
  }
}

TEST(ViommuCommand, DecodesConfigurationCommands) {
  const Command ste = decoded({{0x0000'0028'0000'0003, 1}});
  EXPECT_EQ(ste.opcode, Opcode::kCfgiSte);
  EXPECT_EQ(ste.sid, 0x28U);
  EXPECT_TRUE(ste.leaf);
  EXPECT_EQ(ste.last_sid(), 0x28U);

  const Command cd = decoded({{0x0000'0028'000a'b005, 1}});
  EXPECT_EQ(cd.sid, 0x28U);
  EXPECT_EQ(cd.ssid, 0xabU);
  EXPECT_EQ(to_operation(cd),
            (Operation{.kind = OperationKind::kCfgCd, .leaf = true, .sid = 0x28, .ssid = 0xab}));

  const Command cds = decoded({{0x0000'0028'0000'0006, 0}});
  EXPECT_EQ(to_operation(cds), (Operation{.kind = OperationKind::kCfgCdAll, .sid = 0x28}));
}

TEST(ViommuCommand, AlignsTheRangeOfStreams) {
  const Command range = decoded({{0x0000'012f'0000'0004, 7}});
  EXPECT_EQ(range.sid, 0x100U);
  EXPECT_EQ(range.last_sid(), 0x1ffU);
  const Command half = decoded({{0xffff'ffff'0000'0004, 30}});
  EXPECT_EQ(half.sid, 0x8000'0000U);
  EXPECT_EQ(half.last_sid(), 0xffff'ffffU);
  const Command all = decoded({{0x1234'5678'0000'0004, 31}});
  EXPECT_EQ(all.sid, 0U);
  EXPECT_EQ(all.last_sid(), 0xffff'ffffU);
  EXPECT_FALSE(all.is_operation());
}

TEST(ViommuCommand, DecodesTlbCommandsWithoutAddress) {
  EXPECT_EQ(to_operation(decoded({{0x0000'0000'0000'0010, 0}})).kind, OperationKind::kTlbAll);
  EXPECT_EQ(to_operation(decoded({{0x0000'0000'0000'0030, 0}})).kind, OperationKind::kTlbAll);
  const Command asid = decoded({{0xbeef'0000'0000'0011, 0}});
  EXPECT_EQ(to_operation(asid), (Operation{.kind = OperationKind::kTlbAsid, .asid = 0xbeef}));
}

TEST(ViommuCommand, TakesTlbiWithoutGranuleAsOnePageAndIgnoresTheRangeFields) {
  // NUM 31, SCALE 31, TTL 3, TG 0.
  const Command c = decoded({{0x0007'0000'01f1'f012, 0x0000'0000'dead'b301}});
  EXPECT_EQ(
      to_operation(c),
      (Operation{
          .kind = OperationKind::kTlbVa, .leaf = true, .asid = 7, .addr = 0xdeadb000, .pages = 1}));
}

TEST(ViommuCommand, DecodesARange) {
  // As Linux wrote it: NUM 31, SCALE 0, TG 4 KiB, TTL 3, leaf.
  const Command c = decoded({{0x0003'0000'0001'f012, 0x0000'0000'fffe'0701}});
  EXPECT_EQ(to_operation(c), (Operation{.kind = OperationKind::kTlbVa,
                                        .leaf = true,
                                        .granule_log2 = 12,
                                        .ttl = 3,
                                        .asid = 3,
                                        .addr = 0xfffe0000,
                                        .pages = 32}));
  // NUM 2, SCALE 5, TG 64 KiB, any ASID.
  const Command vaa = decoded({{0x0003'0000'0050'2013, 0x0000'0001'0000'0c00}});
  EXPECT_EQ(vaa.asid, 0U);
  EXPECT_EQ(to_operation(vaa), (Operation{.kind = OperationKind::kTlbVaa,
                                          .granule_log2 = 16,
                                          .addr = 0x1'0000'0000,
                                          .pages = 3 << 5}));
}

TEST(ViommuCommand, RefusesAGranuleWithNothingElse) {
  for (const std::uint64_t tg : {1, 2, 3}) EXPECT_TRUE(illegal({{0x12, tg << 10}}));
  // A level makes it one page with a hint.
  EXPECT_EQ(decoded({{0x12, 1U << 10 | 3U << 8}}).pages, 1U);
  // TTL 1 of a 16 KiB granule is reserved and counts as 0.
  EXPECT_TRUE(illegal({{0x12, 2U << 10 | 1U << 8}}));
  EXPECT_EQ(decoded({{0x12 | 1U << 12, 2U << 10 | 1U << 8}}).ttl, 0U);
}

TEST(ViommuCommand, RefusesRangesThatWereNotOffered) {
  Features f = all_features();
  f.ranges = false;
  EXPECT_TRUE(illegal({{0x12 | 1U << 12, 1U << 10}}, f));
  EXPECT_FALSE(illegal({{0x12 | 1U << 12, 0x1000}}, f));
}

TEST(ViommuCommand, RefusesReservedBitsThatWouldInvalidateLess) {
  EXPECT_TRUE(illegal({{0x12 | 1U << 25, 1U << 10}}));            // SCALE[5]
  EXPECT_TRUE(illegal({{0x12 | 1U << 20, 1U << 10 | 1U << 7}}));  // TTL128
  EXPECT_FALSE(illegal({{0x12 | 1U << 25, 0x1000}}));             // not a range: ignored
}

TEST(ViommuCommand, CoversEveryGranuleThatAMisalignedRangeTouches) {
  // 64 KiB granules from an address that starts in the middle of one.
  const Command c = decoded({{0x12 | 1U << 12, 0x1'8000 | 3U << 10 | 3U << 8}});
  EXPECT_EQ(c.addr, 0x1'0000U);
  EXPECT_EQ(c.pages, 3U);
  EXPECT_EQ(c.ttl, 0U);
}

TEST(ViommuCommand, ForgetsALevelWhoseBlockTheAddressDoesNotStart) {
  EXPECT_EQ(decoded({{0x12, 0x0020'0000 | 1U << 10 | 2U << 8}}).ttl, 2U);
  EXPECT_EQ(decoded({{0x12, 0x0020'1000 | 1U << 10 | 2U << 8}}).ttl, 0U);
  EXPECT_EQ(decoded({{0x12, 0x4000'0000 | 1U << 10 | 1U << 8}}).ttl, 1U);
  EXPECT_EQ(decoded({{0x12, 0x4020'0000 | 1U << 10 | 1U << 8}}).ttl, 0U);
  EXPECT_EQ(decoded({{0x12, 0x0200'0000 | 2U << 10 | 2U << 8}}).ttl, 2U);
  EXPECT_EQ(decoded({{0x12, 0x2000'0000 | 3U << 10 | 2U << 8}}).ttl, 2U);
  EXPECT_EQ(decoded({{0x12, 0x1000'0000 | 3U << 10 | 2U << 8}}).ttl, 0U);
}

TEST(ViommuCommand, StopsARangeAtTheTopOfTheAddressSpace) {
  const Command c = decoded({{0x12 | 31U << 12 | 31U << 20, 0xffff'ffff'ffff'f000 | 1U << 10}});
  EXPECT_EQ(c.pages, 1U);
  const Command whole = decoded({{0x12 | 31U << 12 | 31U << 20, 3U << 10}});
  EXPECT_EQ(whole.pages, std::uint64_t{32} << 31);
}

TEST(ViommuCommand, DecodesAtcInvalidations) {
  const Command c =
      decoded({{0x0000'0010'0000'7a40, 0x0000'0000'1234'5003}});  // SSV, GLOBAL, 8 pages
  EXPECT_EQ(to_operation(c), (Operation{.kind = OperationKind::kAtcInv,
                                        .ssid_valid = true,
                                        .global = true,
                                        .sid = 0x10,
                                        .ssid = 7,
                                        .addr = 0x1234'0000,
                                        .pages = 8}));
  const Command all = decoded({{0x0000'0010'0000'7240, 0xffff'ffff'ffff'f034}});
  EXPECT_FALSE(all.ssid_valid);
  EXPECT_FALSE(all.global);  // meaningless without an SSID
  EXPECT_EQ(all.addr, 0U);
  EXPECT_EQ(all.pages, 0U);
  EXPECT_EQ(decoded({{0x40, 0xffff'ffff'ffff'f000 | 51}}).addr, 0x8000'0000'0000'0000U);
  for (std::uint64_t size = 53; size < 64; ++size) EXPECT_TRUE(illegal({{0x40, size}}));
}

TEST(ViommuCommand, HasNoSubstreamsWhereNoneAreOffered) {
  Features f = all_features();
  f.ssid_bits = 0;
  EXPECT_EQ(decoded({{0x0000'0010'0000'7005, 0}}, f).ssid, 0U);
  EXPECT_FALSE(decoded({{0x0000'0010'0000'7840, 0}}, f).ssid_valid);
  f.ssid_bits = 4;
  EXPECT_EQ(decoded({{0x0000'0010'0001'7005, 0}}, f).ssid, 7U);
}

TEST(ViommuCommand, DecodesResponses) {
  const Command pri = decoded({{0x0000'0010'0000'7841, 0x2155}});
  EXPECT_EQ(pri.response, 2U);
  EXPECT_EQ(pri.tag, 0x155U);
  EXPECT_EQ(pri.ssid, 7U);
  EXPECT_TRUE(illegal({{0x41, 0x3000}}));
  EXPECT_EQ(decoded({{0x44, 0xabcd}}).action, ResumeAction::kTerminate);
  EXPECT_EQ(decoded({{0x44 | 1U << 12, 0xabcd}}).action, ResumeAction::kRetry);
  EXPECT_EQ(decoded({{0x44 | 3U << 12, 0xabcd}}).action, ResumeAction::kRetry);
  EXPECT_EQ(decoded({{0x44 | 1U << 13, 0xabcd}}).action, ResumeAction::kAbort);
  EXPECT_EQ(decoded({{0x44, 0xabcd}}).tag, 0xabcdU);
  EXPECT_EQ(decoded({{0x0000'0010'0000'0045, 0}}).sid, 0x10U);
}

TEST(ViommuCommand, DecodesEveryWayInWhichASyncSignals) {
  EXPECT_EQ(decoded({{0x46, 0}}).signal, SyncSignal::kNone);
  EXPECT_EQ(decoded({{0x2046, 0}}).signal, SyncSignal::kEvent);
  EXPECT_TRUE(illegal({{0x3046, 0}}));
  // As Linux writes it with MSI polling: MSH inner, MSIATTR write-back, data 0, its own slot.
  const Command msi = decoded({{0x0000'002a'0fc0'1046, 0x0000'0000'4c00'0010}});
  EXPECT_EQ(msi.signal, SyncSignal::kInterrupt);
  EXPECT_EQ(msi.msi_addr, 0x4c00'0010U);
  EXPECT_EQ(msi.msi_data, 42U);
  EXPECT_EQ(decoded({{0x1046, 0xfff0'0000'0000'0003}}).msi_addr, 0U);
  // The address counts only with CS = IRQ, and only where MSIs are offered.
  EXPECT_EQ(decoded({{0x2046, 0x4c00'0010}}).msi_addr, 0U);
  Features wired = all_features();
  wired.msi = false;
  EXPECT_EQ(decoded({{0x1046, 0x4c00'0010}}, wired).msi_addr, 0U);
}

/// Bytes that a TLBI by address removes, computed in 128 bits straight from the specification.
struct Span {
  __uint128_t begin;
  __uint128_t end;
};

Span asked(const RawCommand& raw) {
  const std::uint64_t addr = raw.word[1] & ~std::uint64_t{0xfff};
  const unsigned tg = raw.word[1] >> 10 & 3;
  if (tg == 0) return {addr, __uint128_t{addr} + 4096};
  const __uint128_t granule = __uint128_t{1} << (tg == 1 ? 12 : tg == 2 ? 14 : 16);
  const __uint128_t bytes = ((raw.word[0] >> 12 & 31) + 1) * granule << (raw.word[0] >> 20 & 31);
  const __uint128_t top = __uint128_t{1} << 64;
  return {addr, std::min(addr + bytes, top)};
}

TEST(ViommuCommand, NeverInvalidatesLessThanWhatARandomCommandAsksFor) {
  auto random = test::seeded(0x5eed);
  const Features features = all_features();
  int legal = 0;
  for (int i = 0; i < 300'000; ++i) {
    RawCommand raw{{random(), random()}};
    raw.word[0] = (raw.word[0] & ~std::uint64_t{0xff}) | 0x12;
    if (i % 2 != 0) raw.word[0] &= ~(std::uint64_t{0x3f} << 20) | random() << 20;
    Command c;
    if (decode(raw, features, c) != CommandError::kNone) continue;
    ++legal;
    const Span want = asked(raw);
    const __uint128_t begin = c.addr;
    const __uint128_t end = begin + (__uint128_t{c.pages} << c.granule_log2);
    ASSERT_LE(begin, want.begin);
    ASSERT_GE(end, want.end);
    ASSERT_LE(end, __uint128_t{1} << 64);
    ASSERT_EQ(c.addr % (std::uint64_t{1} << c.granule_log2), 0U);
    ASSERT_GE(c.pages, 1U);
  }
  EXPECT_GT(legal, 30'000);
}

}  // namespace
}  // namespace faultline::viommu
