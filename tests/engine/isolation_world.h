// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/event_duty.h"
#include "engine/shard.h"
#include "tests/engine/command_duty_world.h"
#include "tests/engine/event_world.h"

// Several guests on one shard, in virtual time: a submission and a record cost what they cost here,
// nothing else does. The shard, the duties and the policies are the engine's own.

namespace faultline::engine::isolation_world {

using command_world::FakeSink;
using command_world::ManualClock;
using command_world::World;
using testing_world::FakeGuest;
using testing_world::FakeSources;
using FaultKernel = testing_world::FakeKernel;

constexpr Nanos kSubmissionNs = 8000;
constexpr Nanos kRecordNs = 50;
constexpr Nanos kRoundNs = 100;
constexpr std::size_t kDevices = 2;

/// Faults whose taking costs time; tells when its first device was asked.
class TimedSources : public FakeSources {
 public:
  TimedSources(FaultKernel& kernel, Nanos& now, std::function<void()> asked)
      : FakeSources(kernel), now_(&now), asked_(std::move(asked)) {}
  std::size_t poll(std::size_t i, std::span<FaultRecord> out) noexcept {
    if (i == 0) asked_();
    const std::size_t n = FakeSources::poll(i, out);
    *now_ += n * kRecordNs;
    return n;
  }

 private:
  Nanos* now_;
  std::function<void()> asked_;
};

using Events = EventDuty<TimedSources, NoHook, ManualClock>;
template <class Policy>
using Commands = CommandDuty<FakeSink, Policy, NoHook, ManualClock>;
using Batching = Commands<merge::BatchUntilSync>;
using Forwarding = Commands<merge::ForwardEach>;
using CoreShard = Shard<Events, Batching, Forwarding>;

/// One guest with its driver, its kernel and its two duties.
struct Guest {
  Guest(Nanos& now, bool forwards, const Budget& budget, std::function<void()> asked)
      : world(kDevices),
        faults(kDevices, 256),
        driver(*world.memory, world.page, Gpa{World::kEvtq}, World::kEvtqLog2),
        sink{&world.kernel},
        sources(faults, now, std::move(asked)) {
    world.spec.budget = budget;
    EventDutySetup setup;
    setup.memory = &*world.memory;
    setup.page = world.page;
    setup.mode = world.spec.mode;
    for (const DeviceSpec& d : world.spec.devices) setup.vsids.push_back(d.vsid);
    vsids = setup.vsids;
    setup.evtq_eventfd = driver.eventfd_of();
    setup.rings = &*world.rings;
    setup.budget = budget;
    events = std::make_unique<Events>(sources, setup, world.journal->event(), NoHook{},
                                      ManualClock{&now});
    const ManualClock clock{&now};
    if (forwards) {
      forwarding =
          std::make_unique<Forwarding>(world.setup(), sink, merge::ForwardEach{}, NoHook{}, clock);
    } else {
      batching =
          std::make_unique<Batching>(world.setup(), sink, merge::BatchUntilSync{}, NoHook{}, clock);
    }
    world.journal->set_in_use();
  }
  [[nodiscard]] const CommandCounters& commands() const {
    return batching ? batching->counters() : forwarding->counters();
  }
  void read_events() {
    if (driver.interrupted()) driver.read_events();
  }

  World world;
  FaultKernel faults;
  FakeGuest driver;
  FakeSink sink;
  TimedSources sources;
  std::vector<StreamId> vsids;
  std::unique_ptr<Events> events;
  std::unique_ptr<Batching> batching;
  std::unique_ptr<Forwarding> forwarding;
  std::size_t foreign = 0;        ///< submissions of others since it was asked for faults
  std::size_t worst_foreign = 0;  ///< of these between two askings
  Nanos asked_at = 0;
  Nanos worst_wait = 0;  ///< between two askings, ns
};

/// A core with guests on it.
class Core {
 public:
  explicit Core(bool rule = true) {
    if (!rule) shard.waive_submission_rule();
  }

  Guest& add(const Budget& budget = {}, bool forwards = false) {
    const std::size_t index = guests.size();
    guests.push_back(
        std::make_unique<Guest>(now, forwards, budget, [this, index] { asked(index); }));
    Guest& guest = *guests.back();
    guest.world.kernel.on_submit = [this, index](std::span<const Operation>) {
      now += kSubmissionNs;
      for (std::size_t i = 0; i < guests.size(); ++i) {
        if (i != index) ++guests[i]->foreign;
      }
    };
    EXPECT_TRUE(shard.add(*guest.events));
    EXPECT_TRUE(guest.batching ? shard.add(*guest.batching) : shard.add(*guest.forwarding));
    return guest;
  }

  std::size_t round() {
    const std::size_t work = shard.round(now += kRoundNs);
    for (auto& guest : guests) guest->world.serve_cold(guest->sink);
    return work;
  }
  bool until(const std::function<bool()>& done, int rounds = 4000) {
    for (int i = 0; i < rounds && !done(); ++i) round();
    return done();
  }
  /// As Linux does at probe.
  bool probe(Guest& guest) {
    World& w = guest.world;
    w.write_strtab_registers();
    w.write_cmdq_registers();
    w.write_cr0(8);
    if (!until([&] { return w.cr0ack() == 8; })) return false;
    w.write_evtq_registers();
    w.write_cr0(0xc);
    if (!until([&] { return w.cr0ack() == 0xc; })) return false;
    w.page.release(viommu::Reg32::kIrqCtrl, 5);
    if (!until([&] { return w.page.acquire(viommu::Reg32::kIrqCtrlAck) == 5; })) return false;
    w.write_cr0(0xd);
    return until([&] { return w.cr0ack() == 0xd; });
  }
  bool probe_all() {
    const bool all = std::ranges::all_of(guests, [this](auto& guest) { return probe(*guest); });
    for (auto& guest : guests) {
      guest->foreign = guest->worst_foreign = 0;
      guest->asked_at = now;
      guest->worst_wait = 0;
    }
    return all;
  }
  /// What one round may take: one submission, and a burst of every device.
  [[nodiscard]] Nanos longest_round() const {
    return kSubmissionNs + kRoundNs + guests.size() * kDevices * Events::kBurst * kRecordNs;
  }

  Nanos now = 1'000'000;
  std::vector<std::unique_ptr<Guest>> guests;
  CoreShard shard;

 private:
  void asked(std::size_t index) {
    Guest& guest = *guests[index];
    guest.worst_foreign = std::max(guest.worst_foreign, std::exchange(guest.foreign, 0));
    guest.worst_wait = std::max(guest.worst_wait, now - std::exchange(guest.asked_at, now));
  }
};

}  // namespace faultline::engine::isolation_world
