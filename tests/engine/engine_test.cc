// SPDX-License-Identifier: BSD-3-Clause
#include "engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <string>
#include <utility>

#include "tests/engine/engine_world.h"

namespace faultline::engine {
namespace {

using command_world::FakeSink;
using command_world::World;
using engine_world::GuestWorld;
using engine_world::SharedSources;
using engine_world::TestEngine;
using engine_world::two_shards;

class EngineTest : public testing::Test {
 protected:
  ColdLane lane_{{0}};
};

TEST_F(EngineTest, ChangesTheBudgetOfAGuestThatIsServed) {
  GuestWorld g("one");
  TestEngine engine(lane_);
  g.world.spec.budget.weight = 0;
  EXPECT_EQ(g.join(engine).error().what,
            "guest one: a budget is 1 to 65536 commands, records and submissions, and a weight of "
            "1 to 256");
  g.world.spec.budget.weight = 1;
  ASSERT_TRUE(g.join(engine).has_value());
  ASSERT_TRUE(engine.start(two_shards({"one"}), on_threads()).has_value());
  ASSERT_TRUE(g.probe());
  ASSERT_TRUE(engine.set_budget("one", {.commands = 1}).has_value());
  EXPECT_EQ(engine.snapshot().guests[0].budget.commands, 1U);
  EXPECT_EQ(engine.set_budget("two", {}).error().code, ENOENT);
  EXPECT_EQ(engine.set_budget("one", {.records = 0}).error().code, EINVAL);
  EXPECT_EQ(engine.snapshot().guests[0].budget, (Budget{.commands = 1})) << "a refusal changes it";
  for (int i = 0; i < 20; ++i) g.world.place(command_world::prefetch());
  g.world.ring();
  ASSERT_TRUE(g.drained());
  EXPECT_GE(engine.snapshot().guests[0].commands.commands_cut, 10U);
  ASSERT_TRUE(engine.stop().has_value());
}

TEST_F(EngineTest, ServesAGuestFromItsProbeToTheStop) {
  GuestWorld g("one");
  TestEngine engine(lane_);
  ASSERT_TRUE(g.join(engine).has_value());
  ASSERT_TRUE(engine.start(two_shards({"one"}), on_threads()).has_value());
  ASSERT_TRUE(g.probe());
  for (int i = 0; i < 40; ++i) {
    g.fault(20);
    g.world.queue({command_world::tlbi_va(0x1000), command_world::sync()});
    ASSERT_TRUE(g.read_until(static_cast<std::size_t>(i + 1) * 20));
    ASSERT_TRUE(g.drained());
  }
  g.world.write_ste(0, 3);
  g.world.queue({command_world::cfgi_ste(World::sid(0)), command_world::sync()});
  ASSERT_TRUE(g.drained()) << "the cold lane binds stage 1";
  const auto stopped = engine.stop();
  ASSERT_TRUE(stopped.has_value()) << stopped.error().message();

  testing_world::audit(g.faults, g.guest, g.vsids);
  EXPECT_EQ(g.guest.log.size(), 800U);
  const EngineSnapshot snapshot = engine.snapshot();
  ASSERT_EQ(snapshot.guests.size(), 1U);
  const GuestSnapshot& s = snapshot.guests[0];
  EXPECT_EQ(s.sum(&EventDeviceCounters::delivered), 800U);
  EXPECT_EQ(s.commands.syncs_completed, 43U);
  EXPECT_GE(s.commands.attaches, 1U);
  EXPECT_EQ(s.evtq_size, 32U);
  EXPECT_EQ(s.evtq_depth, 0U);
  EXPECT_GT(s.interrupts, 0U);
  EXPECT_EQ(s.interrupts_unheard, 0U);
  EXPECT_GT(s.publish_ns.count(), 0U);
  EXPECT_EQ(s.sync_ns.count(), 43U);
  EXPECT_FALSE(s.detached);
  ASSERT_EQ(snapshot.shards.size(), 2U);
  EXPECT_GT(snapshot.shards[0].counters.busy_rounds, 0U);
  EXPECT_GT(snapshot.shards[1].counters.busy_rounds, 0U);
  EXPECT_GT(g.journal->last_beat(), 0U);
}

TEST_F(EngineTest, GoesOnWhereAnEarlierEngineStoppedWithoutTheGuestNoticing) {
  GuestWorld g("one");
  std::size_t expected = 0;
  for (int life = 0; life < 4; ++life) {
    TestEngine engine(lane_);
    ASSERT_TRUE(g.join(engine).has_value());
    ASSERT_TRUE(engine.start(two_shards({"one"}), on_threads()).has_value());
    if (life == 0) {
      ASSERT_TRUE(g.probe());
    }
    g.fault(10);
    g.world.queue({command_world::tlbi_all(), command_world::sync()});
    expected += 10;
    ASSERT_TRUE(g.read_until(expected)) << "life " << life;
    ASSERT_TRUE(g.drained()) << "life " << life;
    g.fault(10);  // some of these are still on their way when it stops
    expected += 10;
    g.world.queue({command_world::tlbi_all(), command_world::sync()});
    ASSERT_TRUE(engine.stop().has_value());
  }
  TestEngine engine(lane_);
  ASSERT_TRUE(g.join(engine).has_value());
  ASSERT_TRUE(engine.start(two_shards({"one"}), on_threads()).has_value());
  ASSERT_TRUE(g.read_until(expected));
  ASSERT_TRUE(g.drained());
  ASSERT_TRUE(engine.stop().has_value());
  EXPECT_EQ(g.guest.log.size(), expected);
  testing_world::audit(g.faults, g.guest, g.vsids);
}

TEST_F(EngineTest, TakesGuestsOnAndOffWhileItRuns) {
  GuestWorld a("a"), b("b");
  TestEngine engine(lane_);
  ASSERT_TRUE(a.join(engine).has_value());
  ASSERT_TRUE(engine.start(two_shards({"a"}), on_threads()).has_value());
  ASSERT_TRUE(a.probe());
  ASSERT_TRUE(b.join(engine).has_value());
  ASSERT_TRUE(b.probe());
  ASSERT_TRUE(engine.remove_guest("a").has_value());
  EXPECT_FALSE(engine.remove_guest("a").has_value());
  EXPECT_EQ(engine.snapshot().guests.size(), 1U);
  a.fault(10);
  b.fault(10);
  ASSERT_TRUE(b.read_until(10));
  EXPECT_FALSE(a.guest.interrupted());
  ASSERT_TRUE(a.join(engine).has_value()) << "its journal is good for another start";
  ASSERT_TRUE(a.read_until(10));
  ASSERT_TRUE(engine.stop().has_value());
  testing_world::audit(a.faults, a.guest, a.vsids);
  testing_world::audit(b.faults, b.guest, b.vsids);
}

TEST_F(EngineTest, MovesDutiesBetweenShardsWithoutLosingARecordOrASync) {
  GuestWorld a("a"), b("b");
  TestEngine engine(lane_);
  ASSERT_TRUE(a.join(engine).has_value());
  ASSERT_TRUE(b.join(engine).has_value());
  Plan plan = two_shards({"a", "b"});
  ASSERT_TRUE(engine.start(plan, on_threads()).has_value());
  ASSERT_TRUE(a.probe());
  ASSERT_TRUE(b.probe());
  unsigned moved = 0;
  for (int i = 0; i < 60; ++i) {
    for (GuestWorld* g : {&a, &b}) {
      g->fault(20);
      g->world.queue({command_world::tlbi_va(0x1000), command_world::sync()});
    }
    // All four combinations, with records and commands under way at each change.
    plan.guests[0].event_shard = static_cast<std::size_t>(i / 2 % 2);
    plan.guests[0].command_shard = static_cast<std::size_t>(i % 2);
    plan.guests[1].event_shard = static_cast<std::size_t>(i % 2);
    const auto changed = engine.rebalance(plan);
    ASSERT_TRUE(changed.has_value()) << changed.error().message();
    moved += *changed;
    const EngineSnapshot snapshot = engine.snapshot();
    EXPECT_EQ(snapshot.guests[0].event_shard, plan.guests[0].event_shard);
    EXPECT_EQ(snapshot.guests[0].command_shard, plan.guests[0].command_shard);
    for (GuestWorld* g : {&a, &b}) {
      ASSERT_TRUE(g->read_until(static_cast<std::size_t>(i + 1) * 20));
      ASSERT_TRUE(g->drained());
    }
  }
  EXPECT_GT(moved, 100U);
  ASSERT_TRUE(engine.stop().has_value());
  testing_world::audit(a.faults, a.guest, a.vsids);
  testing_world::audit(b.faults, b.guest, b.vsids);
}

TEST_F(EngineTest, RefusesToRebalanceToOtherShards) {
  GuestWorld g("one");
  TestEngine engine(lane_);
  ASSERT_TRUE(g.join(engine).has_value());
  Plan plan = two_shards({"one"});
  EXPECT_FALSE(engine.rebalance(plan).has_value()) << "it does not run";
  ASSERT_TRUE(engine.start(plan, on_threads()).has_value());
  Plan fewer = plan;
  fewer.shards.pop_back();
  EXPECT_FALSE(engine.rebalance(fewer).has_value());
  Plan nowhere = plan;
  nowhere.guests[0].event_shard = 2;
  EXPECT_FALSE(engine.rebalance(nowhere).has_value());
  const auto nobody = engine.rebalance(two_shards({"somebody else"}));
  ASSERT_TRUE(nobody.has_value());
  EXPECT_EQ(*nobody, 0U);
}

TEST_F(EngineTest, ErrsOnPurposeWhenPlanted) {
  for (const Plant plant : {Plant::kLoseRecord, Plant::kDuplicateRecord}) {
    GuestWorld g("one");
    EngineOptions options;
    options.plant = plant;
    TestEngine engine(lane_, options);
    ASSERT_TRUE(g.join(engine).has_value());
    ASSERT_TRUE(engine.start(two_shards({"one"}), on_threads()).has_value());
    ASSERT_TRUE(g.probe());
    g.fault(10);
    ASSERT_TRUE(GuestWorld::until([&] {
      const std::lock_guard lock(g.mutex);
      return g.faults.ring(0).cons == 5 && g.faults.ring(1).cons == 5;
    }));
    ASSERT_TRUE(engine.stop().has_value());
    g.guest.read_events();
    EXPECT_NE(g.guest.log.size(), 10U);
  }
}

TEST_F(EngineTest, SaysInOneLineWhatIsWrong) {
  const auto expect = [](const Result<void>& result, const std::string& word) {
    ASSERT_FALSE(result.has_value()) << word;
    EXPECT_THAT(result.error().message(), testing::HasSubstr(word));
    EXPECT_EQ(result.error().message().find('\n'), std::string::npos);
  };
  GuestWorld g("one"), other("other");
  TestEngine engine(lane_);
  other.world.spec.devices[0].vsid = StreamId{77};
  other.journal = std::make_unique<Journal>(*create_journal(other.world.spec));
  std::swap(g.journal, other.journal);
  expect(g.join(engine), "journal is of another guest");
  std::swap(g.journal, other.journal);

  GuestSpec spec = g.world.spec;
  const auto add = [&] {
    auto journal = std::make_unique<Journal>(*create_journal(g.world.spec));
    return engine.add_guest(spec, SharedSources(g.faults, g.mutex, nullptr),
                            FakeSink{&g.world.kernel}, *journal);
  };
  spec.devices.pop_back();
  expect(add(), "1 devices but 2 fault sources");
  spec.devices.clear();
  expect(add(), "it needs 1 to 64");
  spec = g.world.spec;
  spec.devices[1].vsid = spec.devices[0].vsid;
  expect(add(), "the same StreamID");
  spec = g.world.spec;
  spec.memory.clear();
  expect(add(), "guest one");
  spec = g.world.spec;
  spec.registers = Gpa{World::kRam + World::kRamBytes};
  expect(check_guest(spec, 2, *g.journal), "journal is of another guest");

  expect(engine.start(Plan{}, on_threads()), "without shards");
  ASSERT_TRUE(g.join(engine).has_value());
  expect(g.join(engine), "is there already");
  expect(engine.start(two_shards({"two"}), on_threads()), "guest one has no place");
  Plan plan = two_shards({"one"});
  plan.guests[0].command_shard = 9;
  expect(engine.start(plan, on_threads()), "a shard that is not there");
  expect(engine.remove_guest("nobody"), "no guest nobody");
  ASSERT_TRUE(engine.start(two_shards({"one"}), on_threads()).has_value());
  expect(engine.start(two_shards({"one"}), on_threads()), "runs already");
}

TEST_F(EngineTest, KeepsServingTheOthersWhenAGuestIsHostile) {
  GuestWorld good("good"), bad("bad");
  TestEngine engine(lane_);
  ASSERT_TRUE(good.join(engine).has_value());
  ASSERT_TRUE(bad.join(engine).has_value());
  ASSERT_TRUE(engine.start(two_shards({"good", "bad"}), on_threads()).has_value());
  ASSERT_TRUE(good.probe());
  ASSERT_TRUE(bad.probe());
  std::uint64_t random = 88172645463325252U;
  std::size_t expected = 0;
  for (int i = 0; i < 60; ++i) {
    for (int k = 0; k < 200; ++k) {  // its registers, but for those that end it
      random ^= random << 13;
      random ^= random >> 7;
      random ^= random << 17;
      bad.world.page.store(static_cast<viommu::Reg32>(random % 0x30 * 4),
                           static_cast<std::uint32_t>(random >> 32));
      bad.world.page.store(viommu::Reg32::kEvtqCons, static_cast<std::uint32_t>(random >> 17));
      bad.world.page.store(viommu::Reg32::kEvtqProd, static_cast<std::uint32_t>(random >> 11));
    }
    bad.fault(10);
    good.fault(10);
    expected += 10;
    good.world.queue({command_world::tlbi_all(), command_world::sync()});
    ASSERT_TRUE(good.read_until(expected));
    ASSERT_TRUE(good.drained());
  }
  (void)engine.stop();
  testing_world::audit(good.faults, good.guest, good.vsids);
}

}  // namespace
}  // namespace faultline::engine
