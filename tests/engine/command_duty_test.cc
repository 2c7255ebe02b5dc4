// SPDX-License-Identifier: BSD-3-Clause
#include "engine/command_duty.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/engine/command_duty_world.h"

namespace faultline::engine::command_world {
namespace {

using Batching = Engine<merge::BatchUntilSync>;
using Forwarding = Engine<merge::ForwardEach>;

std::size_t total(const FakeKernel& kernel) {
  return kernel.flat().size();
}

TEST(CommandDuty, ServesLinuxFromProbeToItsFirstInvalidation) {
  World world;
  Batching engine(world);
  world.write_ste(0, 5);
  ASSERT_TRUE(engine.probe());
  EXPECT_TRUE(engine.duty().quiet());

  world.kernel.submissions.clear();
  world.queue({tlbi_va(0x1000), tlbi_va(0x2000), sync()});
  ASSERT_TRUE(engine.drained());
  ASSERT_EQ(world.kernel.submissions.size(), 1U);
  EXPECT_EQ(world.kernel.submissions[0].size(), 2U);
  EXPECT_EQ(world.kernel.submissions[0][0].kind, OperationKind::kTlbVa);
  EXPECT_EQ(world.kernel.submissions[0][1].addr, 0x2000U);
  EXPECT_EQ(engine.duty().counters().syncs_completed, 3U);
  EXPECT_EQ(engine.duty().latency().count(), 3U);
}

TEST(CommandDuty, ForwardsEachCommandInASubmissionOfItsOwn) {
  World world;
  Forwarding engine(world);
  ASSERT_TRUE(engine.probe());
  world.kernel.submissions.clear();
  world.queue({tlbi_va(0x1000), tlbi_va(0x1000), sync()});
  ASSERT_TRUE(engine.drained());
  EXPECT_EQ(world.kernel.submissions.size(), 2U);
}

TEST(CommandDuty, SubmitsAtMostOnceInARound) {
  World world;
  Forwarding engine(world);
  ASSERT_TRUE(engine.probe());
  for (std::uint64_t i = 0; i < 20; ++i) world.place(tlbi_va(i << 12U));
  world.place(sync());
  world.ring();
  while (world.used() != 0) {
    const std::size_t before = world.kernel.calls;
    engine.round();
    ASSERT_EQ(world.kernel.calls, before + 1);
  }
}

TEST(CommandDuty, LetsConsPassACommandOnlyAfterItsSubmission) {
  World world;
  Batching engine(world);
  ASSERT_TRUE(engine.probe());
  const std::uint32_t before = world.cons();
  world.kernel.on_submit = [&](std::span<const Operation>) { EXPECT_EQ(world.cons(), before); };
  world.queue({tlbi_va(0x1000), prefetch(), tlbi_va(0x2000)});
  engine.round();
  EXPECT_EQ(world.cons(), before);
  world.queue({sync()});
  ASSERT_TRUE(engine.drained());
}

TEST(CommandDuty, SubmitsWithoutASyncWhenTheQueueIsHalfFull) {
  World world(1, RegisterMode::kExitless, 4);
  Batching engine(world);
  ASSERT_TRUE(engine.probe());
  for (std::uint64_t i = 0; i < 8; ++i) world.place(tlbi_va(i << 12U));
  world.ring();
  engine.rounds(3);
  EXPECT_EQ(world.used(), 0U);
}

TEST(CommandDuty, CompletesASyncByItsMsi) {
  World world;
  Batching engine(world);
  ASSERT_TRUE(engine.probe());
  // Linux points the MSI at the command's own slot.
  const std::uint64_t at = world.slot(world.prod + 1);
  world.queue({tlbi_va(0x1000), sync_msi(at, 0)});
  ASSERT_TRUE(engine.drained());
  EXPECT_EQ(static_cast<std::uint32_t>(world.get(at)), 0U) << "32 bits of MSI data";
  EXPECT_EQ(world.cons_error(), 0U);
}

TEST(CommandDuty, SignalsASyncThatWantsAnInterruptButHasNoAddress) {
  World world;
  world.spec.sync_eventfd = eventfd(0, EFD_NONBLOCK);
  Batching engine(world);
  ASSERT_TRUE(engine.probe());
  world.queue({sync_irq()});
  ASSERT_TRUE(engine.drained());
  std::uint64_t signalled = 0;
  ASSERT_EQ(read(world.spec.sync_eventfd, &signalled, sizeof signalled), 8);
  EXPECT_EQ(signalled, 1U);
  close(world.spec.sync_eventfd);
}

TEST(CommandDuty, CompletesASyncThatWantsAnEventByConsAlone) {
  World world;
  Batching engine(world);
  ASSERT_TRUE(engine.probe());
  const std::uint64_t at = world.slot(world.prod + 1);
  const viommu::RawCommand sev{{0x46 | std::uint64_t{2} << 12, 0}};
  world.queue({tlbi_va(0x1000), sev});
  ASSERT_TRUE(engine.drained());
  EXPECT_EQ(world.get(at), sev.word[0]) << "no MSI was written";
  EXPECT_EQ(world.cons_error(), 0U);
  EXPECT_EQ(world.page.load(Reg32::kGerror), 0U);
}

TEST(CommandDuty, ReportsAnMsiToNowhere) {
  World world;
  Batching engine(world);
  ASSERT_TRUE(engine.probe());
  world.queue({sync_msi(0x1'0000'0000, 1)});
  ASSERT_TRUE(engine.drained());
  engine.rounds(3);
  EXPECT_EQ(engine.duty().counters().msi_aborts, 1U);
  EXPECT_EQ(world.page.load(Reg32::kGerror), viommu::gerror::kMsiCmdqAbt);
  world.queue({sync()});
  EXPECT_TRUE(engine.drained());
}

TEST(CommandDuty, StopsAtAnIllegalCommandUntilLinuxRepairedIt) {
  World world;
  Batching engine(world);
  ASSERT_TRUE(engine.probe());
  world.kernel.submissions.clear();
  const std::uint32_t bad = world.prod + 1;
  world.queue({tlbi_va(0x1000), illegal(), tlbi_va(0x2000), sync()});
  ASSERT_TRUE(engine.until([&] { return world.cmdq_error_active(); }));
  EXPECT_EQ(world.cons_error(), 1U);
  EXPECT_EQ(world.cons() & world.mask(), bad & world.mask());
  EXPECT_EQ(total(world.kernel), 1U) << "what came before took effect, what comes after did not";
  engine.rounds(50);
  EXPECT_EQ(total(world.kernel), 1U);

  // arm_smmu_cmdq_skip_err(): the illegal command becomes a CMD_SYNC, then GERRORN.
  world.put(world.slot(bad), sync().word[0]);
  world.put(world.slot(bad) + 8, 0);
  world.acknowledge_gerror();
  ASSERT_TRUE(engine.drained());
  EXPECT_EQ(total(world.kernel), 2U);
  EXPECT_EQ(world.cons_error(), 0U);
  EXPECT_EQ(engine.duty().counters().illegal, 1U);
}

TEST(CommandDuty, TellsAnIllegalCommandOnlyAfterTheEventDutyRaisedIt) {
  World world;
  Batching engine(world);
  ASSERT_TRUE(engine.probe());
  world.hold_events = true;
  world.queue({illegal()});
  engine.rounds(20);
  EXPECT_FALSE(world.cmdq_error_active());
  EXPECT_EQ(world.cons_error(), 1U) << "CONS.ERR is there before GERROR says so";
  world.hold_events = false;
  EXPECT_TRUE(engine.until([&] { return world.cmdq_error_active(); }));
}

TEST(CommandDuty, RefusesResumeBecauseStallsAreNotOffered) {
  World world;
  Batching engine(world);
  ASSERT_TRUE(engine.probe());
  world.queue({{{0x44, 0}}});
  ASSERT_TRUE(engine.until([&] { return world.cmdq_error_active(); }));
  EXPECT_EQ(world.cons_error(), 1U);
}

TEST(CommandDuty, AcceptsResponsesWhereTheyAreOffered) {
  World world;
  world.features.stalls = true;
  Batching engine(world);
  ASSERT_TRUE(engine.probe());
  world.queue({{{0x44, 0}}, {{0x45, 0}}, sync()});
  ASSERT_TRUE(engine.drained());
  EXPECT_EQ(engine.duty().counters().responses, 2U);
}

TEST(CommandDuty, AbortsTheQueueThatIsNotInGuestMemory) {
  World world;
  Batching engine(world);
  world.write_cmdq_registers();
  world.page.store(Reg64::kCmdqBase, 0x7'0000'0000 | 7U);
  world.write_cr0(8);
  ASSERT_TRUE(engine.until([&] { return world.cr0ack() == 8; }));
  world.page.release(Reg32::kCmdqProd, 3);
  ASSERT_TRUE(engine.until([&] { return world.cmdq_error_active(); }));
  EXPECT_EQ(world.cons_error(), 2U);
  EXPECT_EQ(world.cons() & world.mask(), 0U);
  EXPECT_EQ(engine.duty().counters().aborts, 1U);
}

TEST(CommandDuty, BindsAStreamWhenItsEntryChanged) {
  World world;
  Batching engine(world);
  ASSERT_TRUE(engine.probe());
  world.kernel.attaches.clear();
  world.kernel.submissions.clear();
  world.write_ste(1, 33);
  world.hold_cold = true;
  world.queue({tlbi_va(0x1000), cfgi_ste(World::sid(1)), tlbi_va(0x2000), sync()});
  engine.rounds(20);
  EXPECT_EQ(total(world.kernel), 1U) << "before the change everything before it, after it nothing";
  EXPECT_FALSE(engine.duty().quiet());
  world.hold_cold = false;
  ASSERT_TRUE(engine.drained());
  ASSERT_EQ(world.kernel.attaches.size(), 1U);
  EXPECT_EQ(world.kernel.attaches[0].first, 1U);
  EXPECT_EQ(world.kernel.attaches[0].second.mode, Stage1Config::Mode::kTranslate);
  EXPECT_EQ(world.kernel.attaches[0].second.cd_table, World::kContexts + 0x1000);
  EXPECT_EQ(world.kernel.asids, (std::vector<std::pair<std::size_t, std::uint16_t>>{{1, 33}}));
  EXPECT_EQ(total(world.kernel), 2U);
}

TEST(CommandDuty, DropsTheContextsOfAStreamWhoseEntryDidNotChange) {
  World world;
  Batching engine(world);
  world.write_ste(0, 5);
  world.write_ste(1, 6);
  ASSERT_TRUE(engine.probe());
  world.kernel.attaches.clear();
  world.kernel.submissions.clear();
  world.queue({cfgi_all(), sync()});
  ASSERT_TRUE(engine.drained());
  EXPECT_TRUE(world.kernel.attaches.empty());
  ASSERT_EQ(total(world.kernel), 2U);
  EXPECT_EQ(world.kernel.flat()[0].kind, OperationKind::kCfgCdAll);
  EXPECT_EQ(world.kernel.flat()[0].sid, World::sid(0));
  EXPECT_EQ(world.kernel.flat()[1].sid, World::sid(1));
}

TEST(CommandDuty, HandlesAWholeRangeOfStreamsWithForwardEach) {
  World world(5);
  Forwarding engine(world);
  for (std::size_t i = 0; i < 5; ++i) world.write_ste(i, static_cast<std::uint16_t>(i + 1));
  ASSERT_TRUE(engine.probe());
  world.kernel.submissions.clear();
  world.write_ste(3, 77);
  world.put(World::ste(3) + 8, 2);  // changed
  world.queue({cfgi_all(), tlbi_va(0x1000), sync()});
  ASSERT_TRUE(engine.drained());
  EXPECT_EQ(total(world.kernel), 5U) << "four unchanged streams and the TLBI";
}

TEST(CommandDuty, NotesTheAsidOfAContextThatChanged) {
  World world;
  Batching engine(world);
  world.write_ste(0, 5);
  ASSERT_TRUE(engine.probe());
  world.kernel.asids.clear();
  world.write_ste(0, 9);
  world.queue({cfgi_cd(World::sid(0)), sync()});
  ASSERT_TRUE(engine.drained());
  EXPECT_EQ(world.kernel.asids, (std::vector<std::pair<std::size_t, std::uint16_t>>{{0, 9}}));
  EXPECT_TRUE(world.journal->command().asid_seen(9));
}

TEST(CommandDuty, LetsCommandsForForeignStreamsSucceed) {
  World world;
  Batching engine(world);
  ASSERT_TRUE(engine.probe());
  world.kernel.submissions.clear();
  world.queue({cfgi_ste(1), cfgi_cd(2), cfgi_cd_all(40), cfgi_cd(World::sid(0)), sync()});
  ASSERT_TRUE(engine.drained());
  EXPECT_EQ(total(world.kernel), 0U) << "and stream 0 is not translated: nothing is cached";
  EXPECT_EQ(engine.duty().counters().foreign_streams, 3U);
}

TEST(CommandDuty, MakesADeviceAbortWhoseStage1TheKernelRefuses) {
  World world;
  Batching engine(world);
  ASSERT_TRUE(engine.probe());
  world.kernel.refuse_stage1 = [](std::uint32_t, const Stage1Config& c) {
    return c.mode == Stage1Config::Mode::kTranslate;
  };
  world.write_ste(0, 5);
  world.queue({cfgi_ste(World::sid(0)), sync()});
  ASSERT_TRUE(engine.drained());
  EXPECT_EQ(world.kernel.attaches.back().second.mode, Stage1Config::Mode::kAbort);
  EXPECT_EQ(engine.duty().counters().refused_attaches, 1U);

  // The next CFGI_STE tries again.
  world.kernel.refuse_stage1 = nullptr;
  world.queue({cfgi_ste(World::sid(0)), sync()});
  ASSERT_TRUE(engine.drained());
  EXPECT_EQ(world.kernel.attaches.back().second.mode, Stage1Config::Mode::kTranslate);
}

TEST(CommandDuty, StopsWithAbortWhenAStreamCanNeitherBeBoundNorAborted) {
  World world;
  Batching engine(world);
  ASSERT_TRUE(engine.probe());
  world.kernel.refuse_stage1 = [](std::uint32_t, const Stage1Config&) { return true; };
  world.write_ste(0, 5);
  const std::uint32_t at = world.prod;
  world.queue({cfgi_ste(World::sid(0)), sync()});
  ASSERT_TRUE(engine.until([&] { return world.cmdq_error_active(); }));
  EXPECT_EQ(world.cons_error(), 2U);
  EXPECT_EQ(world.cons() & world.mask(), at);
  world.kernel.refuse_stage1 = nullptr;
  world.acknowledge_gerror();
  ASSERT_TRUE(engine.drained());
  EXPECT_EQ(world.kernel.attaches.back().second.mode, Stage1Config::Mode::kTranslate);
}

TEST(CommandDuty, SaysThatTheSmmuIsOffOnlyWhenNoDeviceKeepsItsStage1) {
  World world;
  Batching engine(world);
  ASSERT_TRUE(engine.probe());
  world.write_ste(0, 5);
  world.queue({cfgi_ste(World::sid(0)), sync()});
  ASSERT_TRUE(engine.drained());
  world.kernel.refuse_stage1 = [](std::uint32_t, const Stage1Config&) { return true; };
  world.write_cr0(0xc);
  engine.rounds(200);
  EXPECT_EQ(world.cr0ack(), 0xdU) << "the kernel still translates for device 0";
  world.kernel.refuse_stage1 = nullptr;
  ASSERT_TRUE(engine.until([&] { return world.cr0ack() == 0xc; }));
  EXPECT_NE(world.kernel.attaches.back().second.mode, Stage1Config::Mode::kTranslate);
}

}  // namespace
}  // namespace faultline::engine::command_world
