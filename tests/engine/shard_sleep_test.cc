// SPDX-License-Identifier: BSD-3-Clause
#include "engine/shard_sleep.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <atomic>
#include <chrono>
#include <random>
#include <thread>

#include "engine/bell.h"
#include "engine/run_loop.h"
#include "engine/shard.h"
#include "tests/engine/command_duty_world.h"

namespace faultline::engine {
namespace {

// No sleep of these tests ends by time unless a wake-up was lost, on whatever machine.
constexpr Nanos kForEver = 3'600'000'000'000;
// Arrivals after which a shard that has not slept yet never will.
constexpr int kPatience = 200'000;

/// Work comes as a kernel brings it: made visible first, signalled then.
struct Inbox {
  Inbox() { EXPECT_TRUE(bell.hang()); }
  void deliver() {
    pending.fetch_add(1, std::memory_order_release);  // pairs with the duty's acquire
    bell.ring();
  }
  std::atomic<unsigned> pending{0};
  std::atomic<unsigned> taken{0};
  Bell bell;
};

struct InboxDuty {
  Inbox* inbox;
  bool flying = false;
  std::size_t round(Nanos) noexcept {
    const unsigned n = inbox->pending.exchange(0, std::memory_order_acquire);
    inbox->taken.fetch_add(n, std::memory_order_release);
    return n;
  }
  [[nodiscard]] bool quiet() const noexcept { return !flying; }
  [[nodiscard]] std::array<int, 1> wake_fds() const noexcept { return {inbox->bell.fd()}; }
  void drain_signals(Nanos) noexcept { inbox->bell.drain(); }
  [[nodiscard]] Nanos longest_sleep() const noexcept { return kForEver; }
};
using InboxShard = Shard<InboxDuty>;

IdleOptions sleeping() {
  return {.policy = IdlePolicy::kSleep, .quiet = 1, .longest = kForEver};
}

struct Sleeping {
  Sleeping() {
    auto sleeper = Sleeper::make();
    EXPECT_TRUE(sleeper) << sleeper.error().message();
    shard.sleep_on(std::move(*sleeper));
    EXPECT_TRUE(shard.watch(duty) && shard.add(duty));
  }
  Inbox inbox;
  InboxDuty duty{&inbox};
  InboxShard shard;
};

TEST(ShardSleep, WhatArrivesAtAnyStepOfGoingToSleepIsSeen) {
  for (const SleepStep step : {SleepStep::kDrained, SleepStep::kLooked}) {
    Sleeping s;
    s.inbox.bell.ring();  // an old signal, for work that was done already
    SleepRule rule(sleeping());
    const std::size_t work =
        sleep_unless_work(s.shard, rule, sleeping(), MonotonicClock{}, [&](SleepStep at) {
          if (at == step) s.inbox.deliver();
        });
    if (step == SleepStep::kDrained) {
      EXPECT_EQ(work, 1U) << "the look found it";
      EXPECT_EQ(s.shard.counters().sleeps, 0U);
    } else {
      EXPECT_EQ(work, 0U);
      EXPECT_EQ(s.shard.counters().sleeps, 1U) << "and its signal ended the sleep";
      EXPECT_EQ(s.shard.round(1), 1U);
    }
  }
}

/// How a shard goes to sleep: the real way, and ways that lose wake-ups.
enum class Order { kReal, kNoLook, kLookFirst };

template <class Hook>
void go_to_sleep(Order order, InboxShard& shard, const IdleOptions& options, Hook hook) {
  SleepRule rule(options);
  if (order == Order::kReal) {
    (void)sleep_unless_work(shard, rule, options, MonotonicClock{}, hook);
    return;
  }
  hook(SleepStep::kBegun);
  if (order == Order::kNoLook) {
    shard.drain_signals(1);
    hook(SleepStep::kDrained);
    hook(SleepStep::kLooked);
  } else {
    const std::size_t work = shard.round(1);
    hook(SleepStep::kDrained);
    shard.drain_signals(1);
    hook(SleepStep::kLooked);
    if (work != 0) return;
  }
  (void)shard.sleeper()->sleep(options.longest);
}

/// Let a producer's two steps, visible and signal (or the other way round), happen at any two
/// points of going to sleep. returns  interleavings in which the shard then sleeps although there
/// is work and nothing will wake it
unsigned lost_wake_ups(Order order, bool signal_first) {
  constexpr int kAfter = 3;  // it sleeps
  unsigned lost = 0;
  for (int first = 0; first <= kAfter; ++first) {
    for (int second = first; second <= kAfter; ++second) {
      Sleeping s;
      const auto produce = [&](bool signal) {
        if (signal) {
          s.inbox.bell.ring();
        } else {
          s.inbox.pending.fetch_add(1, std::memory_order_release);
        }
      };
      const auto at = [&](int point) {
        if (first == point) produce(signal_first);
        if (second == point) produce(!signal_first);
      };
      IdleOptions options = sleeping();
      options.longest = 1;  // whether it would have been woken is asked afterwards
      go_to_sleep(order, s.shard, options, [&](SleepStep step) { at(static_cast<int>(step)); });
      at(kAfter);
      const bool pending = s.inbox.taken == 0;
      // A sleep that was ended at once has been followed by a round; one round is what that is.
      const bool woken = s.shard.sleeper()->sleep(1) == Woken::kBySignal;
      lost += pending && !woken ? 1U : 0U;
    }
  }
  return lost;
}

TEST(ShardSleep, LosesNoWakeUpInAnyInterleavingOfArmingAndArrival) {
  EXPECT_EQ(lost_wake_ups(Order::kReal, false), 0U);
}

TEST(ShardSleep, EachPlantedOrderLosesOne) {
  EXPECT_GT(lost_wake_ups(Order::kNoLook, false), 0U) << "sleeps without looking once more";
  EXPECT_GT(lost_wake_ups(Order::kLookFirst, false), 0U) << "looks, takes signals back, sleeps";
  EXPECT_GT(lost_wake_ups(Order::kReal, true), 0U) << "a producer that signals first";
}

TEST(ShardSleep, DoesNotSleepWhileSomethingIsInFlight) {
  Sleeping s;
  s.duty.flying = true;
  SleepRule rule(sleeping());
  EXPECT_EQ(sleep_unless_work(s.shard, rule, sleeping(), MonotonicClock{}), 0U);
  EXPECT_EQ(s.shard.counters().sleeps, 0U);
}

TEST(ShardSleep, LosesNoWakeUpWhileArrivalsRaceWithIt) {
  Sleeping s;
  std::thread core([&] {
    InboxShard* const shards[] = {&s.shard};
    run_loop(std::span<InboxShard* const>(shards), sleeping(), MonotonicClock{});
  });
  std::mt19937 random(31);
  unsigned delivered = 0;
  const auto slept = [&] { return load_relaxed(s.shard.counters().sleeps) != 0; };
  for (int i = 0; i < 3000 || (!slept() && i < kPatience); ++i) {
    // At moments all over the way to sleep; every so often it has long fallen asleep.
    for (volatile unsigned spin = random() % 3000; spin != 0;) spin = spin - 1;
    if (i % 100 == 0) std::this_thread::sleep_for(std::chrono::microseconds(300));
    s.inbox.deliver();
    ++delivered;
    while (s.inbox.taken.load(std::memory_order_acquire) != delivered) std::this_thread::yield();
  }
  ASSERT_TRUE(s.shard.post({}));  // wakes it, too
  core.join();
  EXPECT_GT(s.shard.counters().sleeps, 0U);
  EXPECT_GT(s.shard.counters().slept_ns, 0U);
}

TEST(ShardSleep, AnswersTheControlThreadWhileItSleeps) {
  Sleeping s;
  Inbox other;
  InboxDuty guest{&other};
  std::thread core([&] {
    InboxShard* const shards[] = {&s.shard};
    run_loop(std::span<InboxShard* const>(shards), sleeping(), MonotonicClock{});
  });
  const auto tell = [&](ShardMessage::Kind kind, std::uint64_t token) {
    ASSERT_TRUE(s.shard.post({kind, 0, reinterpret_cast<std::uintptr_t>(&guest), token}));
    std::uint64_t told = 0;
    bool accepted = false;
    while (!s.shard.take_ack(told, accepted)) std::this_thread::yield();
    EXPECT_EQ(told, token);
    EXPECT_TRUE(accepted);
  };
  for (std::uint64_t i = 0; i < 100; ++i) {
    ASSERT_TRUE(s.shard.watch(guest));
    tell(ShardMessage::Kind::kAdd, 2 * i);
    other.deliver();
    while (other.taken.load(std::memory_order_acquire) != i + 1) std::this_thread::yield();
    tell(ShardMessage::Kind::kRemove, 2 * i + 1);
    s.shard.unwatch(guest);
  }
  ASSERT_TRUE(s.shard.post({}));
  core.join();
}

TEST(ShardSleep, ATrappedGuestsDoorbellEndsTheSleep) {
  using command_world::World;
  World world(2, RegisterMode::kTrapped);
  Bell doorbell;
  ASSERT_TRUE(doorbell.hang());
  world.spec.doorbell_eventfd = doorbell.fd();
  command_world::FakeSink sink{&world.kernel};
  using Duty = CommandDuty<command_world::FakeSink, merge::BatchUntilSync>;
  Duty duty(world.setup(), sink);
  EXPECT_EQ(duty.longest_sleep(), ~Nanos{0});
  Shard<Duty> shard;
  shard.sleep_on(std::move(*Sleeper::make()));
  ASSERT_TRUE(shard.watch(duty) && shard.add(duty));
  std::thread core([&] {
    Shard<Duty>* const shards[] = {&shard};
    run_loop(std::span<Shard<Duty>* const>(shards), sleeping(), MonotonicClock{});
  });
  const auto until = [&](auto done) {
    while (!done()) {
      // A change of CR0 asks the guest's EventDuty, and the cold lane for stage 1.
      (void)(world.serve_events() + world.serve_cold(sink));
      std::this_thread::yield();
    }
  };
  world.write_strtab_registers();
  world.write_cmdq_registers();
  world.write_cr0(8);
  doorbell.ring();
  until([&] { return world.cr0ack() == 8; });
  // A driver that is quick enough never lets the shard fall asleep: go on until it has, now and
  // then in no hurry.
  const auto slept = [&] { return load_relaxed(shard.counters().sleeps) != 0; };
  for (int i = 0; i < 50 || (!slept() && i < kPatience); ++i) {
    if (i % 10 == 0) std::this_thread::sleep_for(std::chrono::microseconds(300));
    world.queue({command_world::tlbi_all(), command_world::sync()});
    doorbell.ring();
    until([&] { return world.used() == 0; });
  }
  ASSERT_TRUE(shard.post({}));
  core.join();
  EXPECT_GT(shard.counters().sleeps, 0U);
}

TEST(ShardSleep, LooksAtRegistersThatRingNoBellOftenEnough) {
  using command_world::World;
  World world;
  world.spec.register_poll_ns = 77'000;
  command_world::FakeSink sink{&world.kernel};
  CommandDuty<command_world::FakeSink, merge::BatchUntilSync> duty(world.setup(), sink);
  EXPECT_EQ(duty.longest_sleep(), 77'000U);
  EXPECT_EQ(duty.wake_fds()[0], -1);
}

TEST(SleepRule, SleepsAfterTheQuietTimeAndPollsLongerWhereSleepsAreShort) {
  SleepRule rule({.policy = IdlePolicy::kSleep, .quiet = 100, .longest = kForEver});
  EXPECT_FALSE(rule.due(1, 1000));
  EXPECT_FALSE(rule.due(0, 1099));
  EXPECT_TRUE(rule.due(0, 1100));
  rule.slept(Woken::kByTime, 50, 1150);
  EXPECT_TRUE(rule.due(0, 1151)) << "nothing came: on with it";
  rule.slept(Woken::kBySignal, 50, 1200);
  EXPECT_EQ(rule.quiet(), 200U);
  EXPECT_FALSE(rule.due(0, 1399));
  EXPECT_TRUE(rule.due(0, 1400));
  for (Nanos now = 2000; now < 20'000; now += 1000) rule.slept(Woken::kBySignal, 1, now);
  EXPECT_EQ(rule.quiet(), 100 * SleepRule::kPatience);
  rule.slept(Woken::kBySignal, 5000, 30'000);
  EXPECT_EQ(rule.quiet(), 100U) << "a long one: work comes seldom";
}

TEST(Sleeper, RefusesWhatCannotBeWatchedAndIgnoresNone) {
  auto sleeper = Sleeper::make();
  ASSERT_TRUE(sleeper);
  EXPECT_TRUE((*sleeper)->watch(-1));
  EXPECT_FALSE((*sleeper)->watch(987'654));
  (*sleeper)->unwatch(987'654);
  (*sleeper)->wake();
  EXPECT_EQ((*sleeper)->sleep(kForEver), Woken::kBySignal);
  EXPECT_EQ((*sleeper)->sleep(1), Woken::kByTime) << "the wake-up was taken back";
}

}  // namespace
}  // namespace faultline::engine
