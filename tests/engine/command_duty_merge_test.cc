// SPDX-License-Identifier: BSD-3-Clause
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/engine/command_duty_world.h"

// What a CommandDuty does with SYNCs that share a submission.

namespace faultline::engine::command_world {
namespace {

using Merging = Engine<merge::Merge>;

bool has_atc(std::span<const Operation> ops) {
  return std::any_of(ops.begin(), ops.end(),
                     [](const Operation& op) { return op.kind == OperationKind::kAtcInv; });
}

struct AtcWorld : World {
  AtcWorld() {
    features.ats = true;
    write_ste(0, 5);
  }
  /// Commands that CONS has passed since `from`.
  [[nodiscard]] std::uint32_t passed(std::uint32_t from) const { return (cons() - from) & mask(); }
};

TEST(CommandDutyMerge, CompletesTheSyncsOfManyCommandsWithOneSubmission) {
  World world;
  Merging engine(world);
  ASSERT_TRUE(engine.probe());
  world.kernel.submissions.clear();
  const std::uint64_t syncs = engine.duty().counters().syncs_completed;
  for (std::uint64_t i = 0; i < 20; ++i) {
    world.place(tlbi_va(i << 12U));
    world.place(sync());
  }
  world.ring();
  engine.round();
  EXPECT_EQ(world.kernel.submissions.size(), 1U);
  EXPECT_EQ(world.kernel.flat().size(), 20U);
  EXPECT_EQ(engine.duty().counters().syncs_completed, syncs + 20);
  EXPECT_EQ(world.used(), 0U);
}

TEST(CommandDutyMerge, KeepsAResponseBehindTheInvalidationsBeforeIt) {
  World world;
  world.features.stalls = true;
  Merging engine(world);
  ASSERT_TRUE(engine.probe());
  world.kernel.on_submit = [&](std::span<const Operation>) {
    EXPECT_EQ(engine.duty().counters().responses, 0U);
  };
  const std::size_t calls = world.kernel.calls;
  world.queue({tlbi_va(0x1000), resume(World::sid(0)), sync()});
  ASSERT_TRUE(engine.drained());
  EXPECT_EQ(engine.duty().counters().responses, 1U);
  EXPECT_EQ(world.kernel.calls, calls + 1) << "and it starts the submission";
}

TEST(CommandDutyMerge, AResyncCoversEverySyncOfTheSubmissionThatFailed) {
  World world;
  Merging engine(world);
  ASSERT_TRUE(engine.probe());
  world.kernel.submissions.clear();
  const std::size_t failing = world.kernel.calls;
  world.kernel.fail_submit = [=](std::size_t call) { return call == failing; };
  world.queue({tlbi_va(0x1000), sync(), tlbi_va(0x2000), sync(), tlbi_va(0x3000)});
  ASSERT_TRUE(engine.until([&] { return world.used() == 0; }));
  ASSERT_EQ(world.kernel.submissions.size(), 1U);
  EXPECT_EQ(world.kernel.submissions[0][0].kind, OperationKind::kTlbAll);
  EXPECT_EQ(engine.duty().counters().resyncs, 1U);
}

TEST(CommandDutyMerge, BlockedItStopsAtTheOldestCommandThatIsNotCovered) {
  World world;
  Merging engine(world);
  world.write_ste(0, 5);
  ASSERT_TRUE(engine.probe());
  const std::size_t first = world.kernel.calls;
  // The first of two submissions that a SYNC separates goes through.
  world.kernel.fail_submit = [=](std::size_t call) { return call > first; };
  const std::uint32_t oldest = world.prod + 2;
  world.queue({tlbi_va(0x1000), sync(), cfgi_cd(World::sid(0)), sync()});
  ASSERT_TRUE(engine.until([&] { return world.cmdq_error_active(); }));
  EXPECT_EQ(world.cons_error(), 2U);
  EXPECT_EQ(world.cons() & world.mask(), oldest & world.mask());
}

TEST(CommandDutyMerge, TellsAnAtcTimeoutAtTheSyncBehindIt) {
  AtcWorld world;
  Merging engine(world);
  ASSERT_TRUE(engine.probe());
  bool late = true;
  world.kernel.atc_timeout = [&](std::span<const Operation> ops) { return late && has_atc(ops); };
  const std::uint32_t from = world.prod;
  world.queue(
      {tlbi_va(0x1000), sync(), atc_inv(World::sid(0), 0, 52), sync(), tlbi_va(0x2000), sync()});
  ASSERT_TRUE(engine.until([&] { return world.cmdq_error_active(); }));
  EXPECT_EQ(world.cons_error(), 3U);
  EXPECT_EQ(world.passed(from), 3U) << "CONS is at the SYNC behind the ATC invalidation";
  EXPECT_EQ(engine.duty().counters().atc_timeouts, 1U);
  EXPECT_EQ(engine.duty().counters().resyncs, 0U);
  engine.rounds(10);
  EXPECT_EQ(world.passed(from), 3U) << "until the guest acknowledges";
  EXPECT_TRUE(engine.duty().quiet());

  late = false;
  world.acknowledge_gerror();
  ASSERT_TRUE(engine.drained());
  EXPECT_EQ(world.cons_error(), 0U) << "Linux repeats the SYNC: nothing waits for it any more";
  EXPECT_EQ(world.kernel.flat().back(), world.kernel.submissions.back().back());
}

TEST(CommandDutyMerge, TellsEverySyncWhoseOwnAtcInvalidationIsLate) {
  AtcWorld world;
  Merging engine(world);
  ASSERT_TRUE(engine.probe());
  world.kernel.atc_timeout = has_atc;
  const std::uint32_t from = world.prod;
  world.queue({atc_inv(World::sid(0), 0x1000, 0), sync(), atc_inv(World::sid(0), 0x8000, 0), sync(),
               sync()});
  ASSERT_TRUE(engine.until([&] { return world.cmdq_error_active(); }));
  EXPECT_EQ(world.passed(from), 1U);
  EXPECT_EQ(world.kernel.submissions.back().size(), 2U) << "they went together";
  world.acknowledge_gerror();
  engine.round();
  ASSERT_TRUE(engine.until([&] { return world.cmdq_error_active(); }));
  EXPECT_EQ(world.passed(from), 3U) << "the second is told of its own";
  EXPECT_EQ(world.cons_error(), 3U);
  world.acknowledge_gerror();
  ASSERT_TRUE(engine.drained());
  EXPECT_EQ(engine.duty().counters().atc_timeouts, 2U);
}

TEST(CommandDutyMerge, TellsAnAtcTimeoutAtASyncThatIsFetchedLater) {
  AtcWorld world;
  Merging engine(world);
  ASSERT_TRUE(engine.probe());
  world.kernel.atc_timeout = has_atc;
  const std::uint32_t from = world.prod;
  world.queue({atc_inv(World::sid(0), 0, 52)});
  ASSERT_TRUE(engine.drained()) << "without a SYNC it goes when it has waited";
  EXPECT_FALSE(world.cmdq_error_active());
  world.queue({tlbi_va(0x1000), sync()});
  ASSERT_TRUE(engine.until([&] { return world.cmdq_error_active(); }));
  EXPECT_EQ(world.cons_error(), 3U);
  EXPECT_EQ(world.passed(from), 2U);
  world.acknowledge_gerror();
  ASSERT_TRUE(engine.drained());
}

TEST(CommandDutyMerge, TheGuestMayTurnItsQueueOffWhileAnAtcTimeoutIsToldOf) {
  AtcWorld world;
  Merging engine(world);
  ASSERT_TRUE(engine.probe());
  world.kernel.atc_timeout = has_atc;
  world.queue({atc_inv(World::sid(0), 0, 52), sync(), tlbi_va(0x1000), sync()});
  ASSERT_TRUE(engine.until([&] { return world.cmdq_error_active(); }));
  world.write_cr0(0);
  EXPECT_TRUE(engine.until([&] { return world.cr0ack() == 0; }));
}

TEST(CommandDutyMerge, AStreamTableChangeWaitsBehindAnAtcTimeout) {
  AtcWorld world;
  Merging engine(world);
  ASSERT_TRUE(engine.probe());
  const std::size_t attached = world.kernel.attach_calls;
  bool late = true;
  world.kernel.atc_timeout = [&](std::span<const Operation> ops) { return late && has_atc(ops); };
  world.write_ste(1, 7);
  world.queue({atc_inv(World::sid(0), 0, 52), sync(), cfgi_ste(World::sid(1)), sync()});
  ASSERT_TRUE(engine.until([&] { return world.cmdq_error_active(); }));
  EXPECT_EQ(world.kernel.attach_calls, attached);
  late = false;
  world.acknowledge_gerror();
  ASSERT_TRUE(engine.drained());
  EXPECT_EQ(world.kernel.attach_calls, attached + 1);
}

}  // namespace
}  // namespace faultline::engine::command_world
