// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/range_encoding.h"

#include <gtest/gtest.h>

namespace faultline {
namespace {

TEST(RangeEncoding, NamesEachNumberThatNumAndScaleCanSay) {
  for (unsigned scale = 0; scale <= 31; ++scale) {
    for (unsigned num = 0; num <= 31; ++num) {
      const std::uint64_t pages = (std::uint64_t{num} + 1) << scale;
      const RangeFields fields = longest_range(pages);
      EXPECT_EQ(fields.pages(), pages);
      EXPECT_TRUE(is_range(pages));
      EXPECT_LE(fields.num, 31);
      EXPECT_LE(fields.scale, 31);
    }
  }
}

TEST(RangeEncoding, TheLongestIsMoreThanHalfAndNotMoreThanAsked) {
  for (std::uint64_t pages = 1; pages < 5'000; ++pages) {
    const std::uint64_t longest = longest_range(pages).pages();
    EXPECT_LE(longest, pages);
    EXPECT_GE(2 * longest, pages) << pages;
    EXPECT_EQ(is_range(pages), longest == pages);
  }
}

TEST(RangeEncoding, EndsAtTheLargestRange) {
  const std::uint64_t largest = std::uint64_t{32} << 31;
  EXPECT_EQ(longest_range(largest).pages(), largest);
  EXPECT_EQ(longest_range(largest + 1).pages(), largest);
  EXPECT_EQ(longest_range(~std::uint64_t{0}).pages(), largest);
  EXPECT_FALSE(is_range(0));
}

}  // namespace
}  // namespace faultline
