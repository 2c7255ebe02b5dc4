// SPDX-License-Identifier: BSD-3-Clause
// The engine of one guest on a Host: both duties, driven round by round.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "engine/command_duty.h"
#include "engine/event_duty.h"
#include "engine/merge/batch_until_sync.h"
#include "engine/merge/forward_each.h"
#include "engine/merge/merge.h"
#include "engine/messages.h"
#include "engine/snapshot.h"
#include "kernel/base/clock.h"
#include "kernel/iommufd/sink.h"
#include "kernel/iommufd/sources.h"
#include "tests/vm/vm_host.h"

namespace faultline::vm {

template <class Policy>
Policy make_policy(const SinkCaps& caps, bool only_4k) {
  if constexpr (std::same_as<Policy, merge::Merge>) {
    merge::MergeSetup setup;
    setup.caps = caps;
    setup.sole_granule = only_4k;
    return merge::Merge(setup);
  } else {
    return Policy{};
  }
}

/// Sources and sink of the real kernel, the real duties, no EAL: the caller makes the rounds.
///
/// thread   one
template <Syscalls Sys, class Policy, engine::StepHook Hook = engine::NoHook>
class Engine {
 public:
  using Sources = iommufd::EventSources<Sys>;
  using Sink = iommufd::Sink<Sys>;
  using EventDuty = engine::EventDuty<Sources, Hook>;
  using CommandDuty = engine::CommandDuty<Sink, Policy, Hook>;

  /// Fresh, or where the journal says that an engine stopped.
  explicit Engine(Host<Sys>& host, Hook hook = {}) : host_(&host), sink_(*host.iommu) {
    iommufd::SourceFiles files;
    for (std::size_t i = 0; i < kDevices; ++i) {
      files.devices.push_back({host.iommu->vsid(i), host.iommu->device(i).id()});
    }
    files.veventq = host.iommu->events_fd();
    files.fault_queue = host.iommu->faults_fd();
    std::vector<SourcePosition> positions;
    engine::Journal& journal = *host.journal;
    for (std::size_t i = 0; journal.in_use() && i < kDevices; ++i) {
      positions.push_back(journal.event().resume_position(i));
    }
    auto sources = Sources::open(host.sys, files, iommufd::WatchChoice::kAuto, positions);
    if (!sources) std::abort();
    sources_.emplace(std::move(*sources));
    engine::EventDutySetup events;
    events.memory = &*host.engine_memory;
    events.page = host.page;
    events.evtq_log2 = host.features.evtq_log2;
    for (const auto& d : host.spec.devices) events.vsids.push_back(d.vsid);
    events.rings = &rings_;
    event_.emplace(*sources_, std::move(events), journal.event(), hook);
    if (journal.in_use()) event_->resume();
    const engine::CommandDutySetup commands{.guest = 0,
                                            .spec = &host.spec,
                                            .memory = &*host.engine_memory,
                                            .page = host.page,
                                            .features = host.features,
                                            .rings = &rings_,
                                            .journal = &journal};
    command_ = std::make_unique<CommandDuty>(
        commands, sink_, make_policy<Policy>(sink_.caps(), host.features.only_4k()), hook);
    journal.set_in_use();
  }

  std::size_t round() {
    const Nanos now = monotonic_ns();
    std::size_t work = event_->round(now) + command_->round(now);
    engine::Stage1Job job;
    while (rings_.to_cold.pop(job)) {
      ++work;
      const SubmitResult result = sink_.set_stage1(job.device, job.config);
      (void)rings_.from_cold.push({job.guest, job.device, result});
    }
    return work;
  }
  void rounds(std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) round();
  }

  [[nodiscard]] EventDuty& events() { return *event_; }
  [[nodiscard]] CommandDuty& commands() { return *command_; }
  [[nodiscard]] Sources& sources() { return *sources_; }
  [[nodiscard]] engine::CommandCounters counters() const {
    engine::CommandCounters c;
    engine::copy_counters(c, command_->counters());
    return c;
  }

 private:
  Host<Sys>* host_;
  engine::GuestRings rings_;
  std::optional<Sources> sources_;
  Sink sink_;
  std::optional<EventDuty> event_;
  std::unique_ptr<CommandDuty> command_;
};

/// A host, an engine on it and a guest whose driver has probed; every device translates.
template <Syscalls Sys, class Policy>
class World {
 public:
  explicit World(const HostOptions& options = {}) : host(options) {
    if (!host.error().empty()) return;
    engine.emplace(host);
    if (auto ok = host.driver->probe([this] { engine->round(); }); !ok) {
      error_ = ok.error().message();
      return;
    }
    host.make_tables();
    run({guest::cfgi_all()});
  }

  [[nodiscard]] std::string error() const { return host.error().empty() ? error_ : host.error(); }

  /// Commands and a CMD_SYNC, waited for.
  void run(const std::vector<guest::Command>& commands) {
    const guest::Position sync = queue(commands, true);
    while (!host.driver->commands().done(sync)) {
      engine->round();
      host.driver->handle_gerror();
      host.driver->commands().poll();
    }
  }
  /// Commands, with a CMD_SYNC behind them or not; nobody waits.
  guest::Position queue(const std::vector<guest::Command>& commands, bool sync) {
    guest::CommandQueue& q = host.driver->commands();
    for (const guest::Command& c : commands) {
      while (q.room() < 2) {
        q.publish();
        engine->round();
        q.poll();
      }
      q.push(c);
    }
    const guest::Position at = sync ? q.push_sync(false) : guest::Position{};
    q.publish();
    return at;
  }

  using Dma = typename Host<Sys>::Dma;
  void dma(const std::vector<Dma>& requests) {
    host.dma(requests, [this] { engine->round(); });
  }
  /// One 4-byte DMA of every device to kIova.
  void dma_all() {
    std::vector<Dma> requests(kDevices);
    for (std::size_t i = 0; i < kDevices; ++i) {
      requests[i].device = i;
      host.clean(host.devices[i].page);
      host.clean(host.devices[i].other);
    }
    dma(requests);
  }

  /// Rounds until the guest has read `n` events in all, then as many as bring anything more.
  void await_events(std::size_t n) {
    while (host.events.size() < n) {
      engine->round();
      host.read_events();
    }
    settle();
  }
  /// Rounds until nothing has come for a while.
  void settle() {
    for (int i = 0; i < 2000; ++i) {
      engine->round();
      host.read_events();
    }
  }

  Host<Sys> host;
  std::optional<Engine<Sys, Policy>> engine;

 private:
  std::string error_;
};

}  // namespace faultline::vm
