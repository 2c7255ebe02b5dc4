// SPDX-License-Identifier: BSD-3-Clause
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "tests/engine/engine_world.h"

namespace faultline::engine {
namespace {

using engine_world::GuestWorld;
using engine_world::TestEngine;
using engine_world::two_shards;

class EnginePause : public testing::Test {
 protected:
  void start(TestEngine& engine, std::vector<std::string> guests) {
    const auto started = engine.start(two_shards(std::move(guests)), on_threads());
    ASSERT_TRUE(started.has_value()) << started.error().message();
  }
  static std::uint64_t rounds(const TestEngine& engine) {
    std::uint64_t least = ~std::uint64_t{0};
    for (const ShardSnapshot& s : engine.snapshot().shards) {
      least = std::min(least, s.counters.rounds);
    }
    return least;
  }
  /// Both shards go round some more, whatever the machine does.
  static bool some_rounds(const TestEngine& engine) {
    const std::uint64_t from = rounds(engine);
    return GuestWorld::until([&] { return rounds(engine) >= from + 50; });
  }
  static std::uint32_t taken(GuestWorld& g) {
    const std::lock_guard lock(g.mutex);
    return g.faults.ring(0).cons + g.faults.ring(1).cons;
  }

  ColdLane lane_{{0}};
};

TEST_F(EnginePause, TouchesNothingOfAPausedGuestAndLosesNothing) {
  GuestWorld a("a"), b("b");
  TestEngine engine(lane_);
  ASSERT_TRUE(a.join(engine).has_value());
  ASSERT_TRUE(b.join(engine).has_value());
  start(engine, {"a", "b"});
  ASSERT_TRUE(a.probe());
  ASSERT_TRUE(b.probe());
  std::size_t expected = 0;
  for (int i = 0; i < 20; ++i) {
    // Some of these are under way when it is paused.
    a.fault(10);
    a.world.queue({command_world::tlbi_va(0x1000), command_world::sync()});
    ASSERT_TRUE(engine.pause_guest("a").has_value());
    EXPECT_TRUE(engine.snapshot().guests[0].paused);
    EXPECT_FALSE(engine.snapshot().guests[1].paused);
    const std::uint32_t cons = a.world.page.acquire(viommu::Reg32::kCmdqCons);
    const std::uint32_t prod = a.world.page.acquire(viommu::Reg32::kEvtqProd);
    const std::uint32_t before = taken(a);
    const std::size_t calls = a.world.kernel.calls;
    a.fault(10);
    a.world.queue({command_world::tlbi_all(), command_world::sync()});
    ASSERT_TRUE(some_rounds(engine));
    EXPECT_EQ(a.world.page.acquire(viommu::Reg32::kCmdqCons), cons);
    EXPECT_EQ(a.world.page.acquire(viommu::Reg32::kEvtqProd), prod);
    EXPECT_EQ(taken(a), before) << "they stay in the kernel's ring";
    EXPECT_EQ(a.world.kernel.calls, calls);

    b.fault(10);
    b.world.queue({command_world::tlbi_all(), command_world::sync()});
    ASSERT_TRUE(b.read_until(static_cast<std::size_t>(i + 1) * 10)) << "the others go on";
    ASSERT_TRUE(b.drained());

    ASSERT_TRUE(engine.resume_guest("a").has_value());
    EXPECT_FALSE(engine.snapshot().guests[0].paused);
    expected += 20;
    ASSERT_TRUE(a.read_until(expected));
    ASSERT_TRUE(a.drained());
  }
  ASSERT_TRUE(engine.stop().has_value());
  EXPECT_EQ(a.guest.log.size(), expected);
  testing_world::audit(a.faults, a.guest, a.vsids);
  testing_world::audit(b.faults, b.guest, b.vsids);
  const EngineSnapshot snapshot = engine.snapshot();
  EXPECT_EQ(snapshot.guests[0].commands.syncs_completed, 2U + 40U);
}

TEST_F(EnginePause, FinishesColdWorkFirstAndTellsTheGuestAfterwards) {
  GuestWorld g("one");
  TestEngine engine(lane_);
  ASSERT_TRUE(g.join(engine).has_value());
  start(engine, {"one"});
  ASSERT_TRUE(g.probe());
  for (unsigned i = 0; i < 20; ++i) {
    g.world.write_ste(0, i % 2 == 0 ? 3 : 1);
    g.world.queue({command_world::cfgi_ste(command_world::World::sid(0)), command_world::sync()});
    ASSERT_TRUE(engine.pause_guest("one").has_value());
    const std::size_t calls = g.world.kernel.attach_calls;
    ASSERT_TRUE(some_rounds(engine));
    EXPECT_EQ(g.world.kernel.attach_calls, calls) << "nobody binds stage 1 of a paused guest";
    ASSERT_TRUE(engine.resume_guest("one").has_value());
    ASSERT_TRUE(g.drained());
  }
  ASSERT_TRUE(engine.stop().has_value());
}

TEST_F(EnginePause, MayBeRemovedMovedOrStoppedWhileItIsPaused) {
  GuestWorld g("one");
  TestEngine engine(lane_);
  ASSERT_TRUE(g.join(engine).has_value());
  start(engine, {"one"});
  ASSERT_TRUE(g.probe());
  ASSERT_TRUE(engine.pause_guest("one").has_value());
  g.fault(10);
  ASSERT_TRUE(engine.remove_guest("one").has_value());
  EXPECT_TRUE(engine.snapshot().guests.empty());
  ASSERT_TRUE(g.join(engine).has_value()) << "its journal is good for another start";
  ASSERT_TRUE(g.read_until(10));

  ASSERT_TRUE(engine.pause_guest("one").has_value());
  Plan other = two_shards({"one"});
  std::swap(other.guests[0].event_shard, other.guests[0].command_shard);
  const auto moved = engine.rebalance(other);
  ASSERT_TRUE(moved.has_value()) << moved.error().message();
  EXPECT_EQ(*moved, 2U);
  EXPECT_EQ(engine.snapshot().guests[0].event_shard, 1U);
  g.fault(10);
  ASSERT_TRUE(engine.stop().has_value()) << "a paused guest has nothing in flight";
  start(engine, {"one"});
  EXPECT_TRUE(engine.snapshot().guests[0].paused) << "it stays paused over another start";
  g.world.queue({command_world::tlbi_all(), command_world::sync()});
  ASSERT_TRUE(some_rounds(engine));
  EXPECT_EQ(g.world.used(), 2U);
  ASSERT_TRUE(engine.resume_guest("one").has_value());
  ASSERT_TRUE(g.read_until(20));
  ASSERT_TRUE(g.drained());
  ASSERT_TRUE(engine.stop().has_value());
  testing_world::audit(g.faults, g.guest, g.vsids);
}

TEST_F(EnginePause, SaysInOneLineWhatIsWrong) {
  const auto expect = [](const Result<void>& result, const std::string& word) {
    ASSERT_FALSE(result.has_value()) << word;
    EXPECT_THAT(result.error().message(), testing::HasSubstr(word));
  };
  GuestWorld g("one");
  TestEngine engine(lane_);
  expect(engine.pause_guest("one"), "there is no guest one");
  expect(engine.resume_guest("one"), "there is no guest one");
  ASSERT_TRUE(g.join(engine).has_value());
  expect(engine.resume_guest("one"), "guest one is not paused");
  ASSERT_TRUE(engine.pause_guest("one").has_value()) << "before the start, too";
  expect(engine.pause_guest("one"), "guest one is paused already");
}

TEST_F(EnginePause, StartsWithoutGuestsAndPlacesEachWhereItsCallerSays) {
  GuestWorld a("a"), b("b"), c("c");
  TestEngine engine(lane_);
  start(engine, {});
  ASSERT_TRUE(some_rounds(engine));
  ASSERT_TRUE(a.join(engine, GuestPlan{"a", 1, 1, "test"}).has_value());
  ASSERT_TRUE(b.join(engine, GuestPlan{"b", 1, 0, "test"}).has_value());
  const auto nowhere = c.join(engine, GuestPlan{"c", 0, 2, "test"});
  ASSERT_FALSE(nowhere.has_value());
  EXPECT_THAT(nowhere.error().message(), testing::HasSubstr("guest c is placed on a shard"));
  ASSERT_TRUE(c.join(engine).has_value());
  const EngineSnapshot s = engine.snapshot();
  ASSERT_EQ(s.guests.size(), 3U);
  EXPECT_EQ(s.guests[0].event_shard, 1U);
  EXPECT_EQ(s.guests[0].command_shard, 1U);
  EXPECT_EQ(s.guests[1].event_shard, 1U);
  EXPECT_EQ(s.guests[1].command_shard, 0U);
  EXPECT_EQ(s.guests[2].event_shard, 0U) << "where fewest are";
  EXPECT_EQ(s.guests[2].command_shard, 0U) << "still fewer than on the other";
  for (GuestWorld* g : {&a, &b, &c}) {
    ASSERT_TRUE(g->probe());
    g->fault(10);
    ASSERT_TRUE(g->read_until(10));
  }
  ASSERT_TRUE(engine.stop().has_value());
}

TEST_F(EnginePause, TellsTheOldestBeat) {
  TestEngine engine(lane_);
  const Nanos before = monotonic_ns();
  EXPECT_GE(engine.oldest_beat(), before) << "it does not run: nobody has to beat";
  start(engine, {});
  const Nanos first = engine.oldest_beat();
  EXPECT_GE(first, before);
  EXPECT_TRUE(GuestWorld::until([&] { return engine.oldest_beat() > first; }));
  ASSERT_TRUE(engine.stop().has_value());
}

TEST_F(EnginePause, ABeatThatStopsShows) {
  TestEngine engine(lane_);
  // The loop of shard 1 never begins.
  std::function<void()> held;
  std::vector<std::thread> threads;
  const Launcher launcher{[&](std::vector<std::function<void()>> loops) -> Result<void> {
                            threads.emplace_back(std::move(loops[0]));
                            held = std::move(loops[1]);
                            return {};
                          },
                          [&] {
                            for (std::thread& t : threads) t.join();
                          }};
  ASSERT_TRUE(engine.start(two_shards({}), launcher).has_value());
  const Nanos stuck = engine.oldest_beat();
  ASSERT_TRUE(GuestWorld::until([&] { return engine.snapshot().shards[0].counters.rounds > 50; }));
  EXPECT_EQ(engine.oldest_beat(), stuck);
  threads.emplace_back(held);
  EXPECT_TRUE(GuestWorld::until([&] { return engine.oldest_beat() > stuck; }));
  ASSERT_TRUE(engine.stop().has_value());
}

}  // namespace
}  // namespace faultline::engine
