// SPDX-License-Identifier: BSD-3-Clause
#include "engine/placement_join.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace faultline::engine {
namespace {

/// CPUs 0..3 share one L3, 4..7 another; shards poll on 2, 3, 6 and 7.
struct Host {
  Host() {
    for (unsigned i = 0; i < 8; ++i) topology.cpus.push_back({i, i, i / 4, 0, false});
    for (const unsigned cpu : {2U, 3U, 6U, 7U}) {
      shards.emplace_back();
      shards.back().cpu = cpu;
    }
  }
  GuestPlan join(const std::vector<unsigned>& vcpus) {
    GuestPlacement guest;
    guest.name = "guest";
    guest.vcpus = vcpus;
    const GuestPlan plan = place_beside(topology, shards, residents, guest);
    residents.push_back({plan.event_shard, plan.command_shard, vcpus});
    return plan;
  }
  Topology topology;
  std::vector<ShardPlan> shards;
  std::vector<Resident> residents;
};

TEST(PlacementJoin, DutiesOfAGuestGoApartInTheCacheOfItsVcpus) {
  Host host;
  const GuestPlan plan = host.join({4, 5});
  EXPECT_EQ(plan.name, "guest");
  EXPECT_EQ(plan.event_shard, 2U);
  EXPECT_EQ(plan.command_shard, 3U);
  EXPECT_NE(plan.reason, "");
}

TEST(PlacementJoin, ABusyCacheIsLeftForAnIdleOne) {
  Host host;
  host.join({4, 5});
  // Beside both of the other guest's duties it would wait; outside its cache it does not.
  const GuestPlan second = host.join({4, 5});
  EXPECT_EQ(second.event_shard, 0U);
  EXPECT_EQ(second.command_shard, 1U);
}

TEST(PlacementJoin, WithOneShardBothAreThere) {
  Host host;
  host.shards.resize(1);
  const GuestPlan plan = host.join({});
  EXPECT_EQ(plan.event_shard, 0U);
  EXPECT_EQ(plan.command_shard, 0U);
}

TEST(PlacementJoin, ManyGuestsAreSpreadEvenly) {
  Host host;
  std::vector<int> duties(4);
  for (unsigned i = 0; i < 64; ++i) {
    const GuestPlan plan = host.join({});
    ++duties[plan.event_shard];
    ++duties[plan.command_shard];
    EXPECT_NE(plan.event_shard, plan.command_shard);
  }
  EXPECT_EQ(*std::min_element(duties.begin(), duties.end()), 32);
  EXPECT_EQ(*std::max_element(duties.begin(), duties.end()), 32);
}

TEST(PlacementJoin, AResidentOnAShardThatIsGoneCountsNowhere) {
  Host host;
  host.residents.push_back({9, 9, {}});
  EXPECT_EQ(host.join({}).event_shard, 0U);
}

}  // namespace
}  // namespace faultline::engine
