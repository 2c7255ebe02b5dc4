// SPDX-License-Identifier: BSD-3-Clause
#include "engine/placement.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

namespace faultline::engine {
namespace {

/// nodes × l3s × cores × threads, numbered like Linux numbers SMT-adjacent CPUs.
Topology machine(unsigned nodes, unsigned l3s, unsigned cores, unsigned threads) {
  Topology t;
  t.source = "test";
  unsigned cpu = 0;
  unsigned core = 0;
  for (unsigned n = 0; n < nodes; ++n) {
    for (unsigned l = 0; l < l3s; ++l) {
      for (unsigned c = 0; c < cores; ++c, ++core) {
        for (unsigned s = 0; s < threads; ++s) {
          t.cpus.push_back(
              {.index = cpu++, .core = core, .l3 = n * l3s + l, .node = n, .isolated = false});
        }
      }
    }
  }
  return t;
}

TEST(Placement, LeavesACoreForHousekeepingAndUsesNoSiblings) {
  const Topology t = machine(1, 1, 4, 2);
  const auto plan = place(t, {{"a", {}, {}}, {"b", {}, {}}}, {});
  ASSERT_TRUE(plan) << plan.error().message();
  ASSERT_EQ(plan->shards.size(), 3U);
  std::set<unsigned> cores;
  for (const ShardPlan& s : plan->shards) {
    cores.insert(t.find(s.cpu)->core);
    EXPECT_FALSE(s.shared);
    EXPECT_FALSE(s.reason.empty());
  }
  EXPECT_EQ(cores.size(), 3U);
  ASSERT_FALSE(plan->housekeeping.empty());
  for (const unsigned cpu : plan->housekeeping) EXPECT_FALSE(cores.contains(t.find(cpu)->core));
  EXPECT_TRUE(plan->warnings.empty());
}

TEST(Placement, ServesTheNodeOfMostDevices) {
  Topology t = machine(2, 1, 4, 1);
  t.pci = {{"0000:01:00.0", {0, 1, 2, 3}},
           {"0000:81:00.0", {4, 5, 6, 7}},
           {"0000:82:00.0", {4, 5, 6, 7}}};
  const auto plan = place(t, {{"a", {"0000:01:00.0", "0000:81:00.0", "0000:82:00.0"}, {}}}, {});
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->node, 1U);
  for (const ShardPlan& s : plan->shards) EXPECT_EQ(t.find(s.cpu)->node, 1U);
  ASSERT_EQ(plan->warnings.size(), 1U) << "the device of the other node is worth a line";
  EXPECT_NE(plan->warnings[0].find("0000:01:00.0"), std::string::npos);
}

TEST(Placement, PutsFaultsAndSubmissionsApartWhereThereAreTwoShards) {
  const auto two = place(machine(1, 1, 3, 1), {{"a", {}, {}}}, {});
  ASSERT_TRUE(two);
  EXPECT_NE(two->guests[0].event_shard, two->guests[0].command_shard);
  const auto one = place(machine(1, 1, 2, 1), {{"a", {}, {}}}, {});
  ASSERT_TRUE(one);
  ASSERT_EQ(one->shards.size(), 1U);
  EXPECT_EQ(one->guests[0].event_shard, one->guests[0].command_shard);
}

TEST(Placement, ASingleCpuStillWorks) {
  const auto plan = place(machine(1, 1, 1, 1), {{"a", {}, {}}}, {});
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->shards.size(), 1U);
  EXPECT_EQ(plan->housekeeping, (std::vector<unsigned>{0}));
}

TEST(Placement, MoreShardsThanCoresShareWithOneWarningOrAreRefused) {
  const Topology t = machine(1, 1, 2, 1);
  const auto shared = place(t, {{"a", {}, {}}}, {.shards = 4});
  ASSERT_TRUE(shared);
  EXPECT_EQ(shared->shards.size(), 4U);
  EXPECT_EQ(shared->warnings.size(), 1U);
  for (const ShardPlan& s : shared->shards) EXPECT_TRUE(s.shared);
  const auto strict = place(t, {{"a", {}, {}}}, {.shards = 4, .strict_cores = true});
  ASSERT_FALSE(strict);
  EXPECT_NE(strict.error().what.find("--strict-cores"), std::string::npos);
}

TEST(Placement, PrefersIsolatedCoresAndCoresWithoutVcpus) {
  Topology t = machine(1, 2, 4, 1);
  t.cpus[2].isolated = true;
  const auto plan = place(t, {{"a", {}, {0, 1}}}, {.shards = 1});
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->shards[0].cpu, 2U);
  const auto near = place(machine(1, 2, 4, 1), {{"a", {}, {0, 1}}}, {.shards = 2});
  ASSERT_TRUE(near);
  for (const ShardPlan& s : near->shards) EXPECT_TRUE(s.cpu == 2 || s.cpu == 3) << s.cpu;
}

TEST(Placement, RefusesNodesAndCpusThatAreNotThere) {
  const Topology t = machine(1, 1, 2, 1);
  EXPECT_FALSE(place(t, {}, {.node = 7}));
  EXPECT_FALSE(place(t, {}, {.cpus = {9}}));
  EXPECT_FALSE(place(Topology{}, {}, {}));
}

TEST(Placement, ObeysTheOperatorsCpus) {
  const auto plan = place(machine(1, 1, 4, 1), {{"a", {}, {}}}, {.cpus = {0, 1}});
  ASSERT_TRUE(plan);
  ASSERT_EQ(plan->shards.size(), 2U);
  for (const ShardPlan& s : plan->shards) EXPECT_LE(s.cpu, 1U);
}

TEST(Placement, ServesEveryDutyOnceOnTheNodeWhateverTheHostAndTheOrder) {
  std::mt19937 random(11);
  for (int round = 0; round < 300; ++round) {
    const Topology t =
        machine(1 + random() % 2, 1 + random() % 3, 1 + random() % 5, 1 + random() % 2);
    std::vector<GuestPlacement> guests;
    const unsigned n = random() % 9;
    for (unsigned g = 0; g < n; ++g) {
      GuestPlacement guest{.name = "g" + std::to_string(g), .devices = {}, .vcpus = {}};
      for (unsigned v = random() % 4; v > 0; --v) {
        guest.vcpus.push_back(static_cast<unsigned>(random() % t.cpus.size()));
      }
      guests.push_back(guest);
    }
    const PlacementOptions options{.shards = static_cast<unsigned>(random() % 5)};
    const auto plan = place(t, guests, options);
    ASSERT_TRUE(plan) << plan.error().message();
    ASSERT_FALSE(plan->shards.empty());
    ASSERT_EQ(plan->guests.size(), guests.size());
    std::vector<unsigned> load(plan->shards.size(), 0);
    for (const GuestPlan& g : plan->guests) {
      ASSERT_LT(g.event_shard, plan->shards.size());
      ASSERT_LT(g.command_shard, plan->shards.size());
      ++load[g.event_shard];
      ++load[g.command_shard];
    }
    for (std::size_t s = 0; s < load.size(); ++s) ASSERT_EQ(plan->shards[s].load, load[s]);
    for (const ShardPlan& s : plan->shards) ASSERT_EQ(t.find(s.cpu)->node, plan->node);
    ASSERT_FALSE(plan->housekeeping.empty());

    std::vector<GuestPlacement> shuffled = guests;
    std::shuffle(shuffled.begin(), shuffled.end(), random);
    const auto again = place(t, shuffled, options);
    ASSERT_TRUE(again);
    for (std::size_t i = 0; i < guests.size(); ++i) {
      const auto at = std::ranges::find(again->guests, guests[i].name, &GuestPlan::name);
      ASSERT_EQ(at->event_shard, plan->guests[i].event_shard);
      ASSERT_EQ(at->command_shard, plan->guests[i].command_shard);
    }
  }
}

TEST(Placement, IsEvenWhereCoresAreEqual) {
  std::mt19937 random(12);
  for (int round = 0; round < 100; ++round) {
    const Topology t = machine(1, 1, 1 + random() % 7, 1);
    std::vector<GuestPlacement> guests;
    for (unsigned g = random() % 9; g > 0; --g) guests.push_back({.name = "g" + std::to_string(g)});
    const auto plan = place(t, guests, {});
    ASSERT_TRUE(plan);
    const auto [least, most] = std::ranges::minmax_element(plan->shards, {}, &ShardPlan::load);
    ASSERT_LE(most->load - least->load, 1U) << guests.size() << " guests, round " << round;
  }
}

TEST(Placement, SpreadsUnevenLoadsByLoadAndNotByNumber) {
  const Topology t = machine(1, 1, 3, 1);  // two of them poll
  const auto plan = place(
      t, {{.name = "storm", .fault_load = 9}, {.name = "a"}, {.name = "b"}, {.name = "c"}}, {});
  ASSERT_TRUE(plan);
  ASSERT_EQ(plan->shards.size(), 2U);
  const std::size_t busy = plan->guests[0].event_shard;
  EXPECT_EQ(plan->shards[busy].load, 9U) << "the storm is alone";
  EXPECT_EQ(plan->shards[1 - busy].load, 7U);
}

TEST(Placement, TellsWhatItPreferredEachChoiceTo) {
  Topology t = machine(1, 2, 4, 2);
  for (Cpu& cpu : t.cpus) cpu.isolated = cpu.index >= 4;
  const auto plan = place(t, {{"a", {}, {4, 6}}, {"b", {}, {12}}}, {.shards = 2});
  ASSERT_TRUE(plan);
  for (const ShardPlan& s : plan->shards) {
    ASSERT_FALSE(s.rejected.empty());
    EXPECT_LE(s.rejected.size(), 3U);
    for (const Rejected& r : s.rejected) {
      EXPECT_GE(r.cost_more, 0) << "cpu " << r.cpu;
      EXPECT_FALSE(r.reason.empty());
      EXPECT_NE(r.cpu, s.cpu);
    }
  }
  for (const GuestPlan& g : plan->guests) {
    ASSERT_EQ(g.event_rejected.size(), 1U);
    EXPECT_GE(g.event_rejected[0].cost_more, 0);
    EXPECT_NE(g.event_rejected[0].cpu, plan->shards[g.event_shard].cpu);
    ASSERT_EQ(g.command_rejected.size(), 1U);
  }
  EXPECT_EQ(plan->quiet.size(), 2U) << "one SMT sibling of each";
  EXPECT_EQ(plan->node_reason, "the only one");
}

TEST(Placement, NeverPollsOnAVcpusCpuWhileAnotherCoreIsFree) {
  const Topology t = machine(1, 1, 4, 2);
  const auto plan = place(t, {{"a", {}, {0, 1, 2, 3}}}, {});
  ASSERT_TRUE(plan);
  for (const ShardPlan& s : plan->shards) EXPECT_GE(t.find(s.cpu)->core, 2U);
}

TEST(Placement, KeepsTheOnlyCoreThatIsNotIsolatedForHousekeeping) {
  Topology t = machine(1, 1, 4, 1);
  for (Cpu& cpu : t.cpus) cpu.isolated = cpu.index != 3;
  const auto plan = place(t, {{"a", {}, {}}, {"b", {}, {}}}, {});
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->shards.size(), 3U);
  EXPECT_EQ(plan->housekeeping, (std::vector<unsigned>{3}));
}

}  // namespace
}  // namespace faultline::engine
