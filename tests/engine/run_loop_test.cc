// SPDX-License-Identifier: BSD-3-Clause
#include "engine/run_loop.h"

#include <gtest/gtest.h>

#include <array>
#include <thread>

#include "engine/shard.h"

namespace faultline::engine {
namespace {

struct ScriptedDuty {
  std::size_t busy_rounds = 0;  ///< how many rounds still find work
  std::size_t flying_rounds = 0;
  std::size_t rounds = 0;
  std::size_t round(Nanos) noexcept {
    ++rounds;
    if (flying_rounds > 0) --flying_rounds;
    if (busy_rounds == 0) return 0;
    --busy_rounds;
    return 1;
  }
  [[nodiscard]] bool quiet() const noexcept { return flying_rounds == 0; }
};
using TestShard = Shard<ScriptedDuty>;

struct StepClock {
  Nanos now = 0;
  Nanos step = 1000;
  Nanos operator()() noexcept { return now += step; }
};

void run(TestShard& shard, StepClock clock = {}) {
  TestShard* const shards[] = {&shard};
  run_loop(std::span<TestShard* const>(shards), IdlePolicy::kSpin, clock);
}

TEST(RunLoop, StopsAfterTheRoundThatFindsNothing) {
  TestShard shard;
  ScriptedDuty duty;
  duty.busy_rounds = 5;
  shard.add(duty);
  shard.post({});
  run(shard);
  EXPECT_EQ(duty.busy_rounds, 0U);
  EXPECT_EQ(duty.rounds, 6U);
  EXPECT_EQ(shard.counters().rounds, 6U);
}

TEST(RunLoop, WaitsForWhatIsInFlight) {
  TestShard shard;
  ScriptedDuty duty;
  duty.flying_rounds = 9;
  shard.add(duty);
  shard.post({});
  run(shard);
  EXPECT_EQ(duty.rounds, 9U);
}

TEST(RunLoop, GivesUpDrainingAtItsDeadline) {
  TestShard shard;
  ScriptedDuty duty;
  duty.busy_rounds = static_cast<std::size_t>(-1);
  shard.add(duty);
  shard.post({});
  run(shard, {.now = 0, .step = kDrainNs / 4});
  EXPECT_LE(duty.rounds, 6U);
}

TEST(RunLoop, RunsSeveralShardsOfOneCoreInTurn) {
  TestShard a, b;
  ScriptedDuty da, db;
  db.busy_rounds = 3;
  a.add(da);
  b.add(db);
  a.post({});
  b.post({});
  TestShard* const shards[] = {&a, &b};
  StepClock clock;
  run_loop(std::span<TestShard* const>(shards), IdlePolicy::kPause, clock);
  EXPECT_EQ(da.rounds, db.rounds);
  EXPECT_EQ(db.busy_rounds, 0U);
}

TEST(RunLoop, IsStoppedFromAnotherThread) {
  TestShard shard;
  ScriptedDuty duty;
  shard.add(duty);
  std::thread core([&] {
    TestShard* const shards[] = {&shard};
    run_loop(std::span<TestShard* const>(shards), IdlePolicy::kYield, MonotonicClock{});
  });
  ASSERT_TRUE(shard.post({.token = 5}));
  core.join();
  std::uint64_t token = 0;
  bool accepted = false;
  ASSERT_TRUE(shard.take_ack(token, accepted));
  EXPECT_EQ(token, 5U);
}

TEST(Idle, HasNamesAndDefaults) {
  for (const IdlePolicy p : {IdlePolicy::kSpin, IdlePolicy::kPause, IdlePolicy::kMonitor,
                             IdlePolicy::kYield, IdlePolicy::kSleep}) {
    EXPECT_EQ(idle_from_name(idle_name(p)), p);
    rest(p);
  }
  EXPECT_EQ(idle_from_name("doze"), std::nullopt);
  EXPECT_EQ(default_idle(true), IdlePolicy::kYield);
  EXPECT_EQ(default_idle(false), IdlePolicy::kPause);
}

}  // namespace
}  // namespace faultline::engine
