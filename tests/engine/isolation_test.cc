// SPDX-License-Identifier: BSD-3-Clause
// What a guest can make another one wait for.
#include <gtest/gtest.h>

#include <random>

#include "tests/engine/isolation_world.h"

namespace faultline::engine {
namespace {

using namespace command_world;
using namespace isolation_world;
using Neighbour = void (*)(isolation_world::Guest&, std::mt19937&);

void storm_faults(isolation_world::Guest& g) {
  for (std::size_t i = 0; i < 100; ++i) g.faults.produce(i % kDevices);
}
void storm_commands(isolation_world::Guest& g) {
  while (g.world.used() < g.world.size() - 2) g.world.queue({tlbi_va(0x5000), sync()});
}

void fault_storm(isolation_world::Guest& g, std::mt19937&) {
  storm_faults(g);
  g.read_events();
}
void command_storm(isolation_world::Guest& g, std::mt19937&) {
  storm_commands(g);
}
void never_reads(isolation_world::Guest& g, std::mt19937&) {
  storm_faults(g);
  storm_commands(g);
}
void throws_indices(isolation_world::Guest& g, std::mt19937& random) {
  g.world.place(tlbi_all());
  g.world.place(sync());
  g.world.page.release(Reg32::kCmdqProd, static_cast<std::uint32_t>(random()));
  g.world.page.release(Reg32::kEvtqCons, static_cast<std::uint32_t>(random()));
  storm_faults(g);
  g.world.acknowledge_gerror();
}
/// Illegal commands behind legal ones; each error is acknowledged at once, so the next one comes.
void error_flood(isolation_world::Guest& g, std::mt19937&) {
  World& w = g.world;
  if (w.cmdq_error_active()) {
    const viommu::RawCommand repaired = tlbi_va(0x6000);
    w.put(w.slot(w.cons()), repaired.word[0]);
    w.put(w.slot(w.cons()) + 8, repaired.word[1]);
    w.acknowledge_gerror();
  }
  if (w.used() < w.size() / 2) w.queue({tlbi_va(0x7000), illegal(), tlbi_va(0x8000)});
}

struct Victim {
  std::size_t worst_foreign = 0;
  Nanos worst_wait = 0;
  Nanos longest_round = 0;
  std::uint64_t neighbours_work = 0;
};

/// A victim beside three neighbours; what it asked for is checked to the last event and command.
Victim run(Neighbour behave, bool rule) {
  constexpr std::size_t kNeighbours = 3;
  constexpr int kRounds = 3000;
  Core core(rule);
  isolation_world::Guest& victim = core.add();
  for (std::size_t i = 0; i < kNeighbours; ++i) core.add({}, i % 2 != 0);
  EXPECT_TRUE(core.probe_all());
  victim.world.kernel.submissions.clear();
  for (auto& guest : core.guests) guest->world.kernel.record = guest.get() == &victim;
  std::mt19937 random(1);
  std::vector<std::uint64_t> asked;
  int turns_waited = 0;
  for (int i = 0; i < kRounds; ++i) {
    for (std::size_t n = 1; n <= kNeighbours; ++n) behave(*core.guests[n], random);
    if (i % 7 == 0) victim.faults.produce(i % 2);
    if (victim.world.used() == 0) {
      asked.push_back(0x1000 * (asked.size() + 1));
      victim.world.queue({tlbi_va(asked.back()), sync()});
      turns_waited = 0;
    }
    core.round();
    victim.read_events();
    if (rule && victim.world.used() != 0) {
      EXPECT_LE(++turns_waited, static_cast<int>(kNeighbours)) << "its turn did not come";
    }
  }
  EXPECT_TRUE(core.until([&] { return victim.world.used() == 0; }));
  core.round();
  victim.read_events();
  const auto invalidated = victim.world.kernel.flat();
  EXPECT_EQ(invalidated.size(), asked.size());
  for (std::size_t i = 0; i < std::min(invalidated.size(), asked.size()); ++i) {
    EXPECT_EQ(invalidated[i].addr, asked[i]);
  }
  EXPECT_EQ(victim.commands().syncs_completed, asked.size());
  EXPECT_EQ(victim.driver.log.size(),
            victim.faults.ring(0).produced.size() + victim.faults.ring(1).produced.size());
  testing_world::audit(victim.faults, victim.driver, victim.vsids);
  Victim out{victim.worst_foreign, victim.worst_wait, core.longest_round(), 0};
  for (std::size_t n = 1; n <= kNeighbours; ++n) {
    const isolation_world::Guest& g = *core.guests[n];
    out.neighbours_work += g.commands().submissions + g.events->counters().bursts;
  }
  return out;
}

class Isolation : public testing::TestWithParam<std::pair<const char*, Neighbour>> {};

TEST_P(Isolation, AVictimWaitsForOneForeignSubmissionPerRound) {
  const Victim v = run(GetParam().second, true);
  EXPECT_LE(v.worst_foreign, 1U);
  EXPECT_LE(v.worst_wait, v.longest_round);
  EXPECT_GT(v.neighbours_work, 100U) << "the neighbours did not do what they are for";
}

INSTANTIATE_TEST_SUITE_P(Neighbours, Isolation,
                         testing::Values(std::pair("FaultStorm", &fault_storm),
                                         std::pair("CommandStorm", &command_storm),
                                         std::pair("NeverReads", &never_reads),
                                         std::pair("ThrowsIndices", &throws_indices),
                                         std::pair("ErrorFlood", &error_flood)),
                         [](const auto& info) { return info.param.first; });

TEST(IsolationPlanted, WithoutTheRuleTheSameCheckFails) {
  for (const Neighbour behave : {&command_storm, &never_reads, &error_flood}) {
    const Victim v = run(behave, false);
    EXPECT_GT(v.worst_foreign, 1U);
    EXPECT_GT(v.worst_wait, v.longest_round);
  }
}

TEST(Budgets, DeficitCarriesAtMostOneQuantumAndNothingFromIdleness) {
  Deficit d;
  d.begin(10);
  EXPECT_EQ(d.left(), 10U);
  d.spend(3);
  d.begin(10);
  EXPECT_EQ(d.left(), 17U) << "kept from its work, it has the rest later";
  d.begin(10);
  d.begin(10);
  EXPECT_EQ(d.left(), 20U) << "but never more than twice";
  d.drained();
  d.begin(10);
  EXPECT_EQ(d.left(), 10U) << "who had nothing waiting hoards nothing";
  d.begin(4);
  EXPECT_EQ(d.left(), 8U) << "a smaller budget holds at once";
  EXPECT_TRUE(d.cut());
  EXPECT_FALSE(d.cut()) << "counted once a round";
}

TEST(Budgets, WeightsShareCommandsUnderSaturation) {
  Core core;
  isolation_world::Guest& one = core.add({.commands = 8, .weight = 1});
  isolation_world::Guest& two = core.add({.commands = 8, .weight = 2});
  ASSERT_TRUE(core.probe_all());
  const auto share = [&](const std::function<void(World&)>& fill) {
    const std::uint64_t before[] = {one.commands().commands, two.commands().commands};
    for (int i = 0; i < 1200; ++i) {
      fill(one.world);
      fill(two.world);
      core.round();
    }
    return static_cast<double>(two.commands().commands - before[1]) /
           static_cast<double>(one.commands().commands - before[0]);
  };
  EXPECT_DOUBLE_EQ(share([](World& w) {
                     while (w.used() < w.size() - 2) w.queue({prefetch()});
                   }),
                   2)
      << "commands that submit nothing";
  EXPECT_NEAR(share([](World& w) {
                while (w.used() < w.size() - 4) w.queue({tlbi_va(0x1000), tlbi_va(0x2000), sync()});
              }),
              2, 0.1)
      << "commands that wait for submissions";
  EXPECT_GT(one.commands().commands_cut, 1000U);
}

TEST(Budgets, AGuestThatWasIdleDoesNotHoard) {
  Core core;
  isolation_world::Guest& g = core.add({.commands = 8});
  ASSERT_TRUE(core.probe_all());
  for (int i = 0; i < 1000; ++i) core.round();
  const std::uint64_t before = g.commands().commands;
  for (int i = 0; i < 100; ++i) g.world.place(prefetch());
  g.world.ring();
  core.round();
  EXPECT_EQ(g.commands().commands - before, 8U);
  EXPECT_EQ(g.commands().commands_cut, 1U);
  g.batching->set_budget({.commands = 30});
  core.round();
  EXPECT_EQ(g.commands().commands - before, 38U) << "another budget holds from the next round on";
}

TEST(Budgets, RecordsAreCutAndEverySourceHasItsTurn) {
  Core core;
  isolation_world::Guest& g = core.add({.records = 8});
  ASSERT_TRUE(core.probe_all());
  for (int i = 0; i < 20; ++i) {
    g.faults.produce(0);
    g.faults.produce(1);
  }
  std::uint64_t taken = 0;
  for (int i = 1; i <= 5; ++i) {
    core.round();
    g.read_events();
    const std::uint64_t now =
        g.events->device_counters(0).delivered + g.events->device_counters(1).delivered;
    EXPECT_EQ(now - taken, 8U);
    taken = now;
    if (i == 2) {
      EXPECT_EQ(g.events->device_counters(0).delivered, 8U) << "the sources take turns";
    }
  }
  EXPECT_GE(g.events->counters().records_cut, 4U);
  core.round();
  g.read_events();
  testing_world::audit(g.faults, g.driver, g.vsids);
  EXPECT_EQ(g.driver.log.size(), 40U);
}

}  // namespace
}  // namespace faultline::engine
