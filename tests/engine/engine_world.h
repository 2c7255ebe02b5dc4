// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "tests/engine/command_duty_world.h"
#include "tests/engine/event_world.h"

namespace faultline::engine::engine_world {

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

inline Plan two_shards(std::vector<std::string> guests) {
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

  Result<void> join(TestEngine& engine, const std::optional<GuestPlan>& place = {}) {
    const EventJournal event = journal->event();
    return engine.add_guest(world.spec,
                            SharedSources(faults, mutex, journal->in_use() ? &event : nullptr),
                            FakeSink{&world.kernel}, *journal, place);
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

}  // namespace faultline::engine::engine_world
