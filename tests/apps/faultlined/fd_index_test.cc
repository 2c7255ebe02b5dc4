// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultlined/fd_index.h"

#include <gtest/gtest.h>

namespace faultline::daemon {
namespace {

TEST(Index, IsReadUpToItsLastWholeLine) {
  const auto entries = parse_index("faultline-index 1\n1 a\nff b\n a\n2 c\n3 cut");
  ASSERT_EQ(entries.size(), 2U);
  EXPECT_EQ(entries[0].name, "b");
  EXPECT_EQ(entries[0].slot, 255U);
  EXPECT_EQ(entries[1].name, "c");
}

TEST(Index, TakesNothingFromWhatIsNone) {
  EXPECT_TRUE(parse_index("").empty());
  EXPECT_TRUE(parse_index("faultline-index 2\n1 a\n").empty());
  EXPECT_TRUE(
      parse_index("faultline-index 1\n\n \nx a\n0 a\n123456789 a\n1 a b\n1\n-1 a\n").empty());
}

TEST(Index, NumbersAreHexWithoutAnythingAround) {
  EXPECT_EQ(numbered('k', "k" + hex(0xdeadbeef)), 0xdeadbeefU);
  for (const char* name : {"", "k", "k0", "k1 ", "k 1", "k+1", "k123456789", "i1", "K1"}) {
    EXPECT_FALSE(numbered('k', name)) << name;
  }
}

}  // namespace
}  // namespace faultline::daemon
