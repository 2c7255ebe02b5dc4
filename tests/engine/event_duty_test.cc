// SPDX-License-Identifier: BSD-3-Clause
#include "engine/event_duty.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "tests/engine/event_world.h"

namespace faultline::engine {
namespace {

using namespace testing_world;
using viommu::Reg32;
using viommu::Reg64;

TEST(EventDuty, BringsEachFaultToTheGuestOnceAndInOrder) {
  Bench b;
  b.start();
  for (int i = 0; i < 5; ++i) b.kernel.produce(0);
  b.kernel.produce(1);
  EXPECT_GT(b.round(), 0U);
  ASSERT_TRUE(b.guest.interrupted());
  b.guest.read_events();
  EXPECT_EQ(b.guest.log.size(), 6U);
  EXPECT_EQ(b.kernel.ring(0).cons, 5U);
  EXPECT_EQ(b.duty->device_counters(0).delivered, 5U);
  EXPECT_EQ(b.round(), 0U) << "idle";
  EXPECT_FALSE(b.guest.interrupted()) << "once per burst";
  audit(b.kernel, b.guest, b.vsids);
}

TEST(EventDuty, JournalsThePositionAndProdOfEveryBurst) {
  Bench b;
  b.start();
  for (int i = 0; i < 3; ++i) b.kernel.produce(1);
  b.round();
  EXPECT_FALSE(b.journal.event().intent().valid);
  EXPECT_EQ(b.journal.event().position(1).next, 3U);
  EXPECT_EQ(b.journal.event().evtq_prod(), 3U);
  EXPECT_EQ(b.ram.page().load(Reg32::kEvtqProd), 3U);
}

TEST(EventDuty, DiscardsEventsWhileTheQueueIsDisabledAndNeverBlocksTheKernel) {
  Bench b;
  for (int i = 0; i < 5; ++i) b.kernel.produce(0);
  b.round();
  EXPECT_EQ(b.duty->device_counters(0).discarded, 5U);
  EXPECT_EQ(b.kernel.ring(0).cons, 5U);
  EXPECT_EQ(b.ram.page().load(Reg32::kEvtqProd), 0U);
  b.start();
  b.kernel.produce(0);
  b.round();
  b.guest.read_events();
  ASSERT_EQ(b.guest.log.size(), 1U) << "no overflow for what a disabled queue discards";
  EXPECT_EQ(b.guest.log[0].addr, 0x6000U);
}

TEST(EventDuty, WritesNothingToAQueueAfterItsDisableIsAcknowledged) {
  Bench b;
  b.start();
  b.ask({.kind = ToEventDuty::Kind::kDisableEvtq});
  b.kernel.produce(0);
  b.round();
  EXPECT_EQ(b.ram.page().load(Reg32::kEvtqProd), 0U);
  EXPECT_FALSE(b.guest.interrupted());
  EXPECT_EQ(b.journal.event().evtq().enabled, 0U);
}

TEST(EventDuty, DropsWithAnOverflowWhenTheGuestDoesNotRead) {
  Bench b(1, 3);
  b.start();
  for (int i = 0; i < 20; ++i) b.kernel.produce(0);
  b.round();
  EXPECT_EQ(b.duty->device_counters(0).delivered, 8U);
  EXPECT_EQ(b.duty->device_counters(0).dropped_full, 12U);
  EXPECT_EQ(b.duty->counters().overflows, 1U) << "one toggle per unacknowledged overflow";
  EXPECT_EQ(b.kernel.ring(0).cons, 20U) << "the kernel's ring never waits for a guest";
  EXPECT_NE(b.ram.page().load(Reg32::kEvtqProd) & viommu::queue::kOverflow, 0U);
  b.guest.read_events();
  audit(b.kernel, b.guest, b.vsids);
}

TEST(EventDuty, RaisesTheOverflowAgainForALossMetWhileOneWasUnacknowledged) {
  Bench b(1, 3);
  b.start();
  for (int i = 0; i < 9; ++i) b.kernel.produce(0);
  b.round();
  b.guest.read_events(4);  // room again, the overflow is not acknowledged
  for (int i = 0; i < 5; ++i) b.kernel.produce(0);
  b.round();
  EXPECT_EQ(b.duty->counters().overflows, 1U);
  EXPECT_TRUE(b.journal.event().loss_owed());
  b.guest.read_events();  // acknowledges
  b.guest.interrupted();
  b.round();
  EXPECT_EQ(b.duty->counters().overflows, 2U);
  EXPECT_FALSE(b.journal.event().loss_owed());
  EXPECT_TRUE(b.guest.interrupted());
  b.guest.read_events();
  audit(b.kernel, b.guest, b.vsids);
}

TEST(EventDuty, TellsALossInTheKernelBeforeAnyLaterRecord) {
  Bench b(1, 4, 4);
  b.start();
  for (int i = 0; i < 6; ++i) b.kernel.produce(0);  // two are dropped, no record follows yet
  b.round();
  EXPECT_EQ(b.duty->device_counters(0).lost_exact, 2U);
  EXPECT_EQ(b.duty->counters().overflows, 1U);
  b.guest.read_events();
  for (int i = 0; i < 6; ++i) b.kernel.produce(0);
  b.kernel.ring(0).cons = 4;
  b.round();
  b.guest.read_events();
  audit(b.kernel, b.guest, b.vsids);
}

TEST(EventDuty, TellsALossBehindTheLastRecordBeforeItIsQuiet) {
  Bench b(2, 4, 4);
  b.start();
  for (int i = 0; i < 4; ++i) b.kernel.produce(1);
  b.kernel.ring(1).cons = 0;
  b.round();
  b.kernel.ring(1).cons = 0;  // still full for the kernel
  b.kernel.produce(1);
  int rounds = 0;
  do {
    b.round();
  } while (!b.duty->quiet() && ++rounds < 100);
  EXPECT_LT(rounds, 100);
  EXPECT_EQ(b.duty->device_counters(1).lost_exact, 1U);
  EXPECT_EQ(b.duty->counters().overflows, 1U);
}

TEST(EventDuty, CountsARecordWithoutAnEventAsLost) {
  struct Malformed : FakeSources {
    using FakeSources::FakeSources;
    std::size_t poll(std::size_t i, std::span<FaultRecord> out) noexcept {
      const std::size_t n = FakeSources::poll(i, out);
      if (n > 0) out[0].form = FaultRecord::Form::kMalformed;
      return n;
    }
  };
  Bench b(1);
  Malformed sources(b.kernel);
  EventDutySetup setup;
  setup.memory = &b.ram.memory();
  setup.page = b.ram.page();
  setup.vsids = b.vsids;
  setup.rings = &b.rings;
  EventDuty<Malformed> duty(sources, setup, b.journal.event());
  ASSERT_TRUE(b.rings.to_event.push(b.enable));
  b.kernel.produce(0);
  b.kernel.produce(0);
  duty.round(1);
  EXPECT_EQ(duty.device_counters(0).untranslatable, 1U);
  EXPECT_EQ(duty.device_counters(0).delivered, 1U);
  EXPECT_EQ(duty.counters().overflows, 1U);
}

TEST(EventDuty, CommitsAgainWhatTheKernelRefused) {
  Bench b(1);
  b.start();
  b.kernel.refuse_commits = 1;
  b.kernel.produce(0);
  b.round();
  EXPECT_EQ(b.duty->device_counters(0).commit_failed, 1U);
  b.kernel.produce(0);
  b.round();
  EXPECT_EQ(b.kernel.ring(0).cons, 2U);
  b.guest.read_events();
  EXPECT_EQ(b.guest.log.size(), 2U);
}

TEST(EventDuty, KeepsEveryIndexInsideTheQueueWhateverTheGuestWrites) {
  Bench b(1, 3);
  b.start();
  for (const std::uint32_t cons : {0xffffffffU, 0x7fffffffU, 9U, 0x80000000U, 15U, 12345U}) {
    b.ram.page().store(Reg32::kEvtqCons, cons);
    b.ram.page().store(Reg32::kEvtqProd, ~cons);  // PROD is ours and never read back
    for (int i = 0; i < 10; ++i) b.kernel.produce(0);
    b.round();
    EXPECT_LT(b.journal.event().evtq_prod() & ~viommu::queue::kOverflow, 16U);
  }
}

TEST(EventDuty, ReportsAQueueOutsideMemoryAsAnAbort) {
  Bench b(1);
  b.ask({.kind = ToEventDuty::Kind::kIrqControl, .bits = viommu::irq_ctrl::kGerror});
  b.enable.base = std::uint64_t{1} << 40;
  b.ask(b.enable);
  b.kernel.produce(0);
  b.round();
  EXPECT_EQ(b.ram.page().load(Reg32::kGerror), viommu::gerror::kEvtqAbt);
  std::uint64_t count = 0;
  EXPECT_EQ(read(b.gerror_fd, &count, sizeof count), 8);
  b.kernel.produce(0);
  b.round();
  EXPECT_EQ(b.ram.page().load(Reg32::kGerror), viommu::gerror::kEvtqAbt) << "active already";
  EXPECT_EQ(b.kernel.ring(0).cons, 2U);
}

TEST(EventDuty, TogglesAnErrorOnlyWhenItIsNotActive) {
  Bench b(1);
  b.start();
  const ToEventDuty raise{.kind = ToEventDuty::Kind::kRaiseGerror, .bits = viommu::gerror::kCmdq};
  EXPECT_EQ(b.ask(raise).gerror, 1U);
  EXPECT_EQ(b.journal.event().gerror_token(), b.token);
  EXPECT_EQ(b.ask(raise).gerror, 1U);
  b.ram.page().store(Reg32::kGerrorn, 1U);
  EXPECT_EQ(b.ask(raise).gerror, 0U) << "acknowledged, so it toggles back";
  EXPECT_EQ(b.duty->counters().gerrors, 2U);
}

TEST(EventDuty, InterruptsOnlyWhereIrqCtrlAllows) {
  Bench b(1);
  b.ask(b.enable);
  b.kernel.produce(0);
  b.round();
  EXPECT_FALSE(b.guest.interrupted());
  b.ask({.kind = ToEventDuty::Kind::kIrqControl, .bits = viommu::irq_ctrl::kEvtq});
  b.kernel.produce(0);
  b.round();
  EXPECT_TRUE(b.guest.interrupted());
}

TEST(EventDuty, WritesTheMsiThatTheGuestProgrammedAndFallsBackToTheEventfd) {
  Bench b(1);
  b.ram.page().store(Reg64::kEvtqIrqCfg0, 0x30000);
  b.ram.page().store(Reg32::kEvtqIrqCfg1, 0xabcd);
  b.start();
  b.kernel.produce(0);
  b.round();
  std::uint32_t word = 0;
  ASSERT_TRUE(b.ram.memory().read32(Gpa{0x30000}, word));
  EXPECT_EQ(word, 0xabcdU);
  EXPECT_FALSE(b.guest.interrupted());
  b.ram.page().store(Reg64::kEvtqIrqCfg0, 0x8000000);  // a GIC doorbell is not memory
  b.start();
  b.kernel.produce(0);
  b.round();
  EXPECT_TRUE(b.guest.interrupted());
}

TEST(EventDuty, InterruptsATrappedGuestOnlyFromEmpty) {
  Bench b(1, 4, 64, RegisterMode::kTrapped);
  b.start();
  b.kernel.produce(0);
  b.round();
  EXPECT_TRUE(b.guest.interrupted());
  b.kernel.produce(0);
  b.round();
  EXPECT_FALSE(b.guest.interrupted()) << "it has not consumed the first one";
  b.guest.read_events();
  b.kernel.produce(0);
  b.round();
  EXPECT_TRUE(b.guest.interrupted());
}

TEST(EventDuty, GivesEverySourceItsTurnWithinABoundedRound) {
  Bench b(3, 8, 1000);
  b.start();
  for (int i = 0; i < 200; ++i) b.kernel.produce(0);
  b.kernel.produce(1);
  b.kernel.produce(2);
  b.round();
  EXPECT_EQ(b.kernel.ring(0).cons, 32U) << "one burst";
  EXPECT_EQ(b.kernel.ring(1).cons, 1U);
  EXPECT_EQ(b.kernel.ring(2).cons, 1U);
}

TEST(EventDuty, KeepsAnAcknowledgementUntilThereIsRoomForIt) {
  Bench b(1);
  for (std::uint32_t i = 0; i < 15; ++i) ASSERT_TRUE(b.rings.to_command.push({100 + i, 0}));
  ASSERT_TRUE(b.rings.to_event.push(b.enable));
  b.round();
  EXPECT_FALSE(b.duty->quiet());
  ToCommandDuty answer;
  ASSERT_TRUE(b.rings.to_command.pop(answer));
  for (int i = 0; i < 20; ++i) b.round();
  EXPECT_TRUE(b.duty->quiet());
  while (b.rings.to_command.pop(answer)) {
  }
  EXPECT_EQ(answer.token, 1U);
}

TEST(EventDuty, LeavesAnEnabledQueueAloneWhenAskedForItAgain) {
  Bench b(1);
  b.start();
  b.kernel.produce(0);
  b.round();
  b.ask(b.enable);  // a CommandDuty that never saw the acknowledgement
  b.kernel.produce(0);
  b.round();
  EXPECT_EQ(b.ram.page().load(Reg32::kEvtqProd), 2U);
}

TEST(EventDuty, ErrsOnPurposeWhenPlanted) {
  for (const EventPlant plant : {EventPlant::kLoseRecord, EventPlant::kDuplicateRecord}) {
    Bench b(1, 8, 100);
    b.duty->plant(plant);
    b.start();
    for (int i = 0; i < 40; ++i) b.kernel.produce(0);
    b.round();
    b.round();
    b.guest.read_events();
    EXPECT_EQ(b.guest.log.size(), plant == EventPlant::kLoseRecord ? 39U : 41U);
    EXPECT_EQ(b.kernel.ring(0).cons, 40U);
  }
}

TEST(EventDuty, LeavesAGuestAloneWhoseMemoryWentAway) {
  Bench b(1);
  // The queue lies where the memory is taken away from under the engine.
  const int fd = memfd_create("short", MFD_CLOEXEC);
  ASSERT_EQ(ftruncate(fd, 0x40000), 0);
  void* host = mmap(nullptr, 0x40000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  const MemoryRegion region{Gpa{0}, 0x40000, host, -1};
  auto memory = viommu::GuestMemory::make(std::span(&region, 1));
  ASSERT_TRUE(memory.has_value());
  EventDutySetup setup;
  setup.memory = &*memory;
  setup.page = *viommu::RegisterPage::map(*memory, Gpa{0});
  setup.vsids = b.vsids;
  setup.rings = &b.rings;
  EventDuty<FakeSources> duty(b.sources, setup, b.journal.event());
  b.enable.base = 0x30000;
  ASSERT_TRUE(b.rings.to_event.push(b.enable));
  duty.round(1);
  ASSERT_EQ(ftruncate(fd, 0x30000), 0);
  b.kernel.produce(0);
  EXPECT_GT(duty.round(2), 0U) << "the access that finds out still completes";
  EXPECT_TRUE(memory->poisoned());
  b.kernel.produce(0);
  EXPECT_EQ(duty.round(3), 0U);
  EXPECT_EQ(b.kernel.ring(0).cons, 1U) << "nothing is taken for it any more";
  munmap(host, 0x40000);
  close(fd);
}

TEST(EventDuty, BeatsInTheJournal) {
  Bench b(1);
  b.now = 5'000'000;
  b.round();
  EXPECT_EQ(load_relaxed(b.journal.layout().event.heartbeat), 5'000'001U);
}

}  // namespace
}  // namespace faultline::engine
