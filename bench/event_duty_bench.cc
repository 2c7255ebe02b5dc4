// SPDX-License-Identifier: BSD-3-Clause
// A whole round of a busy EventDuty, per record: from poll to the journalled end, with the
// interrupt. Baseline: copying the record.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstddef>
#include <span>

#include "bench/support/event_duty.h"
#include "bench/support/guest.h"
#include "engine/event_duty.h"
#include "tests/support/allocations.h"

namespace faultline {
namespace {

/// Always has `burst` raw events.
class Flood {
 public:
  explicit Flood(std::size_t burst) : burst_(burst) {
    record_.form = FaultRecord::Form::kRawEvent;
    record_.event[0] = 0x10;
  }
  [[nodiscard]] std::size_t size() const noexcept { return 1; }
  std::size_t poll(std::size_t, std::span<FaultRecord> out) noexcept {
    const std::size_t n = std::min(out.size(), burst_);
    for (FaultRecord& r : out.first(n)) r = record_;
    at_.next += n;
    return n;
  }
  [[nodiscard]] SourcePosition position(std::size_t) const noexcept { return at_; }
  int commit(std::size_t) noexcept { return 0; }
  SourceLoss take_loss(std::size_t) noexcept { return {}; }
  std::size_t housekeeping(Nanos) noexcept { return 0; }

 private:
  std::size_t burst_;
  FaultRecord record_;
  SourcePosition at_;
};

/// range(0): records per round.
void Burst(benchmark::State& state) {
  bench::Guest guest;
  engine::GuestRings rings;
  engine::Journal journal = engine::Journal::create("bench", 1, 0).value();
  Flood sources(static_cast<std::size_t>(state.range(0)));
  engine::EventDuty<Flood> duty(sources, bench::event_duty_setup(guest, rings, 1), journal.event());
  Nanos now = 1;
  duty.round(now);
  const std::size_t before = testing_support::allocations();
  for (auto _ : state) {
    guest.page_.store(viommu::Reg32::kEvtqCons, guest.page_.load(viommu::Reg32::kEvtqProd));
    duty.round(now += 100);
  }
  state.counters["allocations"] = static_cast<double>(testing_support::allocations() - before);
  state.SetItemsProcessed(state.iterations() * state.range(0));
  state.counters["per_record"] =
      benchmark::Counter(static_cast<double>(state.iterations() * state.range(0)),
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}
BENCHMARK(Burst)->Arg(1)->Arg(8)->Arg(32)->ArgName("burst");

void CopyRecord(benchmark::State& state) {
  FaultRecord from, to;
  for (auto _ : state) {
    benchmark::DoNotOptimize(&from);
    to = from;
    benchmark::DoNotOptimize(&to);
  }
}
BENCHMARK(CopyRecord);

}  // namespace
}  // namespace faultline
