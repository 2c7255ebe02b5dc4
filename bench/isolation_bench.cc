// SPDX-License-Identifier: BSD-3-Clause
// What a guest's CMD_SYNC and fault wait for beside neighbours on the same core: the engine's shard
// and duties, with a submission that keeps the core for a fixed time. Baselines in the same run:
// the guest alone, and the same neighbours on a shard without the rule of one submission per round.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "bench/support/guest.h"
#include "engine/command_duty.h"
#include "engine/event_duty.h"
#include "engine/merge/batch_until_sync.h"
#include "engine/shard.h"

namespace faultline {
namespace {

constexpr unsigned kLog2 = 8;
constexpr std::uint64_t kSync = 0x46;
constexpr Nanos kSubmissionNs = 5000;  // an invalidation ioctl and its SYNC in the host's queue
constexpr std::uint64_t kEventsAt = bench::Guest::kQueueAt + (1U << 16U);
constexpr std::size_t kNeighbours = 7;
constexpr std::size_t kSamples = 4000;

/// Keeps the core as the host would.
struct SlowSink {
  std::function<void()> told;
  static SinkCaps caps() noexcept { return {.max_batch = 63, .tlb_all = true}; }
  SubmitResult submit(std::span<const Operation>) noexcept {
    told();
    for (const Nanos until = monotonic_ns() + kSubmissionNs; monotonic_ns() < until;) {
    }
    return {0, 1, 1};
  }
  void note_asid(std::size_t, std::uint16_t) noexcept {}
  SubmitResult set_stage1(std::size_t, const Stage1Config&) noexcept { return {}; }
};

/// Gives as many raw events as it holds; `asked` at every poll.
struct Faults {
  std::function<void()> asked;
  std::size_t held = 0;
  SourcePosition at;

  [[nodiscard]] static std::size_t size() noexcept { return 1; }
  std::size_t poll(std::size_t, std::span<FaultRecord> out) noexcept {
    asked();
    const std::size_t n = std::min(out.size(), held);
    for (FaultRecord& r : out.first(n)) {
      r = {};
      r.form = FaultRecord::Form::kRawEvent;
      r.event[0] = 0x10;
    }
    held -= n;
    at.next += n;
    return n;
  }
  [[nodiscard]] SourcePosition position(std::size_t) const noexcept { return at; }
  static int commit(std::size_t) noexcept { return 0; }
  static SourceLoss take_loss(std::size_t) noexcept { return {}; }
  static std::size_t housekeeping(Nanos) noexcept { return 0; }
};

using Events = engine::EventDuty<Faults>;
using Commands = engine::CommandDuty<SlowSink, merge::BatchUntilSync>;
using CoreShard = engine::Shard<Events, Commands>;

/// A guest with its queues enabled.
class Tenant {
 public:
  Tenant(std::function<void()> asked, std::function<void()> told)
      : journal_(engine::Journal::create("bench", 1, 0).value()), sink_{std::move(told)} {
    faults.asked = std::move(asked);
    spec_.devices.push_back({"device", StreamId{1}});
    engine::EventDutySetup events;
    events.memory = &guest_.memory_;
    events.page = guest_.page_;
    events.vsids = {StreamId{1}};
    events.rings = &rings_;
    event_ = std::make_unique<Events>(faults, events, journal_.event());
    engine::CommandDutySetup commands;
    commands.spec = &spec_;
    commands.memory = &guest_.memory_;
    commands.page = guest_.page_;
    commands.rings = &rings_;
    commands.journal = &journal_;
    command_ = std::make_unique<Commands>(commands, sink_);
    guest_.page_.store(viommu::Reg64::kStrtabBase, bench::Guest::kBase + (2U << 20U));
    guest_.page_.store(viommu::Reg32::kStrtabBaseCfg, 6U);
    guest_.page_.store(viommu::Reg64::kCmdqBase, bench::Guest::kQueueAt | kLog2);
    guest_.page_.store(viommu::Reg32::kCmdqProd, 0U);
    guest_.page_.store(viommu::Reg32::kCmdqCons, 0U);
    guest_.page_.store(viommu::Reg64::kEvtqBase, kEventsAt | 10U);
    guest_.page_.store(viommu::Reg32::kEvtqProd, 0U);
    guest_.page_.store(viommu::Reg32::kEvtqCons, 0U);
    guest_.page_.release(viommu::Reg32::kCr0, 0xcU);
    for (int i = 0; i < 1000 && guest_.page_.load(viommu::Reg32::kCr0Ack) != 0xc; ++i) {
      event_->round(monotonic_ns());
      command_->round(monotonic_ns());
      engine::Stage1Job job;
      if (rings_.to_cold.pop(job)) rings_.from_cold.push({job.guest, job.device, {}});
    }
    if (guest_.page_.load(viommu::Reg32::kCr0Ack) != 0xc) {
      throw std::runtime_error("the queues were not enabled");
    }
  }
  void join(CoreShard& shard) {
    if (!shard.add(*event_) || !shard.add(*command_)) throw std::runtime_error("no room");
  }

  void place(std::uint64_t word0, std::uint64_t word1) {
    auto* slot = static_cast<std::uint64_t*>(guest_.memory_.pointer(
        Gpa{bench::Guest::kQueueAt + 16 * (prod_ & ((1U << kLog2) - 1))}, 16));
    slot[0] = word0;
    slot[1] = word1;
    prod_ = (prod_ + 1) & ((2U << kLog2) - 1);
  }
  void invalidate() { place(0x12 | std::uint64_t{5} << 48U, 0xffff'0000'0001); }
  void sync() { place(kSync, 0); }
  void ring() { guest_.page_.release(viommu::Reg32::kCmdqProd, prod_); }
  [[nodiscard]] std::uint32_t cons() { return guest_.page_.acquire(viommu::Reg32::kCmdqCons); }
  [[nodiscard]] bool done() { return cons() == prod_; }
  [[nodiscard]] std::uint32_t used() { return (prod_ - cons()) & ((2U << kLog2) - 1); }
  [[nodiscard]] std::uint32_t events() { return guest_.page_.acquire(viommu::Reg32::kEvtqProd); }
  void read_events() { guest_.page_.release(viommu::Reg32::kEvtqCons, events()); }
  /// Go on behind an error at once, with the command made legal.
  void repair() {
    const std::uint32_t gerror = guest_.page_.acquire(viommu::Reg32::kGerror);
    if (gerror == guest_.page_.load(viommu::Reg32::kGerrorn)) return;
    const std::uint32_t prod = prod_;
    prod_ = cons() & ((2U << kLog2) - 1);
    invalidate();
    prod_ = prod;
    guest_.page_.release(viommu::Reg32::kGerrorn, gerror);
  }
  void throw_indices() {
    random_ = random_ * 6364136223846793005U + 1442695040888963407U;
    guest_.page_.release(viommu::Reg32::kCmdqProd, static_cast<std::uint32_t>(random_ >> 32U));
    guest_.page_.release(viommu::Reg32::kEvtqCons, static_cast<std::uint32_t>(random_ >> 40U));
  }

  Faults faults;
  std::size_t foreign = 0;  ///< submissions of others since it was asked for faults
  std::size_t worst = 0;

 private:
  bench::Guest guest_{bench::Guest::kLazy};
  engine::GuestSpec spec_;
  engine::GuestRings rings_;
  engine::Journal journal_;
  SlowSink sink_;
  std::unique_ptr<Events> event_;
  std::unique_ptr<Commands> command_;
  std::uint32_t prod_ = 0;
  std::uint64_t random_ = 1;
};

using Neighbour = void (*)(Tenant&);

void quiet(Tenant&) {}
void storm_faults(Tenant& t) {
  t.faults.held = 32;
  t.read_events();
}
void storm_commands(Tenant& t) {
  while (t.used() < 64) {
    t.invalidate();
    t.sync();
  }
  t.ring();
}
void never_reads(Tenant& t) {
  t.faults.held = 32;
  storm_commands(t);
}
void throws_indices(Tenant& t) {
  t.invalidate();
  t.sync();
  t.throw_indices();
  t.faults.held = 32;
  t.repair();
}
void flood_errors(Tenant& t) {
  t.repair();
  if (t.used() >= 64) return;
  t.invalidate();
  t.place(0xff, 0);
  t.invalidate();
  t.ring();
}

double at(std::vector<double>& sorted, std::size_t percent) {
  return sorted[std::min(sorted.size() - 1, sorted.size() * percent / 100)];
}

/// The victim's SYNC and fault, each rung when the one before was seen done. The guests' own work
/// happens between rounds and outside the measured time, which is that of whole rounds.
void measure(benchmark::State& state, Neighbour behave, bool rule) {
  std::vector<std::unique_ptr<Tenant>> tenants;
  const auto neighbours = behave == &quiet ? 0 : kNeighbours;
  for (std::size_t i = 0; i <= neighbours; ++i) {
    tenants.push_back(std::make_unique<Tenant>(
        [&tenants, i] {
          if (i >= tenants.size()) return;
          Tenant& t = *tenants[i];
          t.worst = std::max(t.worst, std::exchange(t.foreign, 0));
        },
        [&tenants, i] {
          for (std::size_t k = 0; k < tenants.size(); ++k) tenants[k]->foreign += k != i;
        }));
  }
  CoreShard shard;
  if (!rule) shard.waive_submission_rule();
  for (auto& tenant : tenants) {
    tenant->join(shard);
    tenant->foreign = tenant->worst = 0;
  }
  // In the middle: neither first nor last in a sweep.
  Tenant& victim = *tenants[neighbours / 2];
  std::vector<double> syncs;
  std::vector<double> faults;
  Nanos sync_waits = 0;
  Nanos fault_waits = 0;
  bool sync_due = false;
  std::uint32_t events = victim.events();
  bool fault_due = false;
  std::size_t rounds = 0;
  for (; syncs.size() < kSamples || faults.size() < kSamples; ++rounds) {
    if (rounds > 100 * kSamples) throw std::runtime_error("the victim was not served");
    for (auto& tenant : tenants) {
      if (tenant.get() != &victim) behave(*tenant);
    }
    if (!sync_due) {
      victim.invalidate();
      victim.sync();
      victim.ring();
      sync_due = true;
      sync_waits = 0;
    }
    if (!fault_due) {
      victim.faults.held = 1;
      fault_due = true;
      fault_waits = 0;
    }
    const Nanos start = monotonic_ns();
    shard.round(start);
    const Nanos length = monotonic_ns() - start;
    sync_waits += length;
    fault_waits += length;
    if (victim.done()) {
      syncs.push_back(static_cast<double>(sync_waits));
      sync_due = false;
    }
    if (victim.events() != events) {
      events = victim.events();
      victim.read_events();
      faults.push_back(static_cast<double>(fault_waits));
      fault_due = false;
    }
  }
  std::ranges::sort(syncs);
  std::ranges::sort(faults);
  state.counters["sync_p50_ns"] = at(syncs, 50);
  state.counters["sync_p99_ns"] = at(syncs, 99);
  state.counters["fault_p50_ns"] = at(faults, 50);
  state.counters["fault_p99_ns"] = at(faults, 99);
  state.counters["submissions"] = static_cast<double>(victim.worst);
}

void run(benchmark::State& state, Neighbour behave, bool rule) {
  try {
    for (auto _ : state) measure(state, behave, rule);
  } catch (const std::runtime_error& error) {
    state.SkipWithError(error.what());
  }
}

void Alone(benchmark::State& state) {
  run(state, &quiet, true);
}
BENCHMARK(Alone)->Iterations(1);

/// With the rule.
void Foreign(benchmark::State& state, Neighbour behave) {
  run(state, behave, true);
}
BENCHMARK_CAPTURE(Foreign, fault_storm, &storm_faults)->Iterations(1);
BENCHMARK_CAPTURE(Foreign, command_storm, &storm_commands)->Iterations(1);
BENCHMARK_CAPTURE(Foreign, evtq_never_read, &never_reads)->Iterations(1);
BENCHMARK_CAPTURE(Foreign, indices_thrown, &throws_indices)->Iterations(1);
BENCHMARK_CAPTURE(Foreign, error_flood, &flood_errors)->Iterations(1);

void BaselineNoRule(benchmark::State& state, Neighbour behave) {
  run(state, behave, false);
}
BENCHMARK_CAPTURE(BaselineNoRule, fault_storm, &storm_faults)->Iterations(1);
BENCHMARK_CAPTURE(BaselineNoRule, command_storm, &storm_commands)->Iterations(1);
BENCHMARK_CAPTURE(BaselineNoRule, evtq_never_read, &never_reads)->Iterations(1);
BENCHMARK_CAPTURE(BaselineNoRule, indices_thrown, &throws_indices)->Iterations(1);
BENCHMARK_CAPTURE(BaselineNoRule, error_flood, &flood_errors)->Iterations(1);

}  // namespace
}  // namespace faultline
