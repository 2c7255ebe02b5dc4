// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include "apps/guest/command_queue.h"
#include "apps/guest/event_queue.h"
#include "tests/apps/guest/fake_smmu.h"

namespace faultline::guest {
namespace {

class CommandQueueTest : public testing::Test {
 protected:
  CommandQueueTest() : queue(s.memory, s.registers, 4) {
    s.registers.write64(reg::kCmdqBase, queue.base_register());
    s.registers.write32(reg::kCr0, reg::kCr0CmdqEn);
  }
  FakeSmmu s;
  CommandQueue queue;
};

TEST_F(CommandQueueTest, CompletesASyncOnceConsPassedIt) {
  queue.push(tlbi_asid(7));
  const Position sync = queue.push_sync(false);
  s.step();
  EXPECT_TRUE(s.commands.empty()) << "nothing is seen before the doorbell";
  queue.publish();
  s.step(1);
  queue.poll();
  EXPECT_FALSE(queue.done(sync));
  s.step(1);
  EXPECT_EQ(queue.poll(), 1U);
  EXPECT_TRUE(queue.done(sync));
  EXPECT_EQ(s.commands, (std::vector<Command>{tlbi_asid(7), sync_by_cons()}));
  EXPECT_EQ(queue.violations(), 0U);
}

TEST_F(CommandQueueTest, CompletesASyncByTheMsiIntoItsOwnSlot) {
  const Position sync = queue.push_sync(true);
  queue.publish();
  queue.poll();
  EXPECT_FALSE(queue.done(sync));
  s.step();
  queue.poll();
  EXPECT_TRUE(queue.done(sync));
  EXPECT_EQ(queue.violations(), 0U);
}

TEST_F(CommandQueueTest, CountsASyncThatConsPassedWithoutItsMsi) {
  queue.push_sync(true);
  queue.publish();
  s.registers.write32(reg::kCmdqCons, 1);
  queue.poll();
  EXPECT_EQ(queue.violations(), 1U);
}

TEST_F(CommandQueueTest, CountsAConsBeyondProd) {
  queue.push(tlbi_asid(1));
  queue.publish();
  s.registers.write32(reg::kCmdqCons, 5);
  queue.poll();
  EXPECT_EQ(queue.violations(), 1U);
}

TEST_F(CommandQueueTest, KeepsSlotsUntilTheirSyncWasSeen) {
  for (int round = 0; round < 20; ++round) {
    EXPECT_EQ(queue.room(), 16U);
    for (int i = 0; i < 7; ++i) queue.push(tlbi_asid(static_cast<std::uint16_t>(i)));
    const Position sync = queue.push_sync(round % 2 == 0);
    queue.publish();
    s.step();
    EXPECT_EQ(queue.room(), 8U) << "not polled yet";
    queue.poll();
    EXPECT_TRUE(queue.done(sync));
  }
  EXPECT_EQ(queue.syncs_completed(), 20U);
  EXPECT_EQ(queue.commands(), 160U);
}

TEST_F(CommandQueueTest, ReplacesAnIllegalCommandByASync) {
  s.illegal_opcode = 0xee;
  queue.push(Command{{0xee, 0}});
  const Position sync = queue.push_sync(false);
  queue.publish();
  s.step();
  queue.poll();
  queue.handle_error();
  s.step();
  queue.poll();
  EXPECT_TRUE(queue.done(sync));
  EXPECT_EQ(s.commands, (std::vector<Command>{sync_by_cons(), sync_by_cons()}));
}

class EventQueueTest : public testing::Test {
 protected:
  EventQueueTest() : sink(64), queue(s.memory, s.registers, 2, sink) {
    s.registers.write64(reg::kEvtqBase, queue.base_register());
  }
  std::size_t handle(std::size_t budget = 100) {
    return queue.handle(budget, [](const Observation&) {});
  }
  FakeSmmu s;
  ObservationQueue sink;
  EventQueue queue;
};

TEST_F(EventQueueTest, ReadsEventsInOrderAcrossTheWrap) {
  for (std::uint64_t i = 0; i < 10; ++i) {
    s.inject({0x10 | i << 32, 2, 3, 4});
    EXPECT_EQ(queue.depth(), 1U);
    EXPECT_EQ(handle(), 1U);
    Observation o;
    ASSERT_TRUE(sink.pop(o));
    EXPECT_EQ(o.kind, Observation::Kind::kEvent);
    EXPECT_EQ(o.consumed, i);
    EXPECT_EQ(o.words[0], 0x10 | i << 32);
    EXPECT_EQ(s.registers.read32(reg::kEvtqCons), (i + 1) & 7);
  }
  EXPECT_EQ(handle(), 0U);
}

TEST_F(EventQueueTest, StampsEachEventAfterTheProdThatShowedIt) {
  for (std::uint64_t i = 0; i < 3; ++i) {
    s.inject({0x10, 0, i << 12, 0});
    const Nanos there = monotonic_ns();
    // The handler may have been entered long before; here it reads the event in its first pass.
    EXPECT_EQ(handle(), 1U);
    Observation o;
    ASSERT_TRUE(sink.pop(o));
    EXPECT_GE(o.at, there) << "an earlier stamp tells the audit that its ledger entry is overdue";
  }
}

TEST_F(EventQueueTest, PoisonsWhatItHasRead) {
  s.inject({1, 2, 3, 4});
  handle();
  s.registers.write32(reg::kEvtqProd, 5);  // the same slot a lap later, never written
  handle();
  Observation o;
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(sink.pop(o));
  EXPECT_EQ(o.words[0], EventQueue::kPoison);
}

TEST_F(EventQueueTest, SeesAnOverflowAndAcknowledgesItWhenEmpty) {
  s.inject({1, 0, 0, 0}, reg::kOverflow);
  s.inject({2, 0, 0, 0}, reg::kOverflow);
  EXPECT_EQ(handle(1), 1U);
  EXPECT_EQ(s.registers.read32(reg::kEvtqCons), 1U) << "not acknowledged while events are there";
  EXPECT_EQ(handle(), 1U);
  EXPECT_EQ(s.registers.read32(reg::kEvtqCons), 2U | reg::kOverflow);
  Observation o;
  ASSERT_TRUE(sink.pop(o));
  EXPECT_EQ(o.kind, Observation::Kind::kOverflowSeen);
  EXPECT_EQ(o.consumed, 0U);
  sink.pop(o);
  sink.pop(o);
  ASSERT_TRUE(sink.pop(o));
  EXPECT_EQ(o.kind, Observation::Kind::kOverflowAcked);
  EXPECT_EQ(o.consumed, 2U);
  EXPECT_EQ(queue.overflows(), 1U);
}

TEST_F(EventQueueTest, CountsAProdFurtherAheadThanTheQueueIsLong) {
  s.registers.write32(reg::kEvtqProd, 6);
  EXPECT_EQ(handle(), 0U);
  EXPECT_EQ(queue.violations(), 1U);
}

TEST_F(EventQueueTest, StopsWhileTheAuditIsBehind) {
  for (std::uint64_t i = 0; i < 62; ++i) sink.push({});
  s.inject({1, 0, 0, 0});
  EXPECT_EQ(handle(), 0U);
  Observation o;
  while (sink.pop(o)) {
  }
  EXPECT_EQ(handle(), 1U);
}

}  // namespace
}  // namespace faultline::guest
