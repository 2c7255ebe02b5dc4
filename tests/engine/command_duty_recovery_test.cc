// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <string>

#include "tests/engine/command_duty_world.h"

// The engine is killed at every step that the CommandDuty has, over a run of everything it does;
// the guest must not notice and nothing uncovered may be told done.

namespace faultline::engine::command_world {
namespace {

using Batching = Engine<merge::BatchUntilSync>;

constexpr JournalStep kSteps[] = {
    JournalStep::kRegistersJournalled, JournalStep::kCommandsFetched,
    JournalStep::kCommandsSubmitted,   JournalStep::kConsJournalled,
    JournalStep::kConsPublished,       JournalStep::kSyncJournalled,
    JournalStep::kSyncMsiWritten,      JournalStep::kSyncMsiJournalled,
    JournalStep::kSyncConsPublished,   JournalStep::kSyncDone,
    JournalStep::kErrorJournalled,     JournalStep::kErrorPublished,
    JournalStep::kAttachMarked,        JournalStep::kAttachDone,
    JournalStep::kAttachJournalled,
};

/// A guest that waits for each thing it asks, over an engine that is restarted when it died.
class Session {
 public:
  explicit Session(World& world) : world_(world), engine_(world) {}

  /// While the engine is dead the guest goes on as far as it can: only what it then waits for in
  /// vain brings the engine back.
  bool wait(const std::function<bool()>& done) {
    for (int i = 0; i < 3000; ++i) {
      if (done()) return true;
      if (world_.plan.step && world_.plan.count == 0) {
        engine_.restart();
        ++restarts_;
      }
      engine_.round();
    }
    return done();
  }
  [[nodiscard]] int restarts() const { return restarts_; }
  Batching& engine() { return engine_; }

 private:
  World& world_;
  Batching engine_;
  int restarts_ = 0;
};

bool was_submitted(const FakeKernel& kernel, std::uint64_t addr) {
  for (const auto& submission : kernel.submissions) {
    for (const Operation& op : submission) {
      if (op.kind == OperationKind::kTlbVa && op.addr == addr) return true;
    }
  }
  return false;
}

/// Commands with an MSI into the SYNC's own slot, as Linux does it.
void invalidate(Session& session, World& world, std::uint64_t addr) {
  const std::uint64_t at = world.slot(world.prod + 1);
  world.queue({tlbi_va(addr), sync_msi(at, 0)});
  ASSERT_TRUE(session.wait([&] {
    const bool told = static_cast<std::uint32_t>(world.get(at)) == 0;
    EXPECT_TRUE(!told || was_submitted(world.kernel, addr));
    return told;
  }));
  ASSERT_TRUE(session.wait([&] { return world.used() == 0; }));
  ASSERT_EQ(world.cons_error(), 0U) << "MSI data fetched as a command";
}

/// Everything a guest does, once.
void life(Session& session, World& world) {
  const auto cr0 = [&](std::uint32_t value) {
    world.write_cr0(value);
    return session.wait([&] { return world.cr0ack() == value; });
  };
  ASSERT_TRUE(session.wait([&] { return session.engine().duty().quiet(); }));
  world.write_ste(0, 3);
  world.write_strtab_registers();
  world.write_cmdq_registers();
  ASSERT_TRUE(cr0(8));
  world.write_evtq_registers();
  ASSERT_TRUE(cr0(0xc));
  world.page.release(Reg32::kIrqCtrl, 5);
  ASSERT_TRUE(session.wait([&] { return world.page.acquire(Reg32::kIrqCtrlAck) == 5; }));
  ASSERT_TRUE(cr0(0xd));

  std::uint64_t addr = 0x1000;
  // Around the queue more than once, so that slots are used again.
  for (std::uint32_t i = 0; i < world.size() + 4; ++i, addr += 0x1000) {
    ASSERT_NO_FATAL_FAILURE(invalidate(session, world, addr));
  }
  world.queue({tlbi_va(addr), sync()});
  ASSERT_TRUE(session.wait([&] { return world.used() == 0; }));
  EXPECT_TRUE(was_submitted(world.kernel, addr));

  world.write_ste(1, 4);
  world.queue({cfgi_ste(World::sid(1)), sync()});
  ASSERT_TRUE(session.wait([&] { return world.used() == 0; }));
  EXPECT_EQ(world.kernel.attaches.back().first, 1U);
  EXPECT_EQ(world.kernel.attaches.back().second.mode, Stage1Config::Mode::kTranslate);

  const std::uint32_t bad = world.prod;
  world.queue({illegal(), tlbi_va(0xdead000)});
  ASSERT_TRUE(session.wait([&] { return world.cmdq_error_active(); }));
  ASSERT_EQ(world.cons_error(), 1U);
  ASSERT_EQ(world.cons() & world.mask(), bad & world.mask());
  world.put(world.slot(bad), sync().word[0]);
  world.acknowledge_gerror();
  ASSERT_TRUE(session.wait([&] { return world.used() == 0; }));
  world.queue({sync()});
  ASSERT_TRUE(session.wait([&] { return world.used() == 0; }));
  EXPECT_FALSE(world.cmdq_error_active());
  EXPECT_TRUE(was_submitted(world.kernel, 0xdead000));

  ASSERT_NO_FATAL_FAILURE(invalidate(session, world, addr + 0x1000));
  ASSERT_TRUE(cr0(0));
}

class CommandsKilledAt : public testing::TestWithParam<JournalStep> {
 protected:
  void sweep(unsigned cmdq_log2) {
    for (std::uint32_t count = 1; count < 400; count = count * 3 / 2 + 1) {
      SCOPED_TRACE("passing " + std::to_string(count));
      World world(2, RegisterMode::kExitless, cmdq_log2);
      world.plan = {GetParam(), count, {}};
      Session session(world);
      ASSERT_NO_FATAL_FAILURE(life(session, world));
      std::uint32_t gerrors = 0;
      for (const ToEventDuty& m : world.requests) {
        if (m.kind == ToEventDuty::Kind::kRaiseGerror) ++gerrors;
      }
      EXPECT_EQ(gerrors, 1U) << "raised once, whoever did it";
      if (session.restarts() == 0) {
        ASSERT_GT(count, 1U) << "the step is never passed";
        return;
      }
    }
  }
};

TEST_P(CommandsKilledAt, TheGuestNoticesNothing) {
  sweep(5);
}

// Two slots: whatever the guest is told done, it overwrites at once.
TEST_P(CommandsKilledAt, NorWhenItFillsEverySlotAnewAtOnce) {
  sweep(1);
}

INSTANTIATE_TEST_SUITE_P(CommandRecovery, CommandsKilledAt, testing::ValuesIn(kSteps),
                         [](const auto& info) {
                           std::string name(step_name(info.param));
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(CommandRecovery, ASyncsEventfdIsToldOnceByTheShardHoweverOftenItStartsAgain) {
  const int its = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  constexpr std::uint64_t kNoMemory = 0x7'0000'0040;
  World world;
  world.spec.routes = {{Gpa{kNoMemory}, 6, its}};
  Batching engine(world);
  world.write_ste(0, 3);
  ASSERT_TRUE(engine.probe());
  world.plan = {JournalStep::kSyncJournalled, 1, {}};
  world.queue({tlbi_va(0x1000), sync_msi(kNoMemory, 6), tlbi_va(0x2000), sync()});
  engine.rounds(20);
  ASSERT_EQ(world.plan.count, 0U) << "never killed";
  const auto told = [its] {
    std::uint64_t n = 0;
    return ::read(its, &n, sizeof n) == sizeof n ? n : 0;
  };
  for (int life = 0; life < 3; ++life) {
    engine.restart();
    EXPECT_EQ(told(), 0U) << "the control thread may hang in it";
    EXPECT_EQ(world.used(), 2U) << "the SYNC itself took effect";
  }
  ASSERT_TRUE(engine.until([&] { return world.used() == 0; }));
  EXPECT_EQ(told(), 1U);
  EXPECT_EQ(world.cons_error(), 0U);
  engine.restart();
  engine.rounds(20);
  EXPECT_EQ(told(), 0U);
  ::close(its);
}

TEST(CommandRecovery, ARestartDoesNotBindWhatIsBound) {
  World world;
  Batching engine(world);
  world.write_ste(0, 3);
  ASSERT_TRUE(engine.probe());
  world.kernel.attaches.clear();
  world.kernel.asids.clear();
  engine.restart();
  engine.rounds(20);
  EXPECT_TRUE(world.kernel.attaches.empty());
  EXPECT_FALSE(world.kernel.asids.empty()) << "a new sink has to know the ASIDs in use";
  world.queue({tlbi_va(0x1000), sync()});
  EXPECT_TRUE(engine.drained());
}

TEST(CommandRecovery, ARestartBindsAgainForASinkThatHasToKnow) {
  World world;
  world.kernel.config_caches = false;
  Batching engine(world);
  world.write_ste(0, 3);
  ASSERT_TRUE(engine.probe());
  world.kernel.attaches.clear();
  engine.restart();
  world.queue({cfgi_cd(World::sid(0)), sync()});
  EXPECT_TRUE(engine.drained());
  ASSERT_EQ(world.kernel.attaches.size(), 2U);
  EXPECT_EQ(world.kernel.attaches[0].second.mode, Stage1Config::Mode::kTranslate);
}

TEST(CommandRecovery, ARestartWhileTheGuestIsBlockedStaysBlockedUntilAllIsInvalidated) {
  World world;
  Batching engine(world);
  world.write_ste(0, 3);
  ASSERT_TRUE(engine.probe());
  world.kernel.fail_submit = [](std::size_t) { return true; };
  world.queue({tlbi_va(0x1000), sync()});
  ASSERT_TRUE(engine.until([&] { return world.cmdq_error_active(); }));
  world.kernel.attaches.clear();
  world.kernel.submissions.clear();
  world.kernel.fail_submit = nullptr;
  engine.restart();
  engine.rounds(50);
  EXPECT_TRUE(world.kernel.attaches.empty());
  EXPECT_TRUE(world.cmdq_error_active());
  world.acknowledge_gerror();
  ASSERT_TRUE(engine.drained());
  EXPECT_EQ(world.kernel.submissions[0][0].kind, OperationKind::kTlbAll);
  EXPECT_EQ(world.kernel.attaches.back().second.mode, Stage1Config::Mode::kTranslate);
}

TEST(CommandRecovery, ARestartWhileTheErrorIsAcknowledgedGoesOn) {
  World world;
  Batching engine(world);
  ASSERT_TRUE(engine.probe());
  const std::uint32_t bad = world.prod;
  world.queue({illegal(), sync()});
  ASSERT_TRUE(engine.until([&] { return world.cmdq_error_active(); }));
  world.put(world.slot(bad), sync().word[0]);
  world.acknowledge_gerror();
  engine.restart();
  EXPECT_TRUE(engine.drained());
}

}  // namespace
}  // namespace faultline::engine::command_world
