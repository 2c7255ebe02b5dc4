// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "engine/event_duty.h"
#include "engine/shard.h"
#include "tests/engine/event_world.h"
#include "tests/support/allocations.h"

namespace faultline::engine {
namespace {

using namespace testing_world;

/// Three records every fifteenth poll, no memory of its own; position = records handed out.
class EndlessSources {
 public:
  [[nodiscard]] std::size_t size() const noexcept { return 2; }
  std::size_t poll(std::size_t i, std::span<FaultRecord> out) noexcept {
    if (++polls_ % 15 != 0) return 0;
    for (std::size_t k = 0; k < 3; ++k) {
      out[k].form = FaultRecord::Form::kReason;
      out[k].reason = FaultReason::kPermission;
      out[k].addr = ++given_[i];
      out[k].has_addr = true;
    }
    return 3;
  }
  [[nodiscard]] SourcePosition position(std::size_t i) const noexcept { return {given_[i], 0}; }
  int commit(std::size_t) noexcept { return 0; }
  SourceLoss take_loss(std::size_t) noexcept { return {}; }
  std::size_t housekeeping(Nanos) noexcept { return 0; }

 private:
  std::uint64_t polls_ = 0;
  std::uint64_t given_[2] = {};
};

EventDutySetup setup_of(GuestRam& ram, GuestRings& rings, FakeGuest& guest, RegisterMode mode) {
  EventDutySetup setup;
  setup.memory = &ram.memory();
  setup.page = ram.page();
  setup.mode = mode;
  setup.vsids = {StreamId{1}, StreamId{2}};
  setup.evtq_eventfd = guest.eventfd_of();
  setup.rings = &rings;
  return setup;
}

void enable(GuestRings& rings, unsigned log2size) {
  ASSERT_TRUE(rings.to_event.push(
      {.kind = ToEventDuty::Kind::kIrqControl, .token = 1, .bits = viommu::irq_ctrl::kEvtq}));
  ASSERT_TRUE(rings.to_event.push({.kind = ToEventDuty::Kind::kEnableEvtq,
                                   .token = 2,
                                   .base = GuestRam::kQueue,
                                   .log2size = log2size}));
}

TEST(EventDutyHot, AllocatesNothingInAMillionRounds) {
  GuestRam ram;
  FakeGuest guest(ram, 8);
  GuestRings rings;
  Journal journal = *Journal::create("test", 2, 0);
  EndlessSources sources;
  using Duty = EventDuty<EndlessSources>;
  Duty duty(sources, setup_of(ram, rings, guest, RegisterMode::kTrapped), journal.event());
  Shard<Duty> shard;
  ASSERT_TRUE(shard.add(duty));
  enable(rings, 8);
  const std::size_t before = testing_support::allocations();
  for (Nanos now = 1; now <= 1'000'000; ++now) {
    const std::size_t work = shard.round(now);
    shard.account(work, 1);
    if (now % 2048 == 0) {  // a guest that keeps up now and then: overflows, too
      const std::uint32_t prod = ram.page().acquire(viommu::Reg32::kEvtqProd);
      ram.page().store(viommu::Reg32::kEvtqCons, prod);
    }
  }
  EXPECT_EQ(testing_support::allocations() - before, 0U);
  EXPECT_GT(duty.counters().overflows, 0U);
  EXPECT_GT(duty.device_counters(0).delivered, 50'000U);
}

/// The guest's own thread reads its queue only when it was interrupted; not one event may wait for
/// ever in the queue.
void interrupts_suffice(RegisterMode mode) {
  constexpr std::size_t kFaults = 3000;
  GuestRam ram;
  FakeKernel kernel(2, 1 << 20);
  FakeGuest guest(ram, 10);
  GuestRings rings;
  Journal journal = *Journal::create("test", 2, 0);
  FakeSources sources(kernel);
  EventDuty<FakeSources> duty(sources, setup_of(ram, rings, guest, mode), journal.event());
  enable(rings, 10);
  std::atomic<std::size_t> taken{0};
  std::atomic<bool> give_up{false};
  std::thread driver([&] {
    while (taken < kFaults && !give_up) {
      if (!guest.interrupted()) {
        std::this_thread::yield();
        continue;
      }
      do {
        guest.read_events();
      } while (!guest.drained());
      taken = guest.log.size();
    }
  });
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  for (std::size_t i = 0; taken < kFaults && std::chrono::steady_clock::now() < until; ++i) {
    if (i < kFaults && i - taken < 500) {
      kernel.produce(i % 2);
    } else if (i < kFaults) {
      --i;
    }
    duty.round(i);
    if (i % 7 == 0) std::this_thread::yield();
  }
  give_up = true;
  driver.join();
  EXPECT_EQ(taken, kFaults) << "an event was left in the queue without an interrupt";
  const std::vector<StreamId> vsids = {StreamId{1}, StreamId{2}};
  audit(kernel, guest, vsids);
}

TEST(EventDutyHot, InterruptsAnExitlessGuestForEverythingItHasToRead) {
  interrupts_suffice(RegisterMode::kExitless);
}

TEST(EventDutyHot, InterruptsATrappedGuestForEverythingItHasToRead) {
  interrupts_suffice(RegisterMode::kTrapped);
}

}  // namespace
}  // namespace faultline::engine
