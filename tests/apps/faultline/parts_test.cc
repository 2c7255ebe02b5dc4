// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "apps/faultline/description.h"
#include "apps/faultline/table.h"
#include "apps/wiring/host_guest.h"

namespace faultline {
namespace {

TEST(Duration, HasThreeDigitsThatMatter) {
  EXPECT_EQ(duration(0), "0 ns");
  EXPECT_EQ(duration(999), "999 ns");
  EXPECT_EQ(duration(1'230), "1.23 us");
  EXPECT_EQ(duration(45'600), "45.6 us");
  EXPECT_EQ(duration(789'000), "789 us");
  EXPECT_EQ(duration(2'500'000), "2.50 ms");
  EXPECT_EQ(duration(3'000'000'000), "3.00 s");
}

std::size_t lines_in(const std::string& text) {
  return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
}

TEST(Table, IsPlainLinesUnderOneHeaderWhereThereIsNoTerminal) {
  Table table(false);
  const std::vector<TableRow> rows(9);
  EXPECT_EQ(lines_in(table.frame(rows, 1, 5)), 10U);
  const std::string second = table.frame(rows, 2, 5);
  EXPECT_EQ(lines_in(second), 9U);
  EXPECT_EQ(second.find('\x1b'), std::string::npos);
}

TEST(Table, BeginsOnATerminalWhereItsLastFrameDid) {
  Table table(true);
  const std::vector<TableRow> rows(2);
  const std::string first = table.frame(rows, 1, 24);
  EXPECT_EQ(lines_in(first), 4U);
  EXPECT_EQ(first.find("A\x1b[J"), std::string::npos);
  EXPECT_EQ(table.frame(rows, 2, 24).find("\x1b[4A\x1b[J"), 0U);
}

TEST(Table, FitsATerminalOfAnyHeight) {
  const std::vector<TableRow> rows(64);
  for (std::size_t height = 5; height < 80; ++height) {
    Table table(true);
    const std::string text = table.frame(rows, 1, height);
    EXPECT_LT(lines_in(text), height);
    EXPECT_EQ(text.find(" guests more") == std::string::npos, height >= 67);
  }
}

TEST(HostGuests, HaveDevicesOfTheirOwnUnderTheSameGuestNames) {
  const auto guests = make_guests(2, {StreamId{0x208}, StreamId{0x210}});
  ASSERT_EQ(guests.size(), 2U);
  EXPECT_EQ(guests[0].devices[1].vsid, guests[1].devices[1].vsid);
  EXPECT_NE(guests[0].devices[0].name, guests[1].devices[0].name);
  EXPECT_NE(guests[0].devices[0].group, guests[1].devices[0].group);
  EXPECT_NE(guests[0].devices[0].host_sid, guests[1].devices[0].host_sid);
  EXPECT_EQ(guests[0].registers().value % 0x10000, 0U);
}

TEST(Description, ComesBackFromJsonAsItWas) {
  Description d;
  d.kernel = 3;
  d.go = 4;
  d.status = 5;
  d.choices.policy = engine::PolicyKind::kForwardEach;
  d.choices.merge = {2.5, 7, 8, merge::LingerMode::kOn, true, 9};
  d.choices.abi = vfio::AbiChoice::kV1;
  d.choices.shards = 2;
  d.choices.hugepages = true;
  d.profile.cd_cache = true;
  d.kill = engine::KillAtStep(engine::JournalStep::kEventIntent, 7);
  Description::Guest g;
  g.host = make_guests(1, {StreamId{0x208}})[0];
  g.host.memfd = 6;
  g.journal = 7;
  g.fds = {{8, 9, 10}};
  d.guests.push_back(g);
  const auto back = description_from_json(to_json(d));
  ASSERT_TRUE(back) << back.error().message();
  EXPECT_EQ(to_json(*back), to_json(d));
  EXPECT_EQ(back->choices.policy, engine::PolicyKind::kForwardEach);
  EXPECT_TRUE(back->choices.hugepages);
  EXPECT_EQ(back->choices.merge, d.choices.merge);
  EXPECT_EQ(back->kill.step, d.kill.step);
  EXPECT_EQ(back->guests[0].fds[0].device, 10);
  EXPECT_EQ(back->descriptors().size(), 3U + 4U + 3U);
}

TEST(Description, RefusesWhatIsNone) {
  EXPECT_FALSE(description_from_json("{}"));
  EXPECT_FALSE(description_from_json("no json"));
}

}  // namespace
}  // namespace faultline
