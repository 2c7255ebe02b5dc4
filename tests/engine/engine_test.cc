// SPDX-License-Identifier: BSD-3-Clause
#include "engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/engine/command_duty_world.h"
#include "tests/engine/event_world.h"

namespace faultline::engine {
namespace {

using command_world::FakeSink;
using command_world::World;
using testing_world::FakeGuest;
using testing_world::FakeSources;
using FaultKernel = testing_world::FakeKernel;

/// A kernel's faults that a device thread produces while a shard takes them.
class SharedSources : public FakeSources {
 public:
  SharedSources(FaultKernel& kernel, std::mutex& mutex, const EventJournal* resume)
      : FakeSources(kernel, resume), mutex_(&mutex) {}
  std::size_t poll(std::size_t i, std::span<FaultRecord> out) noexcept {
    const std::lock_guard lock(*mutex_);
    return FakeSources::poll(i, out);
  }
  int commit(std::size_t i) noexcept {
    const std::lock_guard lock(*mutex_);
    return FakeSources::commit(i);
  }
  SourceLoss take_loss(std::size_t i) noexcept {
    const std::lock_guard lock(*mutex_);
    return FakeSources::take_loss(i);
  }

 private:
  std::mutex* mutex_;
};

using TestEngine = Engine<SharedSources, FakeSink>;

Plan two_shards(std::vector<std::string> guests) {
  Plan plan;
  plan.shards = {{0, true, "test"}, {0, true, "test"}};
  for (std::string& name : guests) plan.guests.push_back({std::move(name), 0, 1, "test"});
  plan.housekeeping = {0};
  return plan;
}

/// A guest with its driver, and the kernel under it: everything that outlives an engine.
struct GuestWorld {
  explicit GuestWorld(const std::string& name, RegisterMode mode = RegisterMode::kExitless)
      : world(2, mode),
        faults(2, 256),
        guest(*world.memory, world.page, Gpa{World::kEvtq}, World::kEvtqLog2) {
    world.spec.name = name;
    world.spec.registers = Gpa{World::kRegisters};
    world.spec.evtq_eventfd = guest.eventfd_of();
    world.kernel.record = false;
    journal = std::make_unique<Journal>(*create_journal(world.spec));
    for (const DeviceSpec& d : world.spec.devices) vsids.push_back(d.vsid);
  }

  Result<void> join(TestEngine& engine) {
    const EventJournal event = journal->event();
    return engine.add_guest(world.spec,
                            SharedSources(faults, mutex, journal->in_use() ? &event : nullptr),
                            FakeSink{&world.kernel}, *journal);
  }

  static bool until(const std::function<bool()>& done) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (std::chrono::steady_clock::now() < deadline) {
      if (done()) return true;
      std::this_thread::yield();
    }
    return done();
  }
  [[nodiscard]] bool drained() {
    return until([&] { return world.used() == 0; });
  }

  /// As Linux does at probe.
  bool probe() {
    world.write_strtab_registers();
    world.write_cmdq_registers();
    world.write_cr0(8);
    if (!until([&] { return world.cr0ack() == 8; })) return false;
    world.queue({command_world::cfgi_all(), command_world::sync(), command_world::tlbi_all(),
                 command_world::sync()});
    if (!drained()) return false;
    world.write_evtq_registers();
    world.write_cr0(0xc);
    if (!until([&] { return world.cr0ack() == 0xc; })) return false;
    world.page.release(viommu::Reg32::kIrqCtrl, 5);
    if (!until([&] { return world.page.acquire(viommu::Reg32::kIrqCtrlAck) == 5; })) return false;
    world.write_cr0(0xd);
    return until([&] { return world.cr0ack() == 0xd; });
  }

  void fault(int count) {
    for (int i = 0; i < count; ++i) {
      const std::lock_guard lock(mutex);
      faults.produce(static_cast<std::size_t>(i) % 2);
    }
  }
  /// Read whatever interrupts announce, until `count` events are there.
  bool read_until(std::size_t count) {
    return until([&] {
      if (guest.interrupted()) guest.read_events();
      return guest.log.size() >= count;
    });
  }

  World world;
  FaultKernel faults;
  FakeGuest guest;
  std::mutex mutex;
  std::unique_ptr<Journal> journal;
  std::vector<StreamId> vsids;
};

class EngineTest : public testing::Test {
 protected:
  ColdLane lane_{{0}};
};

TEST_F(EngineTest, ChangesTheBudgetOfAGuestThatIsServed) {
  GuestWorld g("one");
  TestEngine engine(lane_);
  g.world.spec.budget.weight = 0;
  EXPECT_EQ(g.join(engine).error().what,
            "guest one: a budget is 1 to 65536 commands, records and submissions, and a weight of "
            "1 to 256");
  g.world.spec.budget.weight = 1;
  ASSERT_TRUE(g.join(engine).has_value());
  ASSERT_TRUE(engine.start(two_shards({"one"}), on_threads()).has_value());
  ASSERT_TRUE(g.probe());
  ASSERT_TRUE(engine.set_budget("one", {.commands = 1}).has_value());
  EXPECT_EQ(engine.snapshot().guests[0].budget.commands, 1U);
  for (int i = 0; i < 20; ++i) g.world.place(command_world::prefetch());
  g.world.ring();
  ASSERT_TRUE(g.drained());
  EXPECT_GE(engine.snapshot().guests[0].commands.commands_cut, 10U);
  ASSERT_TRUE(engine.stop().has_value());
}

TEST_F(EngineTest, ServesAGuestFromItsProbeToTheStop) {
  GuestWorld g("one");
  TestEngine engine(lane_);
  ASSERT_TRUE(g.join(engine).has_value());
  ASSERT_TRUE(engine.start(two_shards({"one"}), on_threads()).has_value());
  ASSERT_TRUE(g.probe());
  for (int i = 0; i < 40; ++i) {
    g.fault(20);
    g.world.queue({command_world::tlbi_va(0x1000), command_world::sync()});
    ASSERT_TRUE(g.read_until(static_cast<std::size_t>(i + 1) * 20));
    ASSERT_TRUE(g.drained());
  }
  g.world.write_ste(0, 3);
  g.world.queue({command_world::cfgi_ste(World::sid(0)), command_world::sync()});
  ASSERT_TRUE(g.drained()) << "the cold lane binds stage 1";
  const auto stopped = engine.stop();
  ASSERT_TRUE(stopped.has_value()) << stopped.error().message();

  testing_world::audit(g.faults, g.guest, g.vsids);
  EXPECT_EQ(g.guest.log.size(), 800U);
  const EngineSnapshot snapshot = engine.snapshot();
  ASSERT_EQ(snapshot.guests.size(), 1U);
  const GuestSnapshot& s = snapshot.guests[0];
  EXPECT_EQ(s.sum(&EventDeviceCounters::delivered), 800U);
  EXPECT_EQ(s.commands.syncs_completed, 43U);
  EXPECT_GE(s.commands.attaches, 1U);
  EXPECT_EQ(s.evtq_size, 32U);
  EXPECT_EQ(s.evtq_depth, 0U);
  EXPECT_GT(s.interrupts, 0U);
  EXPECT_EQ(s.interrupts_unheard, 0U);
  EXPECT_GT(s.publish_ns.count(), 0U);
  EXPECT_EQ(s.sync_ns.count(), 43U);
  EXPECT_FALSE(s.detached);
  ASSERT_EQ(snapshot.shards.size(), 2U);
  EXPECT_GT(snapshot.shards[0].counters.busy_rounds, 0U);
  EXPECT_GT(snapshot.shards[1].counters.busy_rounds, 0U);
  EXPECT_GT(g.journal->last_beat(), 0U);
}

TEST_F(EngineTest, GoesOnWhereAnEarlierEngineStoppedWithoutTheGuestNoticing) {
  GuestWorld g("one");
  std::size_t expected = 0;
  for (int life = 0; life < 4; ++life) {
    TestEngine engine(lane_);
    ASSERT_TRUE(g.join(engine).has_value());
    ASSERT_TRUE(engine.start(two_shards({"one"}), on_threads()).has_value());
    if (life == 0) {
      ASSERT_TRUE(g.probe());
    }
    g.fault(10);
    g.world.queue({command_world::tlbi_all(), command_world::sync()});
    expected += 10;
    ASSERT_TRUE(g.read_until(expected)) << "life " << life;
    ASSERT_TRUE(g.drained()) << "life " << life;
    g.fault(10);  // some of these are still on their way when it stops
    expected += 10;
    g.world.queue({command_world::tlbi_all(), command_world::sync()});
    ASSERT_TRUE(engine.stop().has_value());
  }
  TestEngine engine(lane_);
  ASSERT_TRUE(g.join(engine).has_value());
  ASSERT_TRUE(engine.start(two_shards({"one"}), on_threads()).has_value());
  ASSERT_TRUE(g.read_until(expected));
  ASSERT_TRUE(g.drained());
  ASSERT_TRUE(engine.stop().has_value());
  EXPECT_EQ(g.guest.log.size(), expected);
  testing_world::audit(g.faults, g.guest, g.vsids);
}

TEST_F(EngineTest, TakesGuestsOnAndOffWhileItRuns) {
  GuestWorld a("a"), b("b");
  TestEngine engine(lane_);
  ASSERT_TRUE(a.join(engine).has_value());
  ASSERT_TRUE(engine.start(two_shards({"a"}), on_threads()).has_value());
  ASSERT_TRUE(a.probe());
  ASSERT_TRUE(b.join(engine).has_value());
  ASSERT_TRUE(b.probe());
  ASSERT_TRUE(engine.remove_guest("a").has_value());
  EXPECT_FALSE(engine.remove_guest("a").has_value());
  EXPECT_EQ(engine.snapshot().guests.size(), 1U);
  a.fault(10);
  b.fault(10);
  ASSERT_TRUE(b.read_until(10));
  EXPECT_FALSE(a.guest.interrupted());
  ASSERT_TRUE(a.join(engine).has_value()) << "its journal is good for another start";
  ASSERT_TRUE(a.read_until(10));
  ASSERT_TRUE(engine.stop().has_value());
  testing_world::audit(a.faults, a.guest, a.vsids);
  testing_world::audit(b.faults, b.guest, b.vsids);
}

TEST_F(EngineTest, MovesDutiesBetweenShardsWithoutLosingARecordOrASync) {
  GuestWorld a("a"), b("b");
  TestEngine engine(lane_);
  ASSERT_TRUE(a.join(engine).has_value());
  ASSERT_TRUE(b.join(engine).has_value());
  Plan plan = two_shards({"a", "b"});
  ASSERT_TRUE(engine.start(plan, on_threads()).has_value());
  ASSERT_TRUE(a.probe());
  ASSERT_TRUE(b.probe());
  unsigned moved = 0;
  for (int i = 0; i < 60; ++i) {
    for (GuestWorld* g : {&a, &b}) {
      g->fault(20);
      g->world.queue({command_world::tlbi_va(0x1000), command_world::sync()});
    }
    // All four combinations, with records and commands under way at each change.
    plan.guests[0].event_shard = static_cast<std::size_t>(i / 2 % 2);
    plan.guests[0].command_shard = static_cast<std::size_t>(i % 2);
    plan.guests[1].event_shard = static_cast<std::size_t>(i % 2);
    const auto changed = engine.rebalance(plan);
    ASSERT_TRUE(changed.has_value()) << changed.error().message();
    moved += *changed;
    const EngineSnapshot snapshot = engine.snapshot();
    EXPECT_EQ(snapshot.guests[0].event_shard, plan.guests[0].event_shard);
    EXPECT_EQ(snapshot.guests[0].command_shard, plan.guests[0].command_shard);
    for (GuestWorld* g : {&a, &b}) {
      ASSERT_TRUE(g->read_until(static_cast<std::size_t>(i + 1) * 20));
      ASSERT_TRUE(g->drained());
    }
  }
  EXPECT_GT(moved, 100U);
  ASSERT_TRUE(engine.stop().has_value());
  testing_world::audit(a.faults, a.guest, a.vsids);
  testing_world::audit(b.faults, b.guest, b.vsids);
}

TEST_F(EngineTest, RefusesToRebalanceToOtherShards) {
  GuestWorld g("one");
  TestEngine engine(lane_);
  ASSERT_TRUE(g.join(engine).has_value());
  Plan plan = two_shards({"one"});
  EXPECT_FALSE(engine.rebalance(plan).has_value()) << "it does not run";
  ASSERT_TRUE(engine.start(plan, on_threads()).has_value());
  Plan fewer = plan;
  fewer.shards.pop_back();
  EXPECT_FALSE(engine.rebalance(fewer).has_value());
  Plan nowhere = plan;
  nowhere.guests[0].event_shard = 2;
  EXPECT_FALSE(engine.rebalance(nowhere).has_value());
  const auto nobody = engine.rebalance(two_shards({"somebody else"}));
  ASSERT_TRUE(nobody.has_value());
  EXPECT_EQ(*nobody, 0U);
}

TEST_F(EngineTest, ErrsOnPurposeWhenPlanted) {
  for (const Plant plant : {Plant::kLoseRecord, Plant::kDuplicateRecord}) {
    GuestWorld g("one");
    EngineOptions options;
    options.plant = plant;
    TestEngine engine(lane_, options);
    ASSERT_TRUE(g.join(engine).has_value());
    ASSERT_TRUE(engine.start(two_shards({"one"}), on_threads()).has_value());
    ASSERT_TRUE(g.probe());
    g.fault(10);
    ASSERT_TRUE(GuestWorld::until([&] {
      const std::lock_guard lock(g.mutex);
      return g.faults.ring(0).cons == 5 && g.faults.ring(1).cons == 5;
    }));
    ASSERT_TRUE(engine.stop().has_value());
    g.guest.read_events();
    EXPECT_NE(g.guest.log.size(), 10U);
  }
}

TEST_F(EngineTest, SaysInOneLineWhatIsWrong) {
  const auto expect = [](const Result<void>& result, const std::string& word) {
    ASSERT_FALSE(result.has_value()) << word;
    EXPECT_THAT(result.error().message(), testing::HasSubstr(word));
    EXPECT_EQ(result.error().message().find('\n'), std::string::npos);
  };
  GuestWorld g("one"), other("other");
  TestEngine engine(lane_);
  other.world.spec.devices[0].vsid = StreamId{77};
  other.journal = std::make_unique<Journal>(*create_journal(other.world.spec));
  std::swap(g.journal, other.journal);
  expect(g.join(engine), "journal is of another guest");
  std::swap(g.journal, other.journal);

  GuestSpec spec = g.world.spec;
  const auto add = [&] {
    auto journal = std::make_unique<Journal>(*create_journal(g.world.spec));
    return engine.add_guest(spec, SharedSources(g.faults, g.mutex, nullptr),
                            FakeSink{&g.world.kernel}, *journal);
  };
  spec.devices.pop_back();
  expect(add(), "1 devices but 2 fault sources");
  spec.devices.clear();
  expect(add(), "it needs 1 to 64");
  spec = g.world.spec;
  spec.devices[1].vsid = spec.devices[0].vsid;
  expect(add(), "the same StreamID");
  spec = g.world.spec;
  spec.memory.clear();
  expect(add(), "guest one");
  spec = g.world.spec;
  spec.registers = Gpa{World::kRam + World::kRamBytes};
  expect(check_guest(spec, 2, *g.journal), "journal is of another guest");

  expect(engine.start(Plan{}, on_threads()), "without shards");
  ASSERT_TRUE(g.join(engine).has_value());
  expect(g.join(engine), "is there already");
  expect(engine.start(two_shards({"two"}), on_threads()), "guest one has no place");
  Plan plan = two_shards({"one"});
  plan.guests[0].command_shard = 9;
  expect(engine.start(plan, on_threads()), "a shard that is not there");
  expect(engine.remove_guest("nobody"), "no guest nobody");
  ASSERT_TRUE(engine.start(two_shards({"one"}), on_threads()).has_value());
  expect(engine.start(two_shards({"one"}), on_threads()), "runs already");
}

TEST_F(EngineTest, KeepsServingTheOthersWhenAGuestIsHostile) {
  GuestWorld good("good"), bad("bad");
  TestEngine engine(lane_);
  ASSERT_TRUE(good.join(engine).has_value());
  ASSERT_TRUE(bad.join(engine).has_value());
  ASSERT_TRUE(engine.start(two_shards({"good", "bad"}), on_threads()).has_value());
  ASSERT_TRUE(good.probe());
  ASSERT_TRUE(bad.probe());
  std::uint64_t random = 88172645463325252U;
  std::size_t expected = 0;
  for (int i = 0; i < 60; ++i) {
    for (int k = 0; k < 200; ++k) {  // its registers, but for those that end it
      random ^= random << 13;
      random ^= random >> 7;
      random ^= random << 17;
      bad.world.page.store(static_cast<viommu::Reg32>(random % 0x30 * 4),
                           static_cast<std::uint32_t>(random >> 32));
      bad.world.page.store(viommu::Reg32::kEvtqCons, static_cast<std::uint32_t>(random >> 17));
      bad.world.page.store(viommu::Reg32::kEvtqProd, static_cast<std::uint32_t>(random >> 11));
    }
    bad.fault(10);
    good.fault(10);
    expected += 10;
    good.world.queue({command_world::tlbi_all(), command_world::sync()});
    ASSERT_TRUE(good.read_until(expected));
    ASSERT_TRUE(good.drained());
  }
  (void)engine.stop();
  testing_world::audit(good.faults, good.guest, good.vsids);
}

}  // namespace
}  // namespace faultline::engine
