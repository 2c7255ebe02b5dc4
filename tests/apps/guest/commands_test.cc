// SPDX-License-Identifier: BSD-3-Clause
#include "apps/guest/commands.h"

#include <gtest/gtest.h>

namespace faultline::guest {
namespace {

// Words written down by hand from Arm IHI 0070, 4.3 to 4.7; the first ones also stand in the
// traces.
TEST(Commands, MatchTheWordsThatLinuxWrote) {
  EXPECT_EQ(cfgi_all(), (Command{{0x4, 0x1f}}));
  EXPECT_EQ(sync_by_cons(), (Command{{0xfc02046, 0}}));
  EXPECT_EQ(tlbi_nsnh_all(), (Command{{0x30, 0}}));
  EXPECT_EQ(cfgi_cd(StreamId{0}), (Command{{0x5, 1}}));
  EXPECT_EQ(cfgi_cd(StreamId{0x18}), (Command{{0x1800000005, 1}}));
  EXPECT_EQ(cfgi_ste(StreamId{0x20}), (Command{{0x2000000003, 1}}));
  EXPECT_EQ(prefetch_config(StreamId{0x18}), (Command{{0x1800000001, 0}}));
}

TEST(Commands, PlaceEveryFieldWhereTheArchitectureHasIt) {
  EXPECT_EQ(cfgi_cd(StreamId{0xabcd}, 0x12345, false), (Command{{0x0000abcd12345005, 0}}));
  EXPECT_EQ(tlbi_asid(0x8123), (Command{{0x8123000000000011, 0}}));
  EXPECT_EQ(tlbi_va(0x8123, Iova{0xffff'1234'5fff}, false),
            (Command{{0x8123000000000012, 0xffff12345000}}));
  EXPECT_EQ(tlbi_va_range(0x102, Iova{0x1000}, 8), (Command{{0x0102000000007012, 0x1701}}));
  EXPECT_EQ(sync_by_msi(Gpa{0x4000'1230}, 0xcafe), (Command{{0x0000cafe0fc01046, 0x40001230}}));
}

TEST(Commands, TellsGlobalCommandsFromOthers) {
  EXPECT_TRUE(is_global(cfgi_all()));
  EXPECT_TRUE(is_global(tlbi_nsnh_all()));
  EXPECT_TRUE(is_global(Command{{op::kTlbiNhAll, 0}}));
  EXPECT_FALSE(is_global(tlbi_asid(2)));
  EXPECT_FALSE(is_global(cfgi_ste(StreamId{1})));
}

}  // namespace
}  // namespace faultline::guest
