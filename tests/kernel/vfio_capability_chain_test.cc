// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/vfio/capability_chain.h"

#include <gmock/gmock.h>

#include <cstring>
#include <random>

#include "tests/kernel/vfio_fixture.h"

namespace faultline::testing {
namespace {

using ::testing::HasSubstr;
using vfio::parse_region_info;

constexpr std::uint32_t kReadMmap = uapi::kVfioRegionInfoFlagRead | uapi::kVfioRegionInfoFlagMmap;

std::vector<unsigned char> good_answer() {
  return ChainBuilder().type(2, 1).producer_fault(1).area(4096, 4096).answer(9, kReadMmap, 8192);
}

void put32(std::vector<unsigned char>& bytes, std::size_t at, std::uint32_t value) {
  std::memcpy(&bytes.at(at + 3) - 3, &value, sizeof value);
}

// In good_answer(): TYPE at 32, PRODUCER_FAULT at 48, SPARSE_MMAP at 64 (its area at 80), end 96.
constexpr std::size_t kCapOffset = 12, kFirstNext = 36, kSecondNext = 52, kThirdNext = 68;

std::string error_of(const std::vector<unsigned char>& bytes) {
  const auto region = parse_region_info(bytes);
  return region ? "" : region.error().message();
}

TEST(VfioCapabilityChain, DecodesAllThreeCapabilities) {
  const auto region = parse_region_info(good_answer());
  ASSERT_TRUE(region) << region.error().message();
  EXPECT_EQ(region->index, 9U);
  EXPECT_EQ(region->size, 8192U);
  EXPECT_EQ(region->file_offset, std::uint64_t{9} << 40U);
  EXPECT_EQ(region->type, 2U);
  EXPECT_EQ(region->subtype, 1U);
  EXPECT_EQ(region->max_fault_abi, 1U);
  ASSERT_EQ(region->areas.size(), 1U);
  EXPECT_EQ(region->areas[0].offset, 4096U);
}

TEST(VfioCapabilityChain, IgnoresTheChainWithoutTheFlag) {
  auto bytes = good_answer();
  put32(bytes, 4, kReadMmap);
  const auto region = parse_region_info(bytes);
  ASSERT_TRUE(region);
  EXPECT_FALSE(region->type);
}

TEST(VfioCapabilityChain, PassesOverUnknownCapabilities) {
  const auto bytes = ChainBuilder().add(99, 7, {1, 2, 3}).type(2, 2).answer(10, 0, 8);
  const auto region = parse_region_info(bytes);
  ASSERT_TRUE(region);
  EXPECT_EQ(region->subtype, 2U);
}

TEST(VfioCapabilityChain, RefusesLoops) {
  auto bytes = good_answer();
  put32(bytes, kThirdNext, 32);
  EXPECT_THAT(error_of(bytes), HasSubstr("turns back"));
  put32(bytes, kThirdNext, 64);
  EXPECT_THAT(error_of(bytes), HasSubstr("turns back"));
  put32(bytes, kSecondNext, 48);
  EXPECT_THAT(error_of(bytes), HasSubstr("turns back"));
}

TEST(VfioCapabilityChain, RefusesOffsetsOutside) {
  auto bytes = good_answer();
  put32(bytes, kFirstNext, 0xfffffff8);
  EXPECT_THAT(error_of(bytes), HasSubstr("leaves the"));
  put32(bytes, kFirstNext, static_cast<std::uint32_t>(bytes.size()));
  EXPECT_THAT(error_of(bytes), HasSubstr("leaves the"));
  put32(bytes, kFirstNext, static_cast<std::uint32_t>(bytes.size()) - 4);
  EXPECT_THAT(error_of(bytes), HasSubstr("leaves the"));
  put32(bytes, kCapOffset, 16);
  EXPECT_THAT(error_of(bytes), HasSubstr("into the struct"));
}

TEST(VfioCapabilityChain, RefusesMisalignedOffsets) {
  auto bytes = good_answer();
  put32(bytes, kFirstNext, 50);
  EXPECT_THAT(error_of(bytes), HasSubstr("not aligned"));
}

TEST(VfioCapabilityChain, RefusesEveryCut) {
  const auto whole = good_answer();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const std::vector<unsigned char> cut(whole.begin(),
                                         whole.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_FALSE(parse_region_info(cut)) << size;
  }
}

TEST(VfioCapabilityChain, RefusesMoreAreasThanThereAre) {
  auto bytes = good_answer();
  put32(bytes, 72, 0xffffffff);
  EXPECT_THAT(error_of(bytes), HasSubstr("more than were handed over"));
}

TEST(VfioCapabilityChain, RefusesAreasOutsideOfTheRegion) {
  EXPECT_THAT(error_of(ChainBuilder().area(4096, 8192).answer(9, kReadMmap, 8192)),
              HasSubstr("outside of the region"));
  // offset + size would wrap.
  auto bytes = good_answer();
  put32(bytes, 84, 0xffffffff);
  put32(bytes, 80, 0xfffff000);
  EXPECT_THAT(error_of(bytes), HasSubstr("outside of the region"));
}

TEST(VfioCapabilityChain, RefusesACapabilityTwice) {
  EXPECT_THAT(error_of(ChainBuilder().type(2, 1).type(2, 2).answer(9, 0, 8)), HasSubstr("twice"));
  EXPECT_THAT(error_of(ChainBuilder().producer_fault(1).producer_fault(2).answer(9, 0, 8)),
              HasSubstr("twice"));
  EXPECT_THAT(error_of(ChainBuilder().area(0, 8).area(0, 8).answer(9, 0, 8)), HasSubstr("twice"));
}

TEST(VfioCapabilityChain, RefusesOtherVersionsOfWhatItKnows) {
  for (const std::uint16_t id : {1, 2, 6}) {
    EXPECT_THAT(error_of(ChainBuilder().add(id, 2, {0, 0}).answer(9, 0, 8)),
                HasSubstr("has version 2"));
  }
}

TEST(VfioCapabilityChain, TellsWhatMayBeMapped) {
  const auto region = parse_region_info(good_answer());
  ASSERT_TRUE(region);
  EXPECT_TRUE(region->mappable(4096, 4096));
  EXPECT_FALSE(region->mappable(4095, 2));
  EXPECT_FALSE(region->mappable(4096, 4097));
  EXPECT_FALSE(region->mappable(8193, 0));
  const auto plain = parse_region_info(ChainBuilder().answer(0, kReadMmap, 8192));
  ASSERT_TRUE(plain);
  EXPECT_TRUE(plain->mappable(0, 8192));
  const auto unmappable = parse_region_info(
      ChainBuilder().area(0, 8192).answer(0, uapi::kVfioRegionInfoFlagRead, 8192));
  ASSERT_TRUE(unmappable);
  EXPECT_FALSE(unmappable->mappable(0, 8192));
}

TEST(VfioCapabilityChain, SurvivesEverySingleWordOfEveryValueThatMatters) {
  const auto whole = good_answer();
  for (std::size_t at = 0; at + 4 <= whole.size(); at += 2) {
    for (const std::uint32_t value :
         {0U,  1U,  2U,  4U,  6U,  8U,  16U,         31U,         32U,         40U,        48U,
          64U, 80U, 88U, 95U, 96U, 97U, 0x7fffffffU, 0x80000000U, 0xfffffff8U, 0xffffffffU}) {
      auto bytes = whole;
      put32(bytes, at, value);
      if (const auto region = parse_region_info(bytes)) {
        EXPECT_LE(region->areas.size(), whole.size() / 16);
      }
    }
  }
}

TEST(VfioCapabilityChain, SurvivesAQuarterMillionRandomMutations) {
  constexpr std::uint64_t kSeed = 0x5eed0001;
  RecordProperty("seed", static_cast<int>(kSeed));
  std::mt19937_64 random(kSeed);
  const auto whole = good_answer();
  std::size_t accepted = 0;
  for (int i = 0; i < 250'000; ++i) {
    auto bytes = whole;
    if (random() % 4 == 0) bytes.resize(random() % (bytes.size() + 1));
    for (std::uint64_t n = 1 + random() % 4; n > 0 && bytes.size() >= 4; --n) {
      const std::size_t at = random() % (bytes.size() - 3);
      const std::uint32_t value = random() % 2 == 0 ? static_cast<std::uint32_t>(random() % 128)
                                                    : static_cast<std::uint32_t>(random());
      put32(bytes, at, value);
    }
    if (const auto region = parse_region_info(bytes)) {
      ++accepted;
      for (const auto& area : region->areas) {
        ASSERT_LE(area.offset, region->size);
        ASSERT_LE(area.size, region->size - area.offset);
      }
    }
  }
  EXPECT_GT(accepted, 0U);
}

}  // namespace
}  // namespace faultline::testing
