// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <sched.h>
#include <time.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <tuple>
#include <utility>
#include <variant>

#include "engine/cold_lane.h"
#include "engine/command_duty.h"
#include "engine/event_duty.h"
#include "engine/guest_spec.h"
#include "engine/journal.h"
#include "engine/merge/batch_until_sync.h"
#include "engine/merge/forward_each.h"
#include "engine/merge/merge.h"
#include "engine/merge/plan_audit.h"
#include "engine/merge/planted.h"
#include "engine/messages.h"
#include "engine/shard.h"
#include "engine/snapshot.h"
#include "engine/source_traits.h"
#include "engine/viommu/feature_set.h"
#include "engine/viommu/guest_memory.h"
#include "engine/viommu/registers.h"
#include "kernel/backend.h"

namespace faultline::engine {

/// Errors that the engine makes on purpose, each of which an audit has to find.
enum class Plant : std::uint8_t { kNone, kDropTlbi, kEarlySync, kLoseRecord, kDuplicateRecord };

/// The types of duty that an Engine<Sources, Sink, Hook> runs. One type per policy: the choice is
/// made when a guest is added, the loop is monomorphic.
template <class Sources, class Sink, class Hook>
struct DutyTypes {
  using Event = EventDuty<Sources, Hook>;
  template <class Policy>
  using Command = CommandDuty<Sink, Policy, Hook>;

  template <class... Policies>
  struct Of {
    using Commands = std::variant<std::unique_ptr<Command<Policies>>...>;
    using CoreShard = Shard<Event, Command<Policies>...>;
  };
  using All = Of<merge::Merge, merge::BatchUntilSync, merge::ForwardEach,
                 merge::DropTlbi<merge::Merge>, merge::DropTlbi<merge::BatchUntilSync>,
                 merge::EarlySync<merge::Merge>, merge::EarlySync<merge::BatchUntilSync>>;
  using Commands = typename All::Commands;
  using CoreShard = typename All::CoreShard;
};

/// One guest inside the engine: its memory, its rings, its two duties and its cold work.
///
/// thread  control path; the duties belong to their shards, serve_cold() to the control thread
template <FaultSourceSet Sources, InvalidationSink Sink, StepHook Hook>
class Guest {
 public:
  using Types = DutyTypes<Sources, Sink, Hook>;

  Guest(GuestSpec spec, Sources sources, Sink sink, viommu::GuestMemory memory,
        viommu::RegisterPage page, viommu::Features features, Journal& journal)
      : spec_(std::move(spec)),
        sources_(std::move(sources)),
        sink_(std::move(sink)),
        memory_(std::move(memory)),
        page_(page),
        features_(features),
        journal_(&journal) {}
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;

  /// For shards that sleep: the duties wake each other. returns  false: no descriptors left
  bool hang_bell() noexcept { return rings_.event_bell.hang(); }

  /// Make the duties: fresh, or where the journal says that an engine stopped.
  ///
  /// index   of this guest in the engine
  void make_duties(std::uint32_t index, Plant plant, const Hook& hook) {
    if (!journal_->in_use()) {
      for (std::size_t i = 0; i < sources_.size(); ++i) {
        journal_->event().set_position(i, sources_.position(i));
      }
    }
    EventDutySetup setup;
    setup.memory = &memory_;
    setup.page = page_;
    setup.mode = spec_.mode;
    setup.evtq_log2 = features_.evtq_log2;
    for (const DeviceSpec& device : spec_.devices) setup.vsids.push_back(device.vsid);
    setup.evtq_eventfd = spec_.evtq_eventfd;
    setup.gerror_eventfd = spec_.gerror_eventfd;
    setup.routes = spec_.routes;
    setup.rings = &rings_;
    setup.budget = spec_.budget;
    event_ = std::make_unique<typename Types::Event>(sources_, std::move(setup), journal_->event(),
                                                     hook);
    if (plant == Plant::kLoseRecord) event_->plant(EventPlant::kLoseRecord);
    if (plant == Plant::kDuplicateRecord) event_->plant(EventPlant::kDuplicateRecord);
    // First: it settles the event queue's PROD, which the other one reads.
    if (journal_->in_use()) event_->resume();
    make_command_duty(index, plant, hook);
    journal_->set_in_use();
  }

  /// From the next rounds of its duties on.
  void set_budget(const Budget& budget) noexcept {
    spec_.budget = budget;
    event_->set_budget(budget);
    std::visit([&](auto& duty) { duty->set_budget(budget); }, command_);
  }

  /// Nothing new is taken from queues and rings from its next rounds on, so that it comes to rest
  /// however busy its guest is; or again what its budget says. Sources whose records are gone from
  /// the kernel once they were read go on: what they hold is nowhere else.
  void hold(bool on) noexcept {
    Budget budget = spec_.budget;
    if (on) budget.commands = 0;
    std::visit([&](auto& duty) { duty->set_budget(budget); }, command_);
    if (on && !kPollTakes<Sources>) budget.records = 0;
    event_->set_budget(budget);
  }

  /// Hand stage-1 work to the cold lane. One task at a time: it is the consumer of to_cold and the
  /// producer of from_cold until it clears cold_busy_.
  /// returns  whether there was any
  bool serve_cold(ColdLane& lane) {
    if (rings_.to_cold.empty()) return false;
    // Acquire: what the last task did with the rings and the sink.
    if (cold_busy_.load(std::memory_order_acquire)) return true;
    cold_busy_.store(true, std::memory_order_relaxed);
    lane.submit([this] {
      Stage1Job job;
      while (rings_.to_cold.pop(job)) {
        answer({job.guest, job.device, sink_.set_stage1(job.device, job.config)});
      }
      cold_busy_.store(false, std::memory_order_release);
    });
    return true;
  }
  [[nodiscard]] bool cold_busy() const noexcept {
    return cold_busy_.load(std::memory_order_acquire) || !rings_.to_cold.empty();
  }

  [[nodiscard]] GuestSnapshot snapshot() const;
  /// Eventfds that its VMM made block a shard (nudge.h). thread: any
  [[nodiscard]] std::uint64_t blocked_eventfds() const noexcept {
    std::uint64_t n = event_->evtq_interrupt().blocked() ? 1 : 0;
    n += event_->gerror_interrupt().blocked() ? 1 : 0;
    std::visit([&n](const auto& duty) { n += duty->blocked_eventfds(); }, command_);
    return n;
  }

  [[nodiscard]] const GuestSpec& spec() const noexcept { return spec_; }
  [[nodiscard]] typename Types::Event& event() noexcept { return *event_; }
  [[nodiscard]] typename Types::Commands& command() noexcept { return command_; }

  std::size_t event_shard = 0;
  std::size_t command_shard = 0;
  bool paused = false;  ///< its duties are on no shard

 private:
  void make_command_duty(std::uint32_t index, Plant plant, const Hook& hook) {
    CommandDutySetup setup;
    setup.guest = index;
    setup.spec = &spec_;
    setup.memory = &memory_;
    setup.page = page_;
    setup.features = features_;
    setup.rings = &rings_;
    setup.journal = journal_;
    const auto make = [&]<class Policy>(const Policy& policy) {
      using Command = typename Types::template Command<Policy>;
      command_ = std::make_unique<Command>(setup, sink_, policy, hook);
    };
    // An error planted in forward-each is that of batch-until-sync.
    const auto make_planted = [&](auto planted) {
      if (spec_.policy == PolicyKind::kMerge) {
        planted.template operator()<merge::Merge>(merge_setup());
      } else {
        planted.template operator()<merge::BatchUntilSync>();
      }
    };
    if (plant == Plant::kDropTlbi) {
      make_planted([&]<class Policy>(const auto&... s) { make(merge::DropTlbi<Policy>(s...)); });
    } else if (plant == Plant::kEarlySync) {
      make_planted([&]<class Policy>(const auto&... s) { make(merge::EarlySync<Policy>(s...)); });
    } else if (spec_.policy == PolicyKind::kForwardEach) {
      make(merge::ForwardEach{});
    } else if (spec_.policy == PolicyKind::kBatchUntilSync) {
      make(merge::BatchUntilSync{});
    } else {
      make(merge::Merge(merge_setup()));
    }
  }
  merge::MergeSetup merge_setup() {
    merge::MergeSetup setup;
    setup.options = spec_.merge;
    setup.caps = sink_.caps();
    setup.sole_granule = features_.only_4k();
    if (spec_.merge.audit_every != 0) {
      audit_ = std::make_unique<merge::PlanAudit>(spec_.merge, setup.caps, setup.sole_granule,
                                                  spec_.name);
      setup.audit = audit_.get();
    }
    return setup;
  }

  void answer(const Stage1Done& done) noexcept {
    // The duty takes answers every round; one that has stopped for good does not want them.
    for (int tries = 0; tries < 200 && !rings_.from_cold.push(done); ++tries) {
      const timespec pause{0, 1'000'000};
      nanosleep(&pause, nullptr);
    }
  }

  GuestSpec spec_;
  Sources sources_;
  Sink sink_;
  viommu::GuestMemory memory_;
  viommu::RegisterPage page_;
  viommu::Features features_;
  Journal* journal_;
  GuestRings rings_;
  std::unique_ptr<typename Types::Event> event_;
  std::unique_ptr<merge::PlanAudit> audit_;  ///< of command_'s policy; null: none
  typename Types::Commands command_;
  std::atomic<bool> cold_busy_{false};
};

template <FaultSourceSet Sources, InvalidationSink Sink, StepHook Hook>
GuestSnapshot Guest<Sources, Sink, Hook>::snapshot() const {
  GuestSnapshot out;
  out.name = spec_.name;
  out.policy = spec_.policy;
  out.mode = spec_.mode;
  out.budget = spec_.budget;
  out.event_shard = event_shard;
  out.command_shard = command_shard;
  out.paused = paused;
  out.detached = memory_.poisoned();
  copy_counters(out.events, event_->counters());
  copy_counters(out.event_stages, event_->stages());
  out.interrupts = load_relaxed(event_->evtq_interrupt().raised());
  out.blocked_eventfds = blocked_eventfds();
  out.interrupts_unheard = load_relaxed(event_->evtq_interrupt().unheard());
  out.publish_ns.merge(event_->publish_ns());
  std::visit(
      [&](const auto& duty) {
        copy_counters(out.commands, duty->counters());
        copy_counters(out.command_stages, duty->stages());
        if constexpr (requires { duty->policy().counters(); }) {
          copy_counters(out.merge, duty->policy().counters());
        }
        out.sync_ns.merge(duty->latency());
      },
      command_);
  const JournalEvtq evtq = journal_->event().evtq();
  if (evtq.enabled != 0) {
    out.evtq_size = std::uint32_t{1} << evtq.log2size;
    const std::uint32_t mask = 2 * out.evtq_size - 1;
    const std::uint32_t depth =
        (journal_->event().evtq_prod() - page_.load(viommu::Reg32::kEvtqCons)) & mask;
    out.evtq_depth = depth > out.evtq_size ? out.evtq_size : depth;
  }
  for (std::size_t i = 0; i < spec_.devices.size(); ++i) {
    DeviceSnapshot device{spec_.devices[i].name, spec_.devices[i].vsid, {}};
    copy_counters(device.events, event_->device_counters(i));
    out.devices.push_back(std::move(device));
  }
  return out;
}

}  // namespace faultline::engine
