// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/columns.h"

#include <gtest/gtest.h>

#include <array>

namespace faultline {
namespace {

constexpr std::array kColumns = std::to_array<Column>({
    {"name", 6, 0, true},
    {"much", 4, 2},
    {"more", 5, 1},
    {"note", 1, 3, true},
});

TEST(Columns, GrowWithWhatStandsInThem) {
  EXPECT_EQ(grid(kColumns, {{"a", "1", "2", "x"}, {"longer-name", "123456", "2", ""}}, kAnyWidth),
            (Lines{"name          much  more note", "a                1     2 x",
                   "longer-name 123456     2"}));
  EXPECT_EQ(grid(kColumns, {}, kAnyWidth), Lines{"name   much  more note"});
}

TEST(Columns, ThoseThatTellLeastAreLeftOutFirst) {
  const std::vector<Cells> rows = {{"abcdef", "1", "2", "note"}};
  EXPECT_EQ(grid(kColumns, rows, 22), (Lines{"name   much  more note", "abcdef    1     2 note"}));
  EXPECT_EQ(grid(kColumns, rows, 21), (Lines{"name   much  more", "abcdef    1     2"}));
  EXPECT_EQ(grid(kColumns, rows, 16), (Lines{"name    more", "abcdef     2"}));
  EXPECT_EQ(grid(kColumns, rows, 11), (Lines{"name", "abcdef"}));
  EXPECT_EQ(grid(kColumns, rows, 3), (Lines{"nam", "abc"}));
  EXPECT_EQ(grid(kColumns, rows, 0), (Lines{"", ""}));
}

TEST(Plain, NothingOfOthersReachesTheTerminal) {
  EXPECT_EQ(plain("vm-1.2_c ~"), "vm-1.2_c ~");
  EXPECT_EQ(plain("a\x1b[2Jb\r\n\t\x7f"), "a?[2Jb????");
  EXPECT_EQ(plain("gr\xc3\xbc\xc3\x9f \xe2\x82\xac"), "gr?? ?") << "one for each character";
  EXPECT_EQ(plain("\x80\xff"), "??") << "no UTF-8 at all";
  EXPECT_EQ(plain(std::string_view("\0", 1)), "?");
}

TEST(Shown, TellsThatItWasLonger) {
  EXPECT_EQ(shown("twelve-bytes", 12), "twelve-bytes");
  EXPECT_EQ(shown("thirteen-more", 12), "thirteen-mo+");
  EXPECT_EQ(shown("abc", 1), "+");
}

}  // namespace
}  // namespace faultline
