// SPDX-License-Identifier: BSD-3-Clause
#include "engine/control_registers.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "tests/engine/command_duty_world.h"

namespace faultline::engine::command_world {
namespace {

using Batching = Engine<merge::BatchUntilSync>;
using Mode = Stage1Config::Mode;
constexpr std::uint32_t kPoison = RegisterGate::kPoison32;
constexpr int kPatienceRounds = 12'000;  // of 100 ns: beyond RegisterGate::kPatience

TEST(ControlRegisters, StartAsAfterReset) {
  World world;
  Batching engine(world);
  engine.rounds(10);
  EXPECT_EQ(world.cr0ack(), 0U);
  EXPECT_NE(world.page.load(Reg32::kIdr0), 0U);
  EXPECT_EQ(world.page.load(Reg32::kCmdqProd), kPoison);
  EXPECT_EQ(world.page.load(Reg64::kEvtqBase), RegisterGate::kPoison64);
  ASSERT_EQ(world.kernel.attaches.size(), 2U) << "every device by GBPA";
  EXPECT_EQ(world.kernel.attaches[0].second.mode, Mode::kBypass);
}

TEST(ControlRegisters, AreNotPoisonedWhereTheVmmServesTheGuestsReads) {
  World world(1, RegisterMode::kTrapped);
  Batching engine(world);
  EXPECT_EQ(world.page.load(Reg32::kCmdqProd), 0U);
  EXPECT_EQ(world.page.load(Reg64::kEvtqBase), 0U);
  EXPECT_TRUE(engine.probe());
}

TEST(ControlRegisters, TakeTheCommandQueueInWhateverOrderItsRegistersBecomeVisible) {
  std::array<int, 4> order{0, 1, 2, 3};
  do {
    World world;
    Batching engine(world);
    engine.rounds(10);
    for (std::size_t i = 0; i < order.size(); ++i) {
      switch (order[i]) {
        case 0:
          world.write_cr0(8);
          break;
        case 1:
          world.page.store(Reg64::kCmdqBase, World::kCmdq | world.cmdq_log2);
          break;
        case 2:
          world.page.store(Reg32::kCmdqProd, 5);
          break;
        default:
          world.page.store(Reg32::kCmdqCons, 5);
      }
      engine.rounds(20);
      ASSERT_EQ(world.cr0ack(), i + 1 == order.size() ? 8U : 0U);
    }
    world.prod = 5;
    world.queue({tlbi_all(), sync()});
    ASSERT_TRUE(engine.drained());
    EXPECT_EQ(world.kernel.flat().size(), 1U);
    EXPECT_EQ(world.cons(), 7U);
    EXPECT_EQ(engine.duty().counters().late_registers, 0U);
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST(ControlRegisters, WaitForBothHalvesOfABase) {
  World world;
  Batching engine(world);
  engine.rounds(10);
  world.page.store(Reg32::kCmdqProd, 0);
  world.page.store(Reg32::kCmdqCons, 0);
  world.write_cr0(8);
  const std::uint64_t base = World::kCmdq | world.cmdq_log2;
  const std::uint64_t high = RegisterGate::kPoison64 << 32U;
  world.page.store(Reg64::kCmdqBase, high | (base & 0xffff'ffff));
  engine.rounds(20);
  EXPECT_EQ(world.cr0ack(), 0U);
  world.page.store(Reg64::kCmdqBase, base);
  EXPECT_TRUE(engine.until([&] { return world.cr0ack() == 8; }));
}

TEST(ControlRegisters, TakePriorValuesFromAGuestThatDoesNotWriteThemAgain) {
  World world;
  Batching engine(world);
  ASSERT_TRUE(engine.probe());
  world.write_cr0(0xd & ~8U);
  ASSERT_TRUE(engine.until([&] { return world.cr0ack() == 5; }));
  const std::uint32_t prod = world.prod;
  EXPECT_EQ(world.page.load(Reg32::kCmdqProd), kPoison);
  world.write_cr0(0xd);
  engine.rounds(100);
  EXPECT_EQ(world.cr0ack(), 5U);
  ASSERT_TRUE(engine.until([&] { return world.cr0ack() == 0xd; }, kPatienceRounds));
  EXPECT_EQ(world.page.load(Reg32::kCmdqProd), prod);
  EXPECT_EQ(world.cons(), prod);
  EXPECT_EQ(engine.duty().counters().late_registers, 1U);
  world.queue({tlbi_all(), sync()});
  EXPECT_TRUE(engine.drained());
}

TEST(ControlRegisters, PoisonBeforeTheyAcknowledgeThatAQueueIsOff) {
  World world;
  Batching engine(world);
  ASSERT_TRUE(engine.probe());
  world.hold_events = true;
  world.write_cr0(0);
  engine.rounds(50);
  EXPECT_EQ(world.cr0ack(), 0xdU) << "the EventDuty still may write the event queue";
  world.hold_events = false;
  ASSERT_TRUE(engine.until([&] {
    if (world.cr0ack() != 0) return false;
    EXPECT_EQ(world.page.load(Reg64::kCmdqBase), RegisterGate::kPoison64);
    EXPECT_EQ(world.page.load(Reg32::kEvtqProd), kPoison);
    EXPECT_EQ(world.page.load(Reg32::kStrtabBaseCfg), kPoison);
    return true;
  }));
}

TEST(ControlRegisters, HandTheEventQueueOverAsTheGuestProgrammedIt) {
  World world;
  Batching engine(world);
  ASSERT_TRUE(engine.probe());
  const auto& m = world.requests.front();
  EXPECT_EQ(m.kind, ToEventDuty::Kind::kEnableEvtq);
  EXPECT_EQ(m.base, World::kEvtq);
  EXPECT_EQ(m.log2size, World::kEvtqLog2);
  EXPECT_EQ(world.requests.back().kind, ToEventDuty::Kind::kIrqControl);
  EXPECT_EQ(world.requests.back().bits, 5U);
}

TEST(ControlRegisters, AcknowledgeOnlyWhatIsOffered) {
  World world;
  Batching engine(world);
  world.write_cr0(0x1f2);  // PRIQEN and reserved bits
  world.page.release(Reg32::kIrqCtrl, 0xff);
  engine.rounds(50);
  EXPECT_EQ(world.cr0ack(), 0U);
  EXPECT_EQ(world.page.load(Reg32::kIrqCtrlAck), 5U);
  EXPECT_EQ(engine.duty().counters().register_changes, 2U);
  EXPECT_TRUE(engine.duty().quiet());
}

TEST(ControlRegisters, BindEveryDeviceBeforeTheSmmuIsSaidToBeOn) {
  World world;
  Batching engine(world);
  world.write_ste(0, 3);
  world.write_bypass_ste(1);
  engine.rounds(10);
  world.kernel.attaches.clear();
  world.write_strtab_registers();
  world.write_cr0(1);
  world.hold_cold = true;
  engine.rounds(50);
  EXPECT_EQ(world.cr0ack(), 0U);
  world.hold_cold = false;
  ASSERT_TRUE(engine.until([&] { return world.cr0ack() == 1; }));
  ASSERT_EQ(world.kernel.attaches.size(), 2U);
  EXPECT_EQ(world.kernel.attaches[0].second.mode, Mode::kTranslate);
  EXPECT_EQ(world.kernel.attaches[1].second.mode, Mode::kBypass);
  EXPECT_EQ(world.kernel.asids.size(), 1U);

  world.kernel.attaches.clear();
  world.write_cr0(0);
  ASSERT_TRUE(engine.until([&] { return world.cr0ack() == 0; }));
  EXPECT_EQ(world.kernel.attaches[0].second.mode, Mode::kBypass);
}

TEST(ControlRegisters, ApplyGbpaWhileTheSmmuIsOff) {
  World world;
  Batching engine(world);
  engine.rounds(10);
  world.kernel.attaches.clear();
  world.page.release(Reg32::kGbpa, viommu::gbpa::kUpdate | viommu::gbpa::kAbort | 0x1000);
  world.hold_cold = true;
  engine.rounds(50);
  EXPECT_NE(world.page.load(Reg32::kGbpa) & viommu::gbpa::kUpdate, 0U);
  world.hold_cold = false;
  ASSERT_TRUE(engine.until(
      [&] { return world.page.acquire(Reg32::kGbpa) == (viommu::gbpa::kAbort | 0x1000); }));
  ASSERT_EQ(world.kernel.attaches.size(), 2U);
  EXPECT_EQ(world.kernel.attaches[0].second.mode, Mode::kAbort);
}

TEST(ControlRegisters, ServeAGuestThatResetsALiveSmmu) {
  World world;
  Batching engine(world);
  world.write_ste(0, 3);
  ASSERT_TRUE(engine.probe());
  // "SMMU currently enabled! Resetting...": GBPA to abort, CR0 off, then the probe again.
  world.page.release(Reg32::kGbpa, viommu::gbpa::kUpdate | viommu::gbpa::kAbort);
  ASSERT_TRUE(
      engine.until([&] { return world.page.acquire(Reg32::kGbpa) == viommu::gbpa::kAbort; }));
  EXPECT_EQ(world.kernel.attaches.back().second.mode, Mode::kAbort) << "device 1's bad STE";
  world.kernel.attaches.clear();
  world.write_cr0(0);
  ASSERT_TRUE(engine.until([&] { return world.cr0ack() == 0; }));
  ASSERT_EQ(world.kernel.attaches.size(), 1U);
  EXPECT_EQ(world.kernel.attaches[0].second.mode, Mode::kAbort);
  ASSERT_TRUE(engine.probe());
  EXPECT_EQ(world.kernel.attaches.back().second.mode, Mode::kTranslate);
}

TEST(ControlRegisters, SubmitWhatWasFetchedBeforeAQueueGoesOff) {
  World world;
  Batching engine(world);
  ASSERT_TRUE(engine.probe());
  world.kernel.submissions.clear();
  world.queue({tlbi_va(0x1000)});
  engine.round();
  EXPECT_TRUE(world.kernel.submissions.empty());
  world.write_cr0(0xd & ~8U);
  ASSERT_TRUE(engine.until([&] { return world.cr0ack() == 5; }));
  EXPECT_EQ(world.kernel.flat().size(), 1U);
}

TEST(ControlRegisters, KeepTheQueueStoppedAcrossADisableUntilTheErrorIsAcknowledged) {
  World world;
  Batching engine(world);
  ASSERT_TRUE(engine.probe());
  world.queue({illegal()});
  ASSERT_TRUE(engine.until([&] { return world.cmdq_error_active(); }));
  world.write_cr0(5);
  ASSERT_TRUE(engine.until([&] { return world.cr0ack() == 5; }));
  world.write_cmdq_registers();
  world.write_cr0(0xd);
  ASSERT_TRUE(engine.until([&] { return world.cr0ack() == 0xd; }));
  world.queue({sync()});
  engine.rounds(50);
  EXPECT_EQ(world.used(), 1U);
  world.acknowledge_gerror();
  EXPECT_TRUE(engine.drained());
}

TEST(ControlRegisters, SurviveEveryHostileValueOfProdConsAndBases) {
  const std::array<std::uint64_t, 9> values{0,           1,           0x7f,    0x80,      0xff,
                                            0xffff'fffe, 0x8000'0000, kPoison, ~0ULL - 31};
  for (const RegisterMode mode : {RegisterMode::kExitless, RegisterMode::kTrapped}) {
    for (const std::uint64_t base : values) {
      for (const std::uint64_t index : values) {
        World world(1, mode);
        world.kernel.record = false;
        Batching engine(world);
        engine.rounds(5);
        world.page.store(Reg64::kCmdqBase, base);
        world.page.store(Reg64::kStrtabBase, base);
        world.page.store(Reg32::kStrtabBaseCfg, static_cast<std::uint32_t>(index));
        world.page.store(Reg32::kCmdqProd, static_cast<std::uint32_t>(index));
        world.page.store(Reg32::kCmdqCons, static_cast<std::uint32_t>(base));
        world.write_cr0(static_cast<std::uint32_t>(index) | 9);
        engine.rounds(200);
        world.page.store(Reg32::kCmdqProd, static_cast<std::uint32_t>(base));
        world.write_cr0(static_cast<std::uint32_t>(base));
        world.page.store(Reg32::kGerrorn, static_cast<std::uint32_t>(index));
        engine.rounds(200);
      }
    }
  }
}

}  // namespace
}  // namespace faultline::engine::command_world
