// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "engine/event_duty.h"
#include "tests/engine/event_world.h"

namespace faultline::engine {
namespace {

using namespace testing_world;

/// A guest and a kernel that go on, and engines that are killed and started again.
class KillWorld {
 public:
  static constexpr std::size_t kDevices = 3;
  static constexpr unsigned kLog2Size = 4;

  KillWorld(std::optional<JournalStep> step, int passing, std::uint64_t seed)
      : kernel(kDevices, 12),
        guest(ram, kLog2Size),
        journal(*Journal::create("test", kDevices, 0)),
        step_(step),
        passing_(passing),
        left_(passing),
        random_(seed) {
    for (std::uint32_t i = 0; i < kDevices; ++i) vsids.push_back(StreamId{0x40 + i});
    requests_.push_back({.kind = ToEventDuty::Kind::kIrqControl,
                         .bits = viommu::irq_ctrl::kEvtq | viommu::irq_ctrl::kGerror});
    requests_.push_back(
        {.kind = ToEventDuty::Kind::kEnableEvtq, .base = GuestRam::kQueue, .log2size = kLog2Size});
    start();
  }

  /// Random work: faults, bursts that overflow either queue, a guest that reads when interrupted.
  void run(int rounds) {
    for (int i = 0; i < rounds; ++i) {
      if (started_) {
        const std::size_t faults = random_() % 8 == 0 ? random_() % 40 : random_() % 3;
        for (std::size_t f = 0; f < faults; ++f) kernel.produce(random_() % kDevices);
      }
      if (random_() % 64 == 0) ask_gerror();
      turn();
      if (random_() % 3 != 0) guest_turn(random_() % 4 == 0 ? random_() % 5 : SIZE_MAX);
    }
    // No faults any more: everything on its way arrives, and only interrupts lead the guest to it.
    for (int i = 0; i < 64; ++i) {
      turn();
      guest_turn(SIZE_MAX);
    }
  }

  [[nodiscard]] int kills() const { return kills_; }
  [[nodiscard]] std::uint32_t gerrors_asked() const { return gerrors_asked_; }

  GuestRam ram;
  FakeKernel kernel;
  FakeGuest guest;
  Journal journal;
  std::vector<StreamId> vsids;

 private:
  using Duty = EventDuty<FakeSources, StopAt, CountingClock>;

  void start() {
    const EventJournal event = journal.event();
    rings_ = std::make_unique<GuestRings>();
    sources_ = std::make_unique<FakeSources>(kernel, &event);
    EventDutySetup setup;
    setup.memory = &ram.memory();
    setup.page = ram.page();
    setup.vsids = vsids;
    setup.evtq_eventfd = guest.eventfd_of();
    setup.rings = rings_.get();
    duty_ = std::make_unique<Duty>(*sources_, setup, event, StopAt{step_, &left_},
                                   CountingClock{&now_});
    duty_->resume();
    asked_ = false;
  }

  void kill() {
    if (++kills_ < 5) left_ = passing_;
    duty_.reset();
    sources_.reset();
    rings_.reset();
    start();
  }

  void turn() {
    if (duty_->stopped()) kill();  // also in the middle of a recovery
    if (!asked_ && !requests_.empty()) {
      ToEventDuty request = requests_.front();
      if (request.kind == ToEventDuty::Kind::kRaiseGerror &&
          journal.event().gerror_token() == request.token) {
        requests_.pop_front();  // killed after it was raised: CommandDuty compares tokens
      } else {
        rings_->to_event.push(request);
        asked_ = true;
      }
    }
    duty_->round(++now_);
    if (duty_->stopped()) {
      kill();
      return;
    }
    ToCommandDuty answer;
    while (rings_->to_command.pop(answer)) {
      started_ |= requests_.front().kind == ToEventDuty::Kind::kEnableEvtq;
      requests_.pop_front();
      asked_ = false;
    }
  }

  void ask_gerror() {
    const std::uint32_t gerror = ram.page().load(viommu::Reg32::kGerror);
    ram.page().store(viommu::Reg32::kGerrorn, gerror);  // acknowledged: the next one toggles
    if (!requests_.empty()) return;
    ToEventDuty raise{.kind = ToEventDuty::Kind::kRaiseGerror, .token = ++gerrors_asked_};
    raise.bits = viommu::gerror::kCmdq;
    requests_.push_back(raise);
  }

  void guest_turn(std::size_t most) {
    if (guest.interrupted()) guest_wants_ = true;
    if (!guest_wants_) return;
    guest.read_events(most);
    guest_wants_ = !guest.drained();
  }

  std::unique_ptr<GuestRings> rings_;
  std::unique_ptr<FakeSources> sources_;
  std::unique_ptr<Duty> duty_;
  std::optional<JournalStep> step_;
  int passing_;
  int left_;
  std::mt19937_64 random_;
  Nanos now_ = 0;
  std::deque<ToEventDuty> requests_;
  std::uint32_t gerrors_asked_ = 0;
  int kills_ = 0;
  bool asked_ = false;
  bool started_ = false;
  bool guest_wants_ = false;
};

class KilledAt : public testing::TestWithParam<JournalStep> {};

TEST_P(KilledAt, NothingIsLostInSilenceDoubledOrMisplaced) {
  int kills = 0;
  for (int passing = 1; passing <= 40; ++passing) {
    SCOPED_TRACE("passing " + std::to_string(passing));
    KillWorld world(GetParam(), passing, 77 + static_cast<std::uint64_t>(passing));
    world.run(300);
    kills += world.kills();
    audit(world.kernel, world.guest, world.vsids);
    if (HasFatalFailure()) return;
    EXPECT_TRUE(world.guest.drained()) << "an interrupt is missing";
    EXPECT_EQ(world.ram.page().load(viommu::Reg32::kGerror), world.gerrors_asked() % 2);
  }
  EXPECT_GT(kills, 0) << "the step was never passed";
}

std::string name_of(const testing::TestParamInfo<JournalStep>& info) {
  std::string name(step_name(info.param));
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(EventRecovery, KilledAt,
                         testing::Values(JournalStep::kEventPolled, JournalStep::kEventPlaced,
                                         JournalStep::kEventIntent, JournalStep::kEventPublished,
                                         JournalStep::kEventCommitted, JournalStep::kEventDone,
                                         JournalStep::kEventInterrupted,
                                         JournalStep::kEvtqJournalled, JournalStep::kIrqJournalled,
                                         JournalStep::kGerrorJournalled,
                                         JournalStep::kGerrorPublished),
                         name_of);

TEST(EventRecovery, IsCleanWithoutAKillToo) {
  KillWorld world(std::nullopt, 1, 5);
  world.run(2000);
  audit(world.kernel, world.guest, world.vsids);
  EXPECT_TRUE(world.guest.drained());
  EXPECT_EQ(world.kills(), 0);
}

/// Records that poll() takes for good, like a read(2): after a kill they are nowhere.
struct TakingSources : FakeSources {
  static constexpr bool kPollTakes = true;
  TakingSources(FakeKernel& kernel, const EventJournal* resume)
      : FakeSources(kernel, resume), kernel_(&kernel) {}
  std::size_t poll(std::size_t i, std::span<FaultRecord> out) noexcept {
    const std::size_t n = FakeSources::poll(i, out);
    auto& slots = kernel_->ring(i).slots;
    if (n > 0) kernel_->ring(i).cons = slots.size();
    return n;
  }
  FakeKernel* kernel_;
};

TEST(EventRecovery, MakesAnOverflowOfRecordsTakenByAReadThatNeverFinished) {
  for (const JournalStep at : {JournalStep::kEventPolled, JournalStep::kEventPlaced,
                               JournalStep::kEventIntent, JournalStep::kEventDone}) {
    GuestRam ram;
    FakeKernel kernel(1, 64);
    FakeGuest guest(ram, 4);
    Journal journal = *Journal::create("test", 1, 0);
    GuestRings rings;
    EventDutySetup setup;
    setup.memory = &ram.memory();
    setup.page = ram.page();
    setup.vsids = {StreamId{1}};
    setup.rings = &rings;
    Nanos now = 0;
    int left = 1;
    {
      TakingSources sources(kernel, nullptr);
      EventDuty<TakingSources, StopAt, CountingClock> duty(sources, setup, journal.event(),
                                                           StopAt{at, &left}, CountingClock{&now});
      rings.to_event.push({.kind = ToEventDuty::Kind::kEnableEvtq,
                           .token = 1,
                           .base = GuestRam::kQueue,
                           .log2size = 4});
      duty.round(1);
      kernel.produce(0);
      kernel.produce(0);
      duty.round(2);
      ASSERT_TRUE(duty.stopped());
    }
    const EventJournal event = journal.event();
    TakingSources sources(kernel, &event);
    EventDuty<TakingSources, NoHook, CountingClock> duty(sources, setup, event, {},
                                                         CountingClock{&now});
    duty.resume();
    guest.read_events();
    const bool lost = at == JournalStep::kEventPolled || at == JournalStep::kEventPlaced;
    ASSERT_EQ(guest.log.size(), lost ? 1U : 2U) << step_name(at);
    EXPECT_EQ(guest.log[0].overflow, lost) << step_name(at);
    EXPECT_EQ(journal.event().reading(), 0U);
  }
}

}  // namespace
}  // namespace faultline::engine
