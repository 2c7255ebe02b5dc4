// SPDX-License-Identifier: BSD-3-Clause
// A CommandDuty's rounds from CMDQ_PROD to CMDQ_CONS with a sink that does nothing, per command.
// Baseline: the guest's own share, ringing and looking.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "bench/support/guest.h"
#include "engine/command_duty.h"
#include "engine/merge/batch_until_sync.h"
#include "engine/merge/forward_each.h"
#include "engine/merge/merge.h"
#include "tests/support/allocations.h"

namespace faultline {
namespace {

constexpr unsigned kLog2 = 10;
constexpr std::uint64_t kSync = 0x46;

struct NoSink {
  static SinkCaps caps() noexcept { return {.max_batch = 63, .tlb_all = true}; }
  SubmitResult submit(std::span<const Operation> ops) noexcept {
    benchmark::DoNotOptimize(ops.data());
    return {0, 1, 1};
  }
  void note_asid(std::size_t /*device*/, std::uint16_t /*asid*/) noexcept {}
  SubmitResult set_stage1(std::size_t /*device*/, const Stage1Config& /*config*/) noexcept {
    return {};
  }
};

struct StoppedClock {
  Nanos operator()() const noexcept { return 1'000'000; }
};

/// A guest with its command queue enabled and filled: `burst` commands of which the last is a SYNC,
/// over and over; a burst of 1 is TLBI and SYNC in turn, as a strict guest rings them.
template <class Policy>
class World {
 public:
  using Duty = engine::CommandDuty<NoSink, Policy, engine::NoHook, StoppedClock>;

  explicit World(std::uint32_t burst)
      : journal_(engine::Journal::create("bench", 1, 0).value()), burst_(burst) {
    auto* slot = static_cast<std::uint64_t*>(
        guest_.memory_.pointer(Gpa{bench::Guest::kQueueAt}, std::size_t{16} << kLog2));
    const std::uint32_t period = std::max(burst, 2U);
    for (std::uint64_t i = 0; i < (1U << kLog2); ++i) {
      const bool sync = i % period == period - 1;
      slot[2 * i] = sync ? kSync : 0x12 | std::uint64_t{5} << 48U;
      slot[2 * i + 1] = sync ? 0 : 0xffff'0000'0000 + i * 4096 + 1;
    }
    spec_.devices.push_back({"device", StreamId{1}});
    guest_.page_.store(viommu::Reg64::kCmdqBase, bench::Guest::kQueueAt | kLog2);
    engine::CommandDutySetup setup;
    setup.spec = &spec_;
    setup.memory = &guest_.memory_;
    setup.page = guest_.page_;
    setup.rings = &rings_;
    setup.journal = &journal_;
    duty_ = std::make_unique<Duty>(setup, sink_);
    guest_.page_.store(viommu::Reg64::kStrtabBase, bench::Guest::kBase + (2U << 20U));
    guest_.page_.store(viommu::Reg32::kStrtabBaseCfg, 6U);
    guest_.page_.store(viommu::Reg64::kCmdqBase, bench::Guest::kQueueAt | kLog2);
    guest_.page_.store(viommu::Reg32::kCmdqProd, 0U);
    guest_.page_.store(viommu::Reg32::kCmdqCons, 0U);
    guest_.page_.release(viommu::Reg32::kCr0, 8U);
    for (int i = 0; i < 1000 && guest_.page_.load(viommu::Reg32::kCr0Ack) != 8; ++i) {
      duty_->round(now_ += 100);
      serve_others();
    }
  }

  [[nodiscard]] bool enabled() { return guest_.page_.load(viommu::Reg32::kCr0Ack) == 8; }

  void ring() {
    prod_ = (prod_ + burst_) & ((2U << kLog2) - 1);
    guest_.page_.release(viommu::Reg32::kCmdqProd, prod_);
  }
  [[nodiscard]] bool done() { return guest_.page_.acquire(viommu::Reg32::kCmdqCons) == prod_; }
  /// returns  false: the commands do not complete. A burst that ends in a TLBI completes when the
  ///          policy lets it, at the latest with the SYNC of the next one.
  bool serve() {
    const bool to_the_end = burst_ > 1 || prod_ % 2 == 0;
    if (!to_the_end) {
      duty_->round(now_ += 100);
      return true;
    }
    for (int i = 0; i < 1000; ++i) {
      duty_->round(now_ += 100);
      if (done()) return true;
    }
    return false;
  }
  [[nodiscard]] const engine::CommandCounters& counters() const { return duty_->counters(); }

 private:
  /// The EventDuty's and the cold lane's part in enabling.
  void serve_others() {
    engine::ToEventDuty message;
    if (rings_.to_event.pop(message)) rings_.to_command.push({message.token, 0});
    engine::Stage1Job job;
    if (rings_.to_cold.pop(job)) rings_.from_cold.push({job.guest, job.device, {}});
  }

  bench::Guest guest_;
  engine::GuestSpec spec_;
  engine::GuestRings rings_;
  engine::Journal journal_;
  NoSink sink_;
  std::unique_ptr<Duty> duty_;
  std::uint32_t burst_;
  std::uint32_t prod_ = 0;
  Nanos now_ = 1'000'000;
};

void per_command(benchmark::State& state) {
  state.SetItemsProcessed(state.iterations() * state.range(0));
  state.counters["per_command"] =
      benchmark::Counter(static_cast<double>(state.iterations() * state.range(0)),
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

template <class Policy>
void Commands(benchmark::State& state) {
  World<Policy> world(static_cast<std::uint32_t>(state.range(0)));
  if (!world.enabled()) return state.SkipWithError("the command queue was not enabled");
  const std::size_t before = testing_support::allocations();
  for (auto _ : state) {
    world.ring();
    if (!world.serve()) return state.SkipWithError("commands do not complete");
  }
  state.counters["allocations"] = static_cast<double>(testing_support::allocations() - before);
  state.counters["ioctls_per_sync"] =
      static_cast<double>(world.counters().ioctls) / static_cast<double>(world.counters().syncs);
  per_command(state);
}
BENCHMARK(Commands<merge::BatchUntilSync>)->Arg(1)->Arg(8)->Arg(32)->Arg(256);
BENCHMARK(Commands<merge::Merge>)->Arg(1)->Arg(8)->Arg(32)->Arg(256);
BENCHMARK(Commands<merge::ForwardEach>)->Arg(1)->Arg(8)->Arg(32)->Arg(256);

void BaselineRing(benchmark::State& state) {
  World<merge::BatchUntilSync> world(static_cast<std::uint32_t>(state.range(0)));
  for (auto _ : state) {
    world.ring();
    benchmark::DoNotOptimize(world.done());
  }
  per_command(state);
}
BENCHMARK(BaselineRing)->Arg(1)->Arg(8)->Arg(32)->Arg(256);

}  // namespace
}  // namespace faultline
