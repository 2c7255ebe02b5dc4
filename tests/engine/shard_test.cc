// SPDX-License-Identifier: BSD-3-Clause
#include "engine/shard.h"

#include <gtest/gtest.h>

#include <vector>

namespace faultline::engine {
namespace {

struct CountingDuty {
  std::size_t rounds = 0;
  std::size_t work = 0;
  Nanos last = 0;
  std::size_t round(Nanos now) noexcept {
    ++rounds;
    last = now;
    return work;
  }
};

struct FlyingDuty {
  bool flying = false;
  std::size_t rounds = 0;
  std::size_t round(Nanos) noexcept {
    ++rounds;
    return 0;
  }
  [[nodiscard]] bool quiet() const noexcept { return !flying; }
};

using TestShard = Shard<CountingDuty, FlyingDuty>;

ShardMessage message(ShardMessage::Kind kind, CountingDuty& duty, std::uint64_t token) {
  return {kind, TestShard::type_of<CountingDuty>(), reinterpret_cast<std::uintptr_t>(&duty), token};
}

TEST(Shard, RunsEveryDutyOncePerRound) {
  TestShard shard;
  CountingDuty a, b;
  FlyingDuty c;
  a.work = 2;
  b.work = 3;
  ASSERT_TRUE(shard.add(a));
  ASSERT_TRUE(shard.add(b));
  ASSERT_TRUE(shard.add(c));
  EXPECT_EQ(shard.round(7), 5U);
  EXPECT_EQ(a.rounds, 1U);
  EXPECT_EQ(b.rounds, 1U);
  EXPECT_EQ(c.rounds, 1U);
  EXPECT_EQ(a.last, 7U);
  EXPECT_EQ(shard.counters().beat, 7U);
}

TEST(Shard, TakesDutiesByMessageAndSaysWhenItDid) {
  TestShard shard;
  CountingDuty a;
  ASSERT_TRUE(shard.post(message(ShardMessage::Kind::kAdd, a, 11)));
  std::uint64_t token = 0;
  bool accepted = false;
  EXPECT_FALSE(shard.take_ack(token, accepted));
  shard.round(1);
  ASSERT_TRUE(shard.take_ack(token, accepted));
  EXPECT_EQ(token, 11U);
  EXPECT_TRUE(accepted);
  EXPECT_EQ(a.rounds, 1U);
  ASSERT_TRUE(shard.post(message(ShardMessage::Kind::kRemove, a, 12)));
  shard.round(2);
  EXPECT_EQ(a.rounds, 1U) << "removed before the round's duties ran";
  ASSERT_TRUE(shard.take_ack(token, accepted));
  EXPECT_TRUE(accepted);
}

TEST(Shard, RefusesAMessageItCannotServe) {
  TestShard shard(1);
  CountingDuty a, b;
  std::uint64_t token = 0;
  bool accepted = true;
  ASSERT_TRUE(shard.post(message(ShardMessage::Kind::kRemove, a, 1)));
  shard.round(1);
  ASSERT_TRUE(shard.take_ack(token, accepted));
  EXPECT_FALSE(accepted) << "no such duty";
  ASSERT_TRUE(shard.add(a));
  ASSERT_TRUE(shard.post(message(ShardMessage::Kind::kAdd, b, 2)));
  shard.round(2);
  ASSERT_TRUE(shard.take_ack(token, accepted));
  EXPECT_FALSE(accepted) << "no room";
}

TEST(Shard, IsQuietWhenNoDutyHasAnythingInFlight) {
  TestShard shard;
  FlyingDuty a;
  CountingDuty b;
  shard.add(a);
  shard.add(b);
  EXPECT_TRUE(shard.quiet());
  a.flying = true;
  EXPECT_FALSE(shard.quiet());
}

TEST(Shard, BooksCyclesAsBusyOrIdle) {
  TestShard shard;
  shard.account(3, 100);
  shard.account(0, 40);
  shard.account(1, 10);
  EXPECT_EQ(shard.counters().busy_cycles, 110U);
  EXPECT_EQ(shard.counters().idle_cycles, 40U);
  EXPECT_EQ(shard.counters().busy_rounds, 2U);
  EXPECT_EQ(shard.counters().work, 4U);
}

}  // namespace
}  // namespace faultline::engine
