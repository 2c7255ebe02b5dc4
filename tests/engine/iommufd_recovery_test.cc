// SPDX-License-Identifier: BSD-3-Clause
// An EventDuty on the event files of mainline's iommufd, killed at every step: reads take records
// of several devices away for good, and page requests have to be answered whatever happens.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "engine/event_duty.h"
#include "kernel/iommufd/sources.h"
#include "tests/engine/event_world.h"
#include "tests/kernel/iommufd_files.h"

namespace faultline::engine {
namespace {

using namespace testing_world;
using Files = faultline::testing::EventFiles;
using Sources = iommufd::EventSources<Files>;

class IommufdWorld {
 public:
  static constexpr std::size_t kDevices = 3;
  static constexpr unsigned kLog2Size = 5;
  static constexpr std::uint64_t kPages = std::uint64_t{1} << 40;  ///< where requests are

  IommufdWorld(std::optional<JournalStep> step, int passing, std::uint64_t seed)
      : guest(ram, kLog2Size),
        journal(*Journal::create("test", kDevices, 0)),
        step_(step),
        passing_(passing),
        left_(passing),
        random_(seed) {
    files.depth = 12;
    files.sequence = uapi::kIommuVeventqLastSequence - 40;  // it wraps in every run
    first_ = files.sequence;
    for (std::uint32_t i = 0; i < kDevices; ++i) vsids.push_back(StreamId{0x40 + i});
    for (std::size_t i = 0; i < kDevices; ++i) journal.event().set_position(i, {first_, 0});
    start();
    switch_on();
  }

  void run(int rounds) {
    for (int i = 0; i < rounds; ++i) {
      const std::size_t faults = random_() % 8 == 0 ? random_() % 40 : random_() % 4;
      for (std::size_t f = 0; f < faults; ++f) fault();
      if (random_() % 5 == 0) request();
      if (random_() % 16 == 0) files.most_read = 40 + random_() % 400;
      turn();
      if (random_() % 3 != 0) guest_turn(random_() % 4 == 0 ? random_() % 5 : SIZE_MAX);
    }
    step_.reset();
    settle();
    fault();  // the gap before it says what killed reads took
    settle();
  }

  void check() {
    std::erase_if(guest.log, [](const auto& e) { return !e.overflow && e.addr >= kPages; });
    audit(produced, guest, vsids);
    std::uint64_t next = 0;
    for (std::size_t i = 0; i < kDevices; ++i) {
      next = std::max(next, journal.event().position(i).next);
    }
    EXPECT_EQ(next - first_, files.produced) << "events that nobody accounted for";
    EXPECT_TRUE(files.groups.empty());
    EXPECT_TRUE(files.open_cookies.empty())
        << files.open_cookies.size() << " devices wait for ever";
    EXPECT_EQ(files.answered.size(), requests_made) << "each group once";
    EXPECT_EQ(journal.event().reading(), 0U);
    for (std::size_t slot = 0; slot < kJournalCookies; ++slot) {
      EXPECT_EQ(journal.event().request(slot).valid, 0U);
    }
    EXPECT_TRUE(guest.drained());
  }

  [[nodiscard]] int kills() const { return kills_; }

  Files files;
  GuestRam ram;
  FakeGuest guest;
  Journal journal;
  std::vector<StreamId> vsids;
  std::vector<std::vector<std::uint64_t>> produced{kDevices};
  std::size_t requests_made = 0;

 private:
  using Duty = EventDuty<Sources, StopAt, CountingClock>;

  void fault() {
    const std::size_t device = random_() % kDevices;
    produced[device].push_back(++serial_ << 12U);
    files.produce(vsids[device].value, serial_ << 12U);
  }
  void request() {
    const auto device = static_cast<std::uint32_t>(random_() % kDevices);
    std::vector<Files::Page> pages(1 + random_() % 3);
    for (auto& page : pages) {
      page = {device, static_cast<std::uint32_t>(requests_made), 1, kPages + (++serial_ << 12U)};
    }
    ++requests_made;
    files.request(std::move(pages));
  }

  void start() {
    const EventJournal event = journal.event();
    std::vector<SourcePosition> positions;
    for (std::size_t i = 0; i < kDevices; ++i) positions.push_back(event.resume_position(i));
    iommufd::SourceFiles setup;
    for (std::uint32_t i = 0; i < kDevices; ++i) setup.devices.push_back({vsids[i], i});
    setup.veventq = Files::kVeventq;
    setup.fault_queue = Files::kFaultQueue;
    rings_ = std::make_unique<GuestRings>();
    sources_.emplace(*Sources::open(files, setup, iommufd::WatchChoice::kAuto, positions));
    EventDutySetup duty;
    duty.memory = &ram.memory();
    duty.page = ram.page();
    duty.vsids = vsids;
    duty.evtq_eventfd = guest.eventfd_of();
    duty.rings = rings_.get();
    duty_ =
        std::make_unique<Duty>(*sources_, duty, event, StopAt{step_, &left_}, CountingClock{&now_});
    duty_->resume();
  }
  void switch_on() {
    rings_->to_event.push(
        {.kind = ToEventDuty::Kind::kIrqControl, .token = 1, .bits = viommu::irq_ctrl::kEvtq});
    rings_->to_event.push({.kind = ToEventDuty::Kind::kEnableEvtq,
                           .token = 2,
                           .base = GuestRam::kQueue,
                           .log2size = kLog2Size});
    duty_->round(++now_);
    ToCommandDuty answer;
    while (rings_->to_command.pop(answer)) {
    }
  }
  void turn() {
    while (duty_->stopped()) kill();  // also in the middle of a recovery
    duty_->round(++now_);
    while (duty_->stopped()) kill();
  }
  void kill() {
    if (++kills_ < 5) left_ = passing_;
    duty_.reset();
    sources_.reset();
    rings_.reset();
    start();
  }
  void settle() {
    for (int i = 0; i < 64; ++i) {
      turn();
      guest_turn(SIZE_MAX);
    }
  }

  /// Reads events, and answers stalled ones as a driver does, some late, some twice.
  void guest_turn(std::size_t most) {
    if (guest.interrupted()) wants_ = true;
    if (wants_) {
      guest.read_events(most);
      wants_ = !guest.drained();
    }
    for (; answered_ < guest.log.size(); ++answered_) {
      const auto& entry = guest.log[answered_];
      if (entry.overflow || entry.addr < kPages) continue;
      answers_.push_back({entry.sid - vsids[0].value,
                          static_cast<std::uint32_t>(entry.second & 0xffff),
                          random_() % 4 != 0 ? 1U : 0U, 0});
    }
    while (!answers_.empty() && rings_->responses.push(answers_.back())) {
      if (random_() % 8 == 0) rings_->responses.push(answers_.back());
      answers_.pop_back();
    }
  }

  std::unique_ptr<GuestRings> rings_;
  std::optional<Sources> sources_;
  std::unique_ptr<Duty> duty_;
  std::optional<JournalStep> step_;
  int passing_;
  int left_;
  std::mt19937_64 random_;
  Nanos now_ = 0;
  std::uint64_t first_ = 0;
  std::uint64_t serial_ = 0;
  std::size_t answered_ = 0;
  std::vector<PageResponse> answers_;
  int kills_ = 0;
  bool wants_ = false;
};

class IommufdKilledAt : public ::testing::TestWithParam<JournalStep> {};

TEST_P(IommufdKilledAt, NothingIsLostInSilenceDoubledOrLeftWithoutAnAnswer) {
  int kills = 0;
  for (int passing = 1; passing <= 30; ++passing) {
    const std::uint64_t seed = 4100 + static_cast<std::uint64_t>(passing);
    SCOPED_TRACE("passing " + std::to_string(passing) + ", seed " + std::to_string(seed));
    IommufdWorld world(GetParam(), passing, seed);
    world.run(200);
    kills += world.kills();
    world.check();
    if (HasFailure()) return;
  }
  EXPECT_GT(kills, 0) << "the step was never passed";
}

std::string name_of(const ::testing::TestParamInfo<JournalStep>& info) {
  std::string name(step_name(info.param));
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(EventRecovery, IommufdKilledAt,
                         ::testing::Values(JournalStep::kEventPolled, JournalStep::kEventPlaced,
                                           JournalStep::kEventIntent, JournalStep::kEventPublished,
                                           JournalStep::kEventCommitted, JournalStep::kEventDone,
                                           JournalStep::kEventInterrupted),
                         name_of);

TEST(IommufdRecovery, IsCleanWithoutAKillToo) {
  IommufdWorld world(std::nullopt, 1, 7);
  world.run(2000);
  world.check();
  EXPECT_EQ(world.kills(), 0);
}

}  // namespace
}  // namespace faultline::engine
