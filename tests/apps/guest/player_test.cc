// SPDX-License-Identifier: BSD-3-Clause
#include "apps/guest/player.h"

#include <gtest/gtest.h>

#include "tests/apps/guest/fake_smmu.h"
#include "tests/apps/guest/text_trace.h"

namespace faultline::guest {
namespace {

class PlayerTest : public testing::Test {
 protected:
  PlayerTest() : queue(s.memory, s.registers, 6) {
    s.registers.write64(reg::kCmdqBase, queue.base_register());
    s.registers.write32(reg::kCr0, reg::kCr0CmdqEn);
  }
  // What the SMMU has consumed so far, as text.
  std::string consumed() const {
    std::string text;
    for (const Command& c : s.commands) {
      text += c.opcode() == op::kSync ? '.' : static_cast<char>(c.word[0] >> 48);
    }
    return text;
  }
  FakeSmmu s;
  CommandQueue queue;
  Histogram latency;
};

TEST_F(PlayerTest, DealsTheGroupsOfOneDoorbellToDistinctVcpus) {
  const Script script = make_script(trace_of({"1:a.b.c.", "0:d."}, 4));
  EXPECT_EQ(script.vcpus[1].size(), 1U);
  EXPECT_EQ(script.vcpus[2].size(), 1U);
  EXPECT_EQ(script.vcpus[3].size(), 1U);
  EXPECT_EQ(script.vcpus[0].size(), 1U);
  EXPECT_EQ(script.vcpus[2][0].first, 2U);
  EXPECT_EQ(script.vcpus[2][0].count, 1U);
  EXPECT_TRUE(script.vcpus[2][0].sync);
}

TEST_F(PlayerTest, KeepsGlobalCommandsForThePrologue) {
  const Script script = make_script(trace_of({"0:!.", "0:a.", "1:b!."}, 2));
  ASSERT_EQ(script.prologue.size(), 2U);
  EXPECT_EQ(script.vcpus[0].size(), 1U);
  EXPECT_TRUE(script.vcpus[1].empty());
}

TEST_F(PlayerTest, RingsAgainOnlyAfterItsSyncCompleted) {
  const Trace t = trace_of({"0:a.", "0:b."}, 1);
  Player player(t, queue, latency, Player::Pace::kFast);
  EXPECT_EQ(player.step(100, true), 1U);
  EXPECT_EQ(player.step(200, true), 0U);
  s.step();
  EXPECT_EQ(consumed(), "a.");
  queue.poll();
  EXPECT_EQ(player.step(300, true), 2U);
  s.step();
  EXPECT_EQ(consumed(), "a.b.");
  EXPECT_EQ(latency.count(), 1U);
  EXPECT_EQ(latency.max(), 200U);
}

TEST_F(PlayerTest, LetsVcpusGoOnWithoutEachOther) {
  s.stop_after_sync = true;
  const Trace t = trace_of({"0:a.", "1:b.", "0:c.", "1:d."}, 2);
  Player player(t, queue, latency, Player::Pace::kFast);
  player.step(1, true);
  EXPECT_EQ(queue.outstanding(), 2U) << "both vCPUs wait at the same time";
  s.step();
  queue.poll();
  player.step(2, true);
  s.step();
  s.step();
  EXPECT_EQ(consumed(), "a.b.c.") << "vCPU 0 went on while vCPU 1 waited";
  EXPECT_EQ(player.outstanding_sum(), 1U + 2U + 2U);
}

TEST_F(PlayerTest, RingsWithoutSyncAndGoesOnAtOnce) {
  const Trace t = trace_of({"0:abc", "0:d."}, 1);
  Player player(t, queue, latency, Player::Pace::kFast);
  player.step(1, true);
  EXPECT_TRUE(player.idle());
  player.step(1, true);
  EXPECT_FALSE(player.idle());
  s.step();
  EXPECT_EQ(consumed(), "abcd.");
}

TEST_F(PlayerTest, StartsOverAtTheEnd) {
  const Trace t = trace_of({"0:a."}, 1);
  Player player(t, queue, latency, Player::Pace::kFast);
  for (Nanos now = 1; now < 6; ++now) {
    player.step(now, true);
    s.step();
    queue.poll();
  }
  EXPECT_EQ(consumed(), "a.a.a.a.a.");
  EXPECT_EQ(player.loops(), 4U);
}

TEST_F(PlayerTest, KeepsTheRecordedTimesWhenAsked) {
  const Trace t = trace_of({"0:a.", "0:b."}, 1);  // b was rung at 1000
  Player player(t, queue, latency, Player::Pace::kRecorded);
  player.step(5000, true);
  s.step();
  queue.poll();
  player.step(5999, true);
  s.step();
  EXPECT_EQ(consumed(), "a.");
  player.step(6000, true);
  s.step();
  EXPECT_EQ(consumed(), "a.b.");
}

TEST_F(PlayerTest, OnlyFinishesWhenThereIsNoMore) {
  const Trace t = trace_of({"0:a.", "0:b."}, 1);
  Player player(t, queue, latency, Player::Pace::kFast);
  player.step(1, true);
  s.step();
  queue.poll();
  player.step(2, false);
  EXPECT_TRUE(player.idle());
  s.step();
  EXPECT_EQ(consumed(), "a.");
}

TEST_F(PlayerTest, WaitsForRoomInTheQueue) {
  const Trace t = trace_of({"0:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "0:b."}, 1);  // 30 of 64
  Player player(t, queue, latency, Player::Pace::kFast);
  for (Nanos now = 1; now < 10; ++now) player.step(now, true);
  EXPECT_LE(queue.commands(), 64U);
  const std::uint64_t before = queue.commands();
  s.step();
  queue.poll();
  player.step(10, true);
  EXPECT_GT(queue.commands(), before);
}

TEST_F(PlayerTest, ThinksAfterEachSyncAndTakesTimeToRing) {
  const Trace t = trace_of({"0:a.", "0:b", "0:c."}, 1);
  Player player(t, queue, latency, {.think = 1000, .ring = 50});
  player.step(1, true);
  EXPECT_EQ(player.next_ring(1), Player::kNever) << "it waits for its CMD_SYNC";
  s.step();
  queue.poll();
  player.step(10, true);
  EXPECT_EQ(player.next_ring(10), 1060U);
  player.step(1059, true);
  s.step();
  EXPECT_EQ(consumed(), "a.");
  player.step(1060, true);
  EXPECT_EQ(player.next_ring(1060), 1110U) << "no CMD_SYNC: nothing to think about";
  player.step(1109, true);
  s.step();
  EXPECT_EQ(consumed(), "a.b");
  player.step(1110, true);
  s.step();
  EXPECT_EQ(consumed(), "a.bc.");
}

TEST_F(PlayerTest, EndsAfterItsLoops) {
  const Trace t = trace_of({"0:a.", "1:b"}, 2);
  Player player(t, queue, latency, {.loops = 2});
  for (Nanos now = 1; now < 10; ++now) {
    EXPECT_EQ(player.finished(), now > 3);
    player.step(now, true);
    s.step();
    queue.poll();
  }
  EXPECT_EQ(consumed(), "a.ba.b");
  EXPECT_EQ(player.next_ring(9), Player::kNever);
}

TEST_F(PlayerTest, PlaysThePrologueOnceAndAloneWhenAsked) {
  const Trace t = trace_of({"0:a.", "1:b!.", "0:c", "0:d!."}, 2);
  Player player(t, queue, latency, {.loops = 2, .prologue = true});
  player.step(1, true);
  EXPECT_EQ(queue.outstanding(), 1U);
  EXPECT_FALSE(player.idle());
  EXPECT_FALSE(player.finished());
  for (Nanos now = 2; now < 20; ++now) {
    s.step();
    queue.poll();
    player.step(now, true);
  }
  EXPECT_TRUE(player.finished());
  const std::string text = consumed();
  EXPECT_EQ(text.substr(0, 6).find_first_of("ac"), std::string::npos) << text;
  EXPECT_EQ(text.substr(6), "a.ca.c");
  EXPECT_EQ(player.outstanding_sum(), player.syncs());
}

}  // namespace
}  // namespace faultline::guest
