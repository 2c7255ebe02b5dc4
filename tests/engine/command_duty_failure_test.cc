// SPDX-License-Identifier: BSD-3-Clause
// What a CommandDuty does when the host or the guest's memory fails it.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <utility>

#include "engine/command_duty.h"
#include "tests/engine/command_duty_world.h"

namespace faultline::engine::command_world {
namespace {

using Batching = Engine<merge::BatchUntilSync>;

TEST(CommandDuty, InvalidatesAllOfTheGuestAfterAFailedSubmission) {
  World world;
  world.features.ats = true;
  Batching engine(world);
  world.write_ste(0, 5);
  ASSERT_TRUE(engine.probe());
  world.kernel.submissions.clear();
  const std::size_t failing = world.kernel.calls;
  world.kernel.fail_submit = [=](std::size_t call) { return call == failing; };
  world.queue({tlbi_va(0x1000), sync()});
  ASSERT_TRUE(engine.drained());
  ASSERT_EQ(world.kernel.submissions.size(), 3U) << "configuration, TLB, devices: in that order";
  EXPECT_EQ(world.kernel.submissions[0][0].kind, OperationKind::kCfgCdAll);
  EXPECT_EQ(world.kernel.submissions[1][0].kind, OperationKind::kTlbAll);
  ASSERT_EQ(world.kernel.submissions[2].size(), 2U);
  EXPECT_EQ(world.kernel.submissions[2][0].kind, OperationKind::kAtcInv);
  EXPECT_EQ(world.kernel.submissions[2][0].pages, 0U);
  EXPECT_EQ(world.cons_error(), 0U);
  EXPECT_EQ(engine.duty().counters().resyncs, 1U);
}

TEST(CommandDuty, BlocksTheDevicesWhenEvenTheResyncFails) {
  World world;
  Batching engine(world);
  world.write_ste(0, 5);
  ASSERT_TRUE(engine.probe());
  world.kernel.attaches.clear();
  world.kernel.fail_submit = [](std::size_t) { return true; };
  const std::uint32_t oldest = world.prod + 1;
  world.queue({sync(), tlbi_va(0x1000), sync()});
  ASSERT_TRUE(engine.until([&] { return world.cmdq_error_active(); }));
  EXPECT_EQ(world.cons_error(), 2U) << "never ILL: Linux would skip the command";
  EXPECT_EQ(world.cons() & world.mask(), oldest & world.mask());
  ASSERT_EQ(world.kernel.attaches.size(), 1U) << "device 1 has no valid STE and aborts anyway";
  EXPECT_EQ(world.kernel.attaches[0].second.mode, Stage1Config::Mode::kAbort);
  EXPECT_EQ(engine.duty().counters().syncs_completed, 3U) << "only the one before";

  // Still failing: blocked again, told again.
  world.acknowledge_gerror();
  engine.round();
  ASSERT_TRUE(engine.until([&] { return world.cmdq_error_active(); }));
  EXPECT_EQ(world.kernel.attaches.size(), 1U);

  // The kernel is well again: all is invalidated before any device translates.
  world.kernel.fail_submit = nullptr;
  world.kernel.submissions.clear();
  world.acknowledge_gerror();
  ASSERT_TRUE(engine.drained());
  EXPECT_EQ(world.kernel.submissions[0][0].kind, OperationKind::kTlbAll);
  EXPECT_EQ(world.kernel.submissions.back()[0].kind, OperationKind::kTlbVa) << "fetched again";
  ASSERT_EQ(world.kernel.attaches.size(), 2U);
  EXPECT_EQ(world.kernel.attaches[1].first, 0U);
  EXPECT_EQ(world.kernel.attaches[1].second.mode, Stage1Config::Mode::kTranslate);
}

TEST(CommandDuty, AsksOnceMoreForAStage1WhenTheHostWasShortOfSomething) {
  World world;
  Batching engine(world);
  ASSERT_TRUE(engine.probe());
  unsigned refusals = 1;
  world.kernel.refusal = ENOMEM;
  world.kernel.refuse_stage1 = [&](std::uint32_t, const Stage1Config&) {
    return refusals != 0 && refusals-- != 0;
  };
  world.write_ste(0, 5);
  world.queue({cfgi_ste(World::sid(0)), sync()});
  ASSERT_TRUE(engine.drained());
  EXPECT_EQ(world.kernel.attaches.back().second.mode, Stage1Config::Mode::kTranslate);
  EXPECT_EQ(engine.duty().counters().retried_attaches, 1U);
  EXPECT_EQ(engine.duty().counters().refused_attaches, 0U);

  // Still short of it: the device aborts, and the guest goes on.
  refusals = 2;
  world.write_bypass_ste(0);
  world.queue({cfgi_ste(World::sid(0)), sync()});
  ASSERT_TRUE(engine.drained());
  EXPECT_EQ(world.kernel.attaches.back().second.mode, Stage1Config::Mode::kAbort);
  EXPECT_EQ(engine.duty().counters().retried_attaches, 2U);
  EXPECT_EQ(engine.duty().counters().refused_attaches, 1U);
  EXPECT_EQ(world.cons_error(), 0U);
}

TEST(CommandDuty, TouchesNothingOnceGuestMemoryIsGone) {
#ifdef FAULTLINE_TSAN
  GTEST_SKIP() << "the thread sanitizer deadlocks when an atomic store of its own takes a SIGBUS";
#endif
  World world;
  char name[] = "guest";
  const int memfd = memfd_create(name, 0);
  ASSERT_EQ(ftruncate(memfd, 4096), 0);
  // The map says 8 KiB; the second page has no backing.
  void* host = mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
  world.spec.memory.push_back({Gpa{0x8000'0000}, 8192, host, -1});
  auto made = viommu::GuestMemory::make(world.spec.memory);
  ASSERT_TRUE(made);
  world.memory.emplace(std::move(*made));
  Batching engine(world);
  ASSERT_TRUE(engine.probe());
  EXPECT_FALSE(engine.duty().detached());
  world.queue({sync_msi(0x8000'1000, 1), sync()});
  engine.rounds(3);
  EXPECT_TRUE(engine.duty().detached());
  const std::uint32_t cons = world.cons();
  world.queue({sync()});
  engine.rounds(3);
  EXPECT_EQ(world.cons(), cons);
  EXPECT_TRUE(engine.duty().quiet());
  close(memfd);
}

}  // namespace
}  // namespace faultline::engine::command_world
