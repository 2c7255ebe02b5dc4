// SPDX-License-Identifier: BSD-3-Clause
#include "engine/page_requests.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <vector>

#include "engine/event_duty.h"
#include "tests/engine/event_world.h"

namespace faultline::engine {
namespace {

using namespace testing_world;

/// A source of page requests of one device.
struct PageSources {
  static constexpr bool kPollTakes = true;
  [[nodiscard]] std::size_t size() const noexcept { return 1; }
  std::size_t poll(std::size_t, std::span<FaultRecord> out) noexcept {
    std::size_t n = 0;
    while (n < out.size() && !pending.empty()) {
      out[n++] = pending.front();
      pending.erase(pending.begin());
    }
    return n;
  }
  [[nodiscard]] SourcePosition position(std::size_t) const noexcept { return {}; }
  int commit(std::size_t) noexcept { return 0; }
  SourceLoss take_loss(std::size_t) noexcept { return {}; }
  std::size_t housekeeping(Nanos) noexcept { return 0; }
  [[nodiscard]] bool holds() const noexcept { return false; }
  std::size_t answer(std::span<const PageAnswer> answers) noexcept {
    for (const PageAnswer& answer : answers) answered.push_back(answer);
    return answers.size();
  }
  std::size_t answer_taken() noexcept {
    ++swept;
    return 0;
  }
  void request(std::uint32_t cookie, std::uint32_t group, std::uint64_t addr, bool last = true) {
    FaultRecord record;
    record.form = FaultRecord::Form::kPageRequest;
    record.perm = FaultRecord::kWrite;
    record.has_perm = record.has_addr = true;
    record.addr = addr;
    record.group = group;
    record.cookie = cookie;
    record.last_page = last;
    pending.push_back(record);
  }
  std::vector<FaultRecord> pending;
  std::vector<PageAnswer> answered;
  int swept = 0;
};
static_assert(kAnswersPages<PageSources>);

struct World {
  explicit World(unsigned log2size = 5) : guest(ram, log2size), log2size_(log2size) { start(); }
  void start(bool resume = false) {
    rings = std::make_unique<GuestRings>();
    EventDutySetup setup;
    setup.memory = &ram.memory();
    setup.page = ram.page();
    setup.vsids = {StreamId{0x30}};
    setup.rings = rings.get();
    duty = std::make_unique<EventDuty<PageSources, NoHook, CountingClock>>(
        sources, setup, journal.event(), NoHook{}, CountingClock{&now});
    if (resume) duty->resume();
  }
  void enable() {
    rings->to_event.push({.kind = ToEventDuty::Kind::kEnableEvtq,
                          .token = 1,
                          .base = GuestRam::kQueue,
                          .log2size = log2size_});
    round();
  }
  void round() { duty->round(++now); }
  void answer(std::uint32_t group, bool retry, bool all = false) {
    rings->responses.push({0, group, retry ? 1U : 0U, all ? 1U : 0U});
    round();
  }
  [[nodiscard]] const EventDeviceCounters& counters() const { return duty->device_counters(0); }

  GuestRam ram;
  FakeGuest guest;
  Journal journal = *Journal::create("test", 1, 0);
  std::unique_ptr<GuestRings> rings;
  PageSources sources;
  Nanos now = 0;
  std::unique_ptr<EventDuty<PageSources, NoHook, CountingClock>> duty;
  unsigned log2size_;
};

TEST(PageRequests, BecomeStalledEventsAndTheGuestsAnswersReachTheKernel) {
  World w;
  w.enable();
  w.sources.request(11, 0x5, 0x1000);
  w.sources.request(12, 0x6, 0x2000);
  w.round();
  w.guest.read_events();
  ASSERT_EQ(w.guest.log.size(), 2U);
  EXPECT_EQ(w.guest.log[0].sid, 0x30U);
  EXPECT_EQ(w.guest.log[0].addr, 0x1000U);
  const auto* event =
      static_cast<const std::uint64_t*>(w.ram.memory().pointer(Gpa{GuestRam::kQueue}, 32));
  EXPECT_EQ(event[0], 0x30'0000'0010U);
  EXPECT_EQ(event[1], std::uint64_t{2} << 40U | 0x8000'0005U) << "STALL, STAG 5, a write";
  EXPECT_TRUE(w.sources.answered.empty());
  w.answer(6, true);
  w.answer(5, false);
  ASSERT_EQ(w.sources.answered.size(), 2U);
  EXPECT_EQ(w.sources.answered[0].cookie, 12U);
  EXPECT_TRUE(w.sources.answered[0].retry);
  EXPECT_EQ(w.sources.answered[1].cookie, 11U);
  EXPECT_FALSE(w.sources.answered[1].retry);
  EXPECT_EQ(w.counters().pages_answered, 2U);
}

TEST(PageRequests, AreAnsweredOnceHoweverOftenTheGuestAnswers) {
  World w;
  w.enable();
  w.sources.request(11, 5, 0x1000);
  w.round();
  w.answer(5, true);
  w.answer(5, true);
  w.answer(99, true);
  EXPECT_EQ(w.sources.answered.size(), 1U);
  EXPECT_EQ(w.counters().answers_stale, 2U);
}

TEST(PageRequests, OfAStreamAreAllTerminatedAtOnce) {
  World w;
  w.enable();
  for (std::uint32_t i = 0; i < 5; ++i) w.sources.request(i, i, 0x1000);
  w.round();
  w.answer(0, false, true);
  ASSERT_EQ(w.sources.answered.size(), 5U);
  for (const PageAnswer& answer : w.sources.answered) EXPECT_FALSE(answer.retry);
}

TEST(PageRequests, AreOneEventForAGroupOfPages) {
  World w;
  w.enable();
  w.sources.request(11, 5, 0x1000, false);
  w.sources.request(11, 5, 0x2000, false);
  w.sources.request(11, 5, 0x3000);
  w.round();
  w.guest.read_events();
  ASSERT_EQ(w.guest.log.size(), 1U);
  EXPECT_EQ(w.guest.log[0].addr, 0x3000U);
  EXPECT_EQ(w.counters().pages_folded, 2U);
}

TEST(PageRequests, TryAgainWhereTheGuestsQueueIsFullAndRaiseNoOverflow) {
  World w(2);
  w.enable();
  for (std::uint32_t i = 0; i < 6; ++i) w.sources.request(i, i, 0x1000);
  w.round();
  ASSERT_EQ(w.sources.answered.size(), 2U);
  EXPECT_EQ(w.sources.answered[0].cookie, 4U);
  EXPECT_TRUE(w.sources.answered[0].retry);
  EXPECT_EQ(w.counters().pages_retried, 2U);
  EXPECT_EQ(w.duty->counters().overflows, 0U);
}

TEST(PageRequests, TryAgainWhereTheJournalHasNoRoomForMore) {
  World w(8);
  w.enable();
  for (std::uint32_t i = 0; i < kJournalCookies + 3; ++i) w.sources.request(i, i, 0x1000);
  for (int i = 0; i < 5; ++i) w.round();
  EXPECT_EQ(w.counters().page_requests, kJournalCookies);
  EXPECT_EQ(w.sources.answered.size(), 3U);
}

TEST(PageRequests, OfADetachedDeviceDoNotTakeTheAnswerOfLaterOnes) {
  World w;
  w.enable();
  w.sources.request(1, 5, 0x1000);
  w.round();
  w.sources.request(1, 6, 0x2000);  // the kernel answered group 5: its cookie is free again
  w.round();
  w.answer(5, false);
  EXPECT_TRUE(w.sources.answered.empty());
  w.answer(6, true);
  ASSERT_EQ(w.sources.answered.size(), 1U);
  EXPECT_TRUE(w.sources.answered[0].retry);
  EXPECT_EQ(w.counters().pages_void, 1U);
}

TEST(PageRequests, FailWhileNobodyListensToEvents) {
  World w;
  w.sources.request(11, 5, 0x1000);
  w.round();
  ASSERT_EQ(w.sources.answered.size(), 1U);
  EXPECT_FALSE(w.sources.answered[0].retry);
  EXPECT_EQ(w.counters().pages_failed, 1U);
}

TEST(PageRequests, LeftOpenByADeadEngineTryAgain) {
  World w;
  w.enable();
  w.sources.request(11, 5, 0x1000);
  w.round();
  w.start(true);
  ASSERT_EQ(w.sources.answered.size(), 1U);
  EXPECT_EQ(w.sources.answered[0].cookie, 11U);
  EXPECT_TRUE(w.sources.answered[0].retry);
  EXPECT_EQ(w.sources.swept, 0) << "no read was under way";
  w.answer(5, true);
  EXPECT_EQ(w.counters().answers_stale, 1U);
}

TEST(PageRequests, TakenByAReadThatNeverFinishedTryAgain) {
  World w;
  w.enable();
  w.journal.event().set_reading(1);
  w.start(true);
  EXPECT_EQ(w.sources.swept, 1);
  EXPECT_EQ(w.journal.event().reading(), 0U);
}

}  // namespace
}  // namespace faultline::engine
