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

/// Submits as often as it is told to; `Type` makes several types of it.
template <int Type>
struct AskingDuty {
  std::size_t due = 0;
  std::size_t work = 0;
  std::uint64_t most = 1;
  std::size_t rounds = 0;
  std::size_t submissions = 0;
  std::size_t waits = 0;
  SubmissionTurn turn;
  std::size_t round(Nanos) noexcept {
    ++rounds;
    if (due == 0) return work;
    --due;
    ++submissions;
    turn.submitted();
    return work;  // 0: as a drain does
  }
  [[nodiscard]] Submitted take_submitted() noexcept { return turn.take(Limit(most)); }
  [[nodiscard]] const void* owner() const noexcept { return this; }
  void note_foreign_wait() noexcept { ++waits; }
};
using First = AskingDuty<1>;
using Second = AskingDuty<2>;
using AskingShard = Shard<First, CountingDuty, Second>;

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

TEST(Shard, NeverServesAMessageThatWasTakenBack) {
  TestShard shard;
  CountingDuty a, b;
  std::uint64_t token = 0;
  bool accepted = false;
  ASSERT_TRUE(shard.post(message(ShardMessage::Kind::kAdd, a, 1)));
  ASSERT_TRUE(shard.post(message(ShardMessage::Kind::kAdd, b, 2)));
  EXPECT_TRUE(shard.withdraw(1));
  EXPECT_FALSE(shard.withdraw(1)) << "once";
  EXPECT_FALSE(shard.withdraw(7)) << "of none";
  shard.round(1);
  ASSERT_TRUE(shard.take_ack(token, accepted));
  EXPECT_EQ(token, 2U);
  EXPECT_FALSE(shard.take_ack(token, accepted));
  EXPECT_EQ(a.rounds, 0U);
  EXPECT_EQ(b.rounds, 1U);
  EXPECT_FALSE(shard.withdraw(2)) << "it took effect";
}

TEST(Shard, TellsTakenBackMessagesFromOthersHoweverManyThereWere) {
  TestShard shard(4);
  CountingDuty a, b;
  std::uint64_t posted = 0;
  for (std::uint64_t token = 1; token <= 1000; token += 2) {
    // As many as fit, so that places in the ring are used again and again.
    ASSERT_TRUE(shard.post(message(ShardMessage::Kind::kAdd, a, token)));
    ASSERT_TRUE(shard.post(message(ShardMessage::Kind::kAdd, b, token + 1)));
    ASSERT_TRUE(shard.withdraw(token));
    if (++posted % 30 != 0) continue;
    std::uint64_t answered = 0;
    shard.round(token);
    std::uint64_t from = 0;
    bool accepted = false;
    while (shard.take_ack(from, accepted)) {
      EXPECT_EQ(from % 2, 0U);
      ++answered;
    }
    EXPECT_EQ(answered, 30U);
  }
  EXPECT_EQ(a.rounds, 0U);
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

TEST(Shard, MakesOneSubmissionPerRoundAndServesTheOthersBetween) {
  AskingShard shard;
  First a, b;
  Second c, d;
  CountingDuty events;
  shard.add(c);
  shard.add(a);
  shard.add(events);
  shard.add(b);
  shard.add(d);
  a.due = b.due = c.due = d.due = 100;
  for (std::size_t turn = 1; turn <= 5; ++turn) {
    for (int i = 0; i < 4; ++i) EXPECT_EQ(shard.round(1), 1U) << "a round cut short is not idle";
    EXPECT_EQ(a.submissions, turn);
    EXPECT_EQ(b.submissions, turn);
    EXPECT_EQ(c.submissions, turn);
    EXPECT_EQ(d.submissions, turn);
  }
  EXPECT_EQ(events.rounds, 20U);
  EXPECT_EQ(shard.counters().submissions, 20U);
}

TEST(Shard, VisitsEveryDutyThatDoesNotSubmitOncePerRound) {
  AskingShard shard;
  First a, b;
  Second c;
  shard.add(a);
  shard.add(b);
  shard.add(c);
  b.due = 1;
  shard.round(1);
  EXPECT_EQ(a.rounds, 1U);
  EXPECT_EQ(c.rounds, 0U) << "behind the one that submitted";
  shard.round(2);
  EXPECT_EQ(c.rounds, 1U);
  EXPECT_EQ(a.rounds, 2U) << "the sweep goes once round";
  EXPECT_EQ(b.rounds, 2U);
  EXPECT_EQ(shard.round(3), 0U);
  EXPECT_EQ(a.rounds, 3U);
}

TEST(Shard, KeepsTheTurnWhenDutiesComeAndGo) {
  AskingShard shard;
  First a, b, late;
  Second c;
  shard.add(a);
  shard.add(b);
  shard.add(c);
  a.due = b.due = c.due = late.due = 100;
  shard.round(1);
  shard.round(2);
  EXPECT_EQ(b.submissions, 1U);
  shard.remove(a);  // before the turn, which is c's
  shard.round(3);
  EXPECT_EQ(c.submissions, 1U);
  shard.round(4);
  EXPECT_EQ(b.submissions, 2U);
  shard.add(late);  // between b and c
  shard.round(5);
  EXPECT_EQ(late.submissions + c.submissions, 2U);
  shard.round(6);
  shard.round(7);
  EXPECT_GE(late.submissions, 1U);
  EXPECT_GE(c.submissions, 2U);
  shard.remove(c);
  shard.remove(late);
  const std::size_t before = b.submissions;
  for (int i = 0; i < 3; ++i) shard.round(8);
  EXPECT_EQ(b.submissions - before, 3U) << "alone, it has every round";
}

TEST(Shard, GoesOnWithAGuestWhoseBudgetHasSeveralSubmissions) {
  AskingShard shard;
  First a, b;
  shard.add(a);
  shard.add(b);
  a.most = 3;
  a.due = b.due = 100;
  for (int i = 0; i < 8; ++i) shard.round(1);
  EXPECT_EQ(a.submissions, 6U);
  EXPECT_EQ(b.submissions, 2U);
  a.due = 1;
  for (int i = 0; i < 2; ++i) shard.round(1);
  EXPECT_EQ(a.submissions, 7U);
  EXPECT_EQ(b.submissions, 3U) << "nothing due ends the turn";
}

TEST(Shard, TellsWhoWaitedForASubmissionOfAnother) {
  AskingShard shard;
  First a, b;
  shard.add(a);
  shard.add(b);
  a.due = 2;
  a.work = 1;
  shard.round(1);
  shard.round(2);
  EXPECT_EQ(a.waits, 0U) << "its own";
  EXPECT_EQ(b.waits, 0U) << "it had nothing to do";
  a.due = 1;
  shard.round(3);
  b.work = 1;
  shard.round(4);
  EXPECT_EQ(a.waits, 0U);
  EXPECT_EQ(b.waits, 1U);
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
