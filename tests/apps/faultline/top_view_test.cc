// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/top_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <span>
#include <string>

#include "tests/apps/faultline/moments.h"

namespace faultline {
namespace {

using namespace testing_views;
using testing::HasSubstr;
using testing::StartsWith;

constexpr std::size_t kHigh = 30;
constexpr std::size_t kWide = 200;

Lines screen(TopChoice& choice, std::size_t height = kHigh, std::size_t width = kWide) {
  return top_lines(earlier(), later(), choice, height, width);
}

/// A service with so many guests of one device each, g00, g01, ...
metrics::Moment crowd(std::size_t guests) {
  metrics::Moment m;
  for (std::size_t i = 0; i < guests; ++i) {
    engine::GuestSnapshot& g = m.engine.guests.emplace_back();
    g.name = std::string("g") + static_cast<char>('0' + i / 10) + static_cast<char>('0' + i % 10);
    g.devices.push_back(device("d", 1, 0));
  }
  return m;
}

TEST(TopView, AScreenIsTheServiceItsKeysAndATable) {
  TopChoice choice;
  const Lines lines = screen(choice);
  ASSERT_EQ(lines.size(), 7U);
  EXPECT_EQ(lines[0], "service   node 1, backend soft, up 4 s; 2 guests, 3 devices, 2 shards");
  EXPECT_THAT(lines[1], StartsWith("sessions  2 open"));
  EXPECT_EQ(lines[2], "keys [g guests] d devices  s shards  t stages   j k scroll   q quit");
  EXPECT_EQ(lines[3], "sort [n name] f faults  c commands  e EVTQ  l latency  b cuts  w waits ");
  EXPECT_EQ(lines[4], guest_table(earlier(), later())[0]);
  EXPECT_EQ(lines[5], guest_table(earlier(), later())[1]);
}

TEST(TopView, EachKeyOfTheFirstLineShowsItsPage) {
  TopChoice choice;
  const auto shows = [&](int key, const char* chosen, const Lines& table) {
    EXPECT_TRUE(press(choice, key));
    const Lines lines = screen(choice);
    EXPECT_THAT(lines[2], HasSubstr(chosen));
    EXPECT_EQ(std::ranges::count(lines[2], '['), 1);
    EXPECT_TRUE(std::ranges::equal(std::span(lines).subspan(4), table));
  };
  shows('d', "[d devices]", device_table(earlier(), later()));
  shows('s', "[s shards]", shard_table(earlier(), later()));
  shows('t', "[t stages]", stage_table(later()));
  shows('g', "[g guests]", guest_table(earlier(), later()));
  EXPECT_FALSE(press(choice, 'q'));
}

TEST(TopView, EachKeyOfTheSecondLineSortsThePage) {
  const metrics::Moment before = earlier();
  const metrics::Moment now = later();
  for (const int page : {'g', 'd', 's', 't'}) {
    TopChoice choice;
    press(choice, page);
    for (const SortKey& k : sort_keys(choice.table)) {
      EXPECT_TRUE(press(choice, k.key));
      const Lines lines = screen(choice);
      EXPECT_THAT(lines[3],
                  HasSubstr(std::string("[") + static_cast<char>(k.key) + ' ' + k.word + ']'));
      const Lines table = page == 'g'   ? guest_table(before, now, k.order)
                          : page == 'd' ? device_table(before, now, k.order)
                          : page == 's' ? shard_table(before, now, k.order)
                                        : stage_table(now, k.order);
      EXPECT_TRUE(std::ranges::equal(std::span(lines).subspan(4), table)) << k.word;
    }
  }
}

TEST(TopView, AKeyThatThePageDoesNotListChangesNothing) {
  for (const int page : {'g', 'd', 's', 't'}) {
    TopChoice choice;
    press(choice, page);
    press(choice, sort_keys(choice.table)[1].key);
    const Lines before = screen(choice);
    for (int key = -1; key < 1000; ++key) {
      const auto listed = sort_keys(choice.table);
      if (std::ranges::find(listed, key, &SortKey::key) != listed.end()) continue;
      if (std::string("gdstqjk").find(static_cast<char>(key)) != std::string::npos && key < 128) {
        continue;
      }
      ASSERT_TRUE(press(choice, key)) << key;
      ASSERT_EQ(screen(choice), before) << key;
    }
  }
}

TEST(TopView, EachPageKeepsItsOrder) {
  TopChoice choice;
  press(choice, 'l');  // guests: latency
  press(choice, 'd');
  EXPECT_EQ(choice.order(), Order::kName);
  press(choice, 'l');
  EXPECT_EQ(choice.order(), Order::kLost);
  press(choice, 'g');
  EXPECT_EQ(choice.order(), Order::kLatency);
}

TEST(TopView, ScrollingEndsWhereTheLastRowIsInSight) {
  const metrics::Moment m = crowd(20);
  TopChoice choice;
  const auto lines = [&](std::size_t height) { return top_lines(m, m, choice, height, kWide); };
  EXPECT_THAT(lines(15)[2], HasSubstr("  j k rows 1-10 of 20   q quit"));
  press(choice, 'j');
  EXPECT_THAT(lines(15)[5], StartsWith("g01 "));
  for (int i = 0; i < 100; ++i) {
    press(choice, 'j');
    (void)lines(15);
  }
  EXPECT_EQ(choice.first, 10U);
  EXPECT_THAT(lines(15)[2], HasSubstr("rows 11-20 of 20"));
  EXPECT_THAT(lines(15).back(), StartsWith("g19 "));
  press(choice, 'k');
  EXPECT_THAT(lines(15)[5], StartsWith("g09 ")) << "the first k moves it back";
  for (int i = 0; i < 100; ++i) press(choice, 'k');
  EXPECT_THAT(lines(15)[5], StartsWith("g00 "));

  // Many keys between two screens count no further either.
  for (int i = 0; i < 100; ++i) press(choice, 'j');
  (void)lines(15);
  press(choice, 'k');
  EXPECT_THAT(lines(15)[5], StartsWith("g09 "));
  // In a taller terminal there is nothing to scroll.
  EXPECT_EQ(lines(kHigh).size(), 25U);
  EXPECT_EQ(choice.first, 0U);
  EXPECT_THAT(lines(kHigh)[2], HasSubstr("j k scroll"));
}

TEST(TopView, GuestsThatWentAwayTakeTheScrollingBack) {
  const metrics::Moment many = crowd(20);
  const metrics::Moment few = crowd(3);
  TopChoice choice;
  for (int i = 0; i < 10; ++i) press(choice, 'j');
  (void)top_lines(many, many, choice, 15, kWide);
  EXPECT_EQ(choice.first, 10U);
  EXPECT_EQ(top_lines(many, few, choice, 15, kWide).size(), 8U);
  EXPECT_EQ(choice.first, 0U);
  EXPECT_THAT(top_lines(few, crowd(0), choice, 15, kWide).back(), StartsWith("guest "));
}

TEST(TopView, FitsAnyTerminal) {
  const metrics::Moment m = crowd(40);
  for (const int page : {'g', 'd', 's', 't'}) {
    for (const char* trouble : {"", "service   away for 3 s, reconnecting"}) {
      for (std::size_t height = 0; height < 50; ++height) {
        for (const std::size_t width : {0U, 1U, 2U, 10U, 40U, 79U, 80U, 100U, 140U, 200U}) {
          TopChoice choice;
          choice.trouble = trouble;
          press(choice, page);
          for (int i = 0; i < 60; ++i) press(choice, 'j');
          const Lines lines = top_lines(m, m, choice, height, width);
          ASSERT_LE(lines.size(), height);
          for (const std::string& line : lines) ASSERT_LE(line.size(), width);
        }
      }
    }
  }
}

TEST(TopView, ItsKeysFitInEightyColumns) {
  const metrics::Moment m = crowd(90);
  for (const int page : {'g', 'd', 's', 't'}) {
    TopChoice choice;
    press(choice, page);
    const Lines lines = top_lines(m, m, choice, 24, 80);
    EXPECT_EQ(lines[2], top_lines(m, m, choice, 24, kWide)[2]);
    EXPECT_EQ(lines[3], top_lines(m, m, choice, 24, kWide)[3]);
  }
}

TEST(TopView, ANarrowTerminalHasShorterKeys) {
  const metrics::Moment m = crowd(20);
  TopChoice choice;
  press(choice, 'd');
  Lines lines = top_lines(m, m, choice, 10, 40);
  EXPECT_EQ(lines[2], "keys  g [d] s  t  j k 1-5/20 q quit");
  EXPECT_EQ(lines[3], "sort [n name] f faults  l lost ");
  press(choice, 'g');
  press(choice, 'w');
  lines = top_lines(earlier(), later(), choice, 10, 40);
  EXPECT_EQ(lines[2], "keys [g] d  s  t  j k q quit");
  EXPECT_EQ(lines[3], "sort  n  f  c  e  l  b [w waits]");
}

TEST(TopView, ALowTerminalHasItsFirstLineAndTheTable) {
  TopChoice choice;
  const Lines low = screen(choice, 6);
  EXPECT_THAT(low[0], StartsWith("service   node 1"));
  EXPECT_TRUE(std::ranges::equal(std::span(low).subspan(1), guest_table(earlier(), later())));
  EXPECT_EQ(screen(choice, 7).size(), 7U);
  choice.trouble = "service   away";
  EXPECT_EQ(screen(choice, 2), (Lines{"service   away", guest_table(earlier(), later())[0]}));
  EXPECT_EQ(screen(choice, 1), Lines{"service   away"});
}

TEST(TopView, TroubleStandsInTheFirstLineAndMovesNothing) {
  TopChoice choice;
  const Lines before = screen(choice);
  choice.trouble = "service   away for 3 s, reconnecting: \x1b[2J\xc3\xbc";
  const Lines lines = screen(choice);
  EXPECT_EQ(lines[0], "service   away for 3 s, reconnecting: ?[2J?");
  EXPECT_TRUE(std::ranges::equal(std::span(lines).subspan(1), std::span(before).subspan(1)));
}

}  // namespace
}  // namespace faultline
