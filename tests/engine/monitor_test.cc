// SPDX-License-Identifier: BSD-3-Clause
#include "engine/monitor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <thread>

#include "engine/run_loop.h"
#include "engine/shard.h"
#include "tests/engine/command_duty_world.h"

namespace faultline::engine {
namespace {

/// A CPU on which a test sees, and does, what happens at each step.
struct FakeCpu {
  struct State {
    const std::uint32_t* armed = nullptr;
    unsigned waits = 0;
    std::function<void()> before_arm;  ///< what another CPU does just before the line is watched
    std::function<void()> in_wait;
  };
  State* state;
  [[nodiscard]] std::uint32_t arm(const std::uint32_t& word) const noexcept {
    if (state->before_arm) state->before_arm();
    state->armed = &word;
    return load_acquire(word);
  }
  void wait() const noexcept {
    ++state->waits;
    if (state->in_wait) state->in_wait();
  }
};

TEST(Monitor, IsOfferedWhereTheCpuHasIt) {
  EXPECT_TRUE(check_idle(IdlePolicy::kMonitor, {true, true, true}).has_value());
  const auto refused = check_idle(IdlePolicy::kMonitor, CpuFeatures{});
  ASSERT_FALSE(refused.has_value());
  EXPECT_THAT(refused.error().message(), testing::HasSubstr("this CPU has not got "));
  EXPECT_THAT(refused.error().message(), testing::HasSubstr("; take pause"));
  EXPECT_EQ(refused.error().message().find('\n'), std::string::npos);
  for (const IdlePolicy p : {IdlePolicy::kSpin, IdlePolicy::kPause, IdlePolicy::kSleep}) {
    EXPECT_TRUE(check_idle(p, CpuFeatures{}).has_value());
  }
}

#if defined(__x86_64__)
TEST(Monitor, NeedsWaitpkg) {
  EXPECT_TRUE(check_idle(IdlePolicy::kMonitor, {.waitpkg = true}).has_value());
  EXPECT_FALSE(check_idle(IdlePolicy::kMonitor, {.wfxt = true, .event_stream = true}).has_value());
}
#elif defined(__aarch64__)
TEST(Monitor, NeedsAWfeThatEnds) {
  EXPECT_TRUE(check_idle(IdlePolicy::kMonitor, {.wfxt = true}).has_value());
  EXPECT_TRUE(check_idle(IdlePolicy::kMonitor, {.event_stream = true}).has_value());
  EXPECT_FALSE(check_idle(IdlePolicy::kMonitor, {.waitpkg = true}).has_value());
}
#endif

TEST(Monitor, WaitsOnlyWhileTheWordIsWhatItWasBeforeTheLook) {
  FakeCpu::State cpu;
  LineWatch<FakeCpu> line(FakeCpu{&cpu});
  std::uint32_t word = 7;
  line.look(&word);
  line.rest(&word);
  EXPECT_EQ(cpu.waits, 1U);
  EXPECT_EQ(cpu.armed, &word);

  line.look(&word);
  word = 8;  // while the round looked elsewhere
  line.rest(&word);
  EXPECT_EQ(cpu.waits, 1U);

  line.look(&word);
  cpu.before_arm = [&] { word = 9; };
  line.rest(&word);
  EXPECT_EQ(cpu.waits, 1U) << "written after the round and before the line was watched";
}

TEST(Monitor, TouchesNothingThatTheRoundDropped) {
  FakeCpu::State cpu;
  LineWatch<FakeCpu> line(FakeCpu{&cpu});
  std::uint32_t word = 7;
  std::uint32_t other = 7;
  line.look(&word);
  line.rest(nullptr);
  line.look(&word);
  line.rest(&other);
  line.look(nullptr);
  line.rest(&word);
  EXPECT_EQ(cpu.waits, 0U);
  EXPECT_EQ(cpu.armed, nullptr);
}

/// Work is announced by a change of a word.
struct WordDuty {
  std::uint32_t* word;
  Nanos last_work = 0;
  bool flying = false;
  std::uint32_t taken = 0;
  std::size_t rounds = 0;
  std::size_t round(Nanos now) noexcept {
    ++rounds;
    const std::uint32_t n = load_acquire(*word) - taken;
    taken += n;
    if (n != 0) last_work = now;
    return n;
  }
  [[nodiscard]] bool quiet() const noexcept { return !flying; }
  [[nodiscard]] WatchedLine watched() const noexcept { return {word, last_work}; }
};
struct DeafDuty {
  std::size_t round(Nanos) noexcept { return 0; }
};
using WordShard = Shard<WordDuty, DeafDuty>;

struct StepClock {
  Nanos now = 0;
  Nanos operator()() noexcept { return now += 1000; }
};

void run(WordShard& shard, FakeCpu cpu) {
  WordShard* const shards[] = {&shard};
  run_loop(std::span<WordShard* const>(shards), IdleOptions{.policy = IdlePolicy::kMonitor},
           StepClock{}, cpu);
}

TEST(Monitor, AShardWatchesTheLineOfTheDutyThatHadWorkLast) {
  WordShard shard;
  EXPECT_EQ(shard.watched_word(), nullptr);
  DeafDuty deaf;
  shard.add(deaf);
  EXPECT_EQ(shard.watched_word(), nullptr) << "it has none";
  std::uint32_t a = 0, b = 0;
  WordDuty of_a{&a}, of_b{&b};
  shard.add(of_a);
  shard.add(of_b);
  EXPECT_EQ(shard.watched_word(), &a);
  b = 1;
  shard.round(10);
  EXPECT_EQ(shard.watched_word(), &b);
  a = 1;
  shard.round(20);
  EXPECT_EQ(shard.watched_word(), &a);
  shard.remove(of_a);
  EXPECT_EQ(shard.watched_word(), &b);
}

TEST(Monitor, TheLoopWaitsBetweenIdleRoundsAndTakesWhatEndsTheWait) {
  WordShard shard;
  std::uint32_t word = 0;
  WordDuty duty{&word};
  shard.add(duty);
  FakeCpu::State cpu;
  cpu.in_wait = [&] {
    EXPECT_EQ(duty.taken, word) << "it waits only when all is taken";
    if (cpu.waits == 100) {
      shard.post({});
    } else if (cpu.waits % 3 == 0) {
      store_release(word, word + 1);
    }
  };
  run(shard, FakeCpu{&cpu});
  EXPECT_GE(cpu.waits, 100U);
  EXPECT_EQ(duty.taken, 33U);
  EXPECT_LE(duty.rounds, 100 + 3 * 33 + 3) << "a wait for each idle round but the first after work";
}

TEST(Monitor, TheLoopDoesNotWaitWhileSomethingIsInFlight) {
  WordShard shard;
  std::uint32_t word = 0;
  WordDuty duty{&word};
  duty.flying = true;
  shard.add(duty);
  FakeCpu::State cpu;
  shard.post({});
  run(shard, FakeCpu{&cpu});  // to the end of the drain
  EXPECT_GT(duty.rounds, 100U);
  EXPECT_EQ(cpu.waits, 0U);
}

TEST(Monitor, TheGuestsCommandQueueIsALine) {
  using command_world::World;
  World world;
  command_world::FakeSink sink{&world.kernel};
  CommandDuty<command_world::FakeSink, merge::BatchUntilSync> duty(world.setup(), sink);
  const WatchedLine line = duty.watched();
  ASSERT_NE(line.word, nullptr);
  const std::uint32_t before = *line.word;
  world.page.release(viommu::Reg32::kCmdqProd, before + 1);
  EXPECT_EQ(*line.word, before + 1);
}

TEST(Monitor, OnThisCpuAWriteByAnotherThreadIsSeen) {
  // With the CPU's own instructions where it has them.
  WordShard shard;
  std::uint32_t word = 0;
  WordDuty duty{&word};
  shard.add(duty);
  std::thread core([&] {
    WordShard* const shards[] = {&shard};
    run_loop(std::span<WordShard* const>(shards), IdleOptions{.policy = IdlePolicy::kMonitor},
             MonotonicClock{});
  });
  for (std::uint32_t i = 1; i <= 50; ++i) {
    store_release(word, i);
    while (load_relaxed(shard.counters().work) != i) std::this_thread::yield();
  }
  ASSERT_TRUE(shard.post({}));
  core.join();
}

}  // namespace
}  // namespace faultline::engine
