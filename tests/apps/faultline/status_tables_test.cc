// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/status_tables.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "tests/apps/faultline/moments.h"

namespace faultline {
namespace {

using namespace testing_views;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

/// The first word of each row.
std::vector<std::string> firsts(const Lines& table) {
  std::vector<std::string> out;
  for (std::size_t i = 1; i < table.size(); ++i) {
    std::string word;
    std::istringstream(table[i]) >> word;
    out.push_back(word);
  }
  return out;
}

/// The second word of each row.
std::vector<std::string> seconds(const Lines& table) {
  std::vector<std::string> out;
  for (std::size_t i = 1; i < table.size(); ++i) {
    std::string word;
    std::istringstream(table[i]) >> word >> word;
    out.push_back(word);
  }
  return out;
}

TEST(StatusTables, TheWholeText) {
  EXPECT_EQ(
      status_text(earlier(), later()),
      "service   node 1, backend soft, up 4 s; 2 guests, 3 devices, 2 shards\n"
      "sessions  2 open, 5 accepted, 1 refused; 30 requests/s, 3 refused; 4 VMMs lost, 6 guests "
      "re-attached\n"
      "\n"
      "shard  CPU CPU use   busy   idle asleep   rounds/s    work/s submit/s\n"
      "0        6  100.0%   2.0%  98.0%   0.0%    5000000       900       40\n"
      "1        7   20.0%  15.0%   5.0%  80.0%        700      2000        0   shares its CPU\n"
      "\n"
      "guest    state  faults/s  cmds/s  SYNC/s      EVTQ overfl io/SYNC inval cmdcut reccut  "
      "waits  "
      "pub p50  pub p99 SYNC p50 SYNC p99\n"
      "db       paused      300    9000       0      3/64      0    0.00  0.00      1      0      "
      "0  "
      "   0 ns     0 ns   900 us   900 us\n"
      "web      served      759    4000     400   12/1024      2    0.75  1.25     70      8     "
      "25  "
      " 900 ns   900 ns  12.0 us  12.0 us\n"
      "\n"
      "guest    device         vSID faults/s  delivered discarded    lost  page req  answered\n"
      "db       0000:02:00.0   0x20      300        300         0       0         0         0\n"
      "web      0000:01:00.0   0x10      700        700         0       0         0         0\n"
      "web      0000:01:00.1   0x11       59         50         0       9         4         3\n");
}

TEST(StatusTables, GuestsThatLingerOrAreOnlyMadeAreShownSo) {
  metrics::Moment now = later();
  now.sessions.lingering = 1;
  now.names = {.made = {"half"}, .lingering = {"web"}};
  EXPECT_EQ(seconds(guest_table(earlier(), now)),
            (std::vector<std::string>{"paused", "made", "lingers"}));
  EXPECT_NE(service_lines(earlier(), now)[1].find("; 4 VMMs lost, 1 guest lingers, 6 guests"),
            std::string::npos);
  now.names.lingering = {"db", "web"};
  now.sessions.lingering = 2;
  EXPECT_EQ(seconds(guest_table(earlier(), now)),
            (std::vector<std::string>{"lingers", "made", "lingers"}));
  EXPECT_NE(service_lines(earlier(), now)[1].find("lost, 2 guests linger, 6"), std::string::npos);
}

TEST(StatusTables, OneIsOneAndALongTimeIsReadable) {
  metrics::Moment now = later();
  now.engine.guests.resize(1);
  now.engine.guests[0].devices.resize(1);
  now.engine.shards.resize(1);
  now.sessions.lost_vmms = now.sessions.reattached = 1;
  const auto up = [&](Nanos seconds) {
    now.uptime_ns = seconds * 1'000'000'000;
    return service_lines(earlier(), now)[0];
  };
  EXPECT_EQ(up(59), "service   node 1, backend soft, up 59 s; 1 guest, 1 device, 1 shard");
  EXPECT_NE(up(61).find(", up 1 m 1 s;"), std::string::npos);
  EXPECT_NE(up(7'260).find(", up 2 h 1 m;"), std::string::npos);
  EXPECT_NE(up(200'000).find(", up 2 d 7 h;"), std::string::npos);
  EXPECT_NE(service_lines(earlier(), now)[1].find("; 1 VMM lost, 1 guest re-attached"),
            std::string::npos);
}

TEST(StatusTables, TheStagesAreCyclesOfEachBurstAndCommand) {
  EXPECT_EQ(stage_table(later()), (Lines{"guest    cycles/burst: poll transcode publish commit "
                                         "cycles/command: fetch  merge submit   sync",
                                         "db                       10         0       0      0     "
                                         "             2000      0      0      0",
                                         "web                     100        20      30     40     "
                                         "                5      6    700      "
                                         "8"}));
}

TEST(StatusTables, EachColumnSortsItsOwnTable) {
  const metrics::Moment before = earlier();
  const metrics::Moment now = later();
  const auto guests = [&](Order order) { return firsts(guest_table(before, now, order)); };
  EXPECT_THAT(guests(Order::kName), ElementsAre("db", "web"));
  EXPECT_THAT(guests(Order::kFaults), ElementsAre("web", "db"));
  EXPECT_THAT(guests(Order::kCommands), ElementsAre("db", "web"));
  EXPECT_THAT(guests(Order::kDepth), ElementsAre("web", "db"));
  EXPECT_THAT(guests(Order::kLatency), ElementsAre("db", "web"));
  EXPECT_THAT(guests(Order::kCuts), ElementsAre("web", "db"));
  EXPECT_THAT(guests(Order::kWaits), ElementsAre("web", "db"));
  const auto devices = [&](Order order) { return seconds(device_table(before, now, order)); };
  EXPECT_THAT(devices(Order::kName), ElementsAre("0000:02:00.0", "0000:01:00.0", "0000:01:00.1"));
  EXPECT_THAT(devices(Order::kFaults), ElementsAre("0000:01:00.0", "0000:02:00.0", "0000:01:00.1"));
  EXPECT_THAT(devices(Order::kLost), ElementsAre("0000:01:00.1", "0000:02:00.0", "0000:01:00.0"))
      << "of equals by name";
  const auto shards = [&](Order order) { return firsts(shard_table(before, now, order)); };
  EXPECT_THAT(shards(Order::kName), ElementsAre("0", "1"));
  EXPECT_THAT(shards(Order::kBusy), ElementsAre("1", "0"));
  EXPECT_THAT(shards(Order::kWork), ElementsAre("1", "0"));
  const auto stages = [&](Order order) { return firsts(stage_table(now, order)); };
  EXPECT_THAT(stages(Order::kName), ElementsAre("db", "web"));
  EXPECT_THAT(stages(Order::kBurstCycles), ElementsAre("web", "db"));
  EXPECT_THAT(stages(Order::kCommandCycles), ElementsAre("db", "web"));
}

TEST(StatusTables, AnOrderThatATableDoesNotHaveIsThatByName) {
  const metrics::Moment before = earlier();
  const metrics::Moment now = later();
  for (const Order order : {Order::kCommands, Order::kDepth, Order::kLatency, Order::kBusy}) {
    EXPECT_EQ(device_table(before, now, order), device_table(before, now));
  }
  EXPECT_EQ(guest_table(before, now, Order::kBusy), guest_table(before, now));
  EXPECT_EQ(shard_table(before, now, Order::kLatency), shard_table(before, now));
  EXPECT_EQ(stage_table(now, Order::kFaults), stage_table(now));
}

TEST(StatusTables, ShardsComeByNumberAndNotByText) {
  metrics::Moment now = later();
  now.engine.shards.assign(11, now.engine.shards[0]);
  const auto order = firsts(shard_table(earlier(), now));
  ASSERT_EQ(order.size(), 11U);
  EXPECT_EQ(order[2], "2");
  EXPECT_EQ(order[10], "10");
}

TEST(StatusTables, AShardThatStandsStillIsSaidToBe) {
  const metrics::Moment before = later();
  metrics::Moment now = later();
  now.now += 1'000'000'000;
  EXPECT_THAT(shard_table(before, now)[1], HasSubstr("does not poll"));
  EXPECT_THAT(shard_table(before, before)[1], Not(HasSubstr("does not poll"))) << "no time passed";
}

TEST(StatusTables, WhatWasNotThereBeforeHasNoRates) {
  metrics::Moment before = earlier();
  before.engine.guests.clear();
  before.engine.shards.clear();
  const Lines guests = guest_table(before, later());
  EXPECT_THAT(guests[2], HasSubstr("web      served        0       0       0   12/1024"));
  const Lines devices = device_table(before, later());
  EXPECT_THAT(devices[1], HasSubstr("0x20        0        300"));
}

TEST(StatusTables, AnEmptyServiceHasHeadersAlone) {
  const metrics::Moment none;
  EXPECT_EQ(service_lines(none, none)[0],
            "service   node 0, backend soft, up 0 s; 0 guests, 0 devices, 0 shards");
  for (const Lines& table : {guest_table(none, none), device_table(none, none),
                             shard_table(none, none), stage_table(none)}) {
    EXPECT_EQ(table.size(), 1U);
  }
}

TEST(StatusTables, FitInAnyWidthAndKeepWhatTellsMost) {
  const metrics::Moment before = earlier();
  const metrics::Moment now = later();
  for (std::size_t width = 0; width <= 200; ++width) {
    for (const Lines& table :
         {guest_table(before, now, Order::kName, width),
          device_table(before, now, Order::kName, width),
          shard_table(before, now, Order::kName, width), stage_table(now, Order::kName, width)}) {
      for (const std::string& line : table) EXPECT_LE(line.size(), width);
      EXPECT_EQ(table[0], table[0].substr(0, width));
    }
  }
  const auto header = [&](std::size_t width) {
    return guest_table(before, now, Order::kName, width)[0];
  };
  EXPECT_EQ(header(200), guest_table(before, now)[0]);
  EXPECT_EQ(header(40), "guest    faults/s  cmds/s      EVTQ");
  EXPECT_EQ(header(80),
            "guest    state  faults/s  cmds/s      EVTQ overfl io/SYNC cmdcut reccut SYNC p99");
  EXPECT_EQ(header(100),
            "guest    state  faults/s  cmds/s      EVTQ overfl io/SYNC inval cmdcut reccut  waits "
            "SYNC p99");
}

TEST(StatusTables, ANameOfAnotherPersonsDoesNotBreakThem) {
  metrics::Moment now = later();
  now.engine.guests[0].name = "\x1b[31m\nweb\xc3\xbc and much more";
  now.engine.guests[0].devices[0].name = "dev\ttab";
  for (const Lines& table : {guest_table(now, now), device_table(now, now), stage_table(now)}) {
    EXPECT_EQ(table[1].substr(0, 20), "?[31m?web? and much+");
    for (const std::string& line : table) {
      EXPECT_TRUE(std::ranges::all_of(line, [](char c) { return c >= ' ' && c <= '~'; })) << line;
    }
  }
}

}  // namespace
}  // namespace faultline
