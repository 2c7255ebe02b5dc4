// SPDX-License-Identifier: BSD-3-Clause
// From a decoded fault record to an event that the guest can see, per record. Baseline: copying the
// same 32 bytes into the queue's memory.
#include <benchmark/benchmark.h>

#include <array>

#include "bench/support/guest.h"
#include "engine/viommu/event_queue.h"
#include "engine/viommu/transcode.h"

namespace faultline {
namespace {

constexpr unsigned kLog2 = 10;

FaultRecord record_of(bool raw) {
  FaultRecord record;
  if (raw) {
    record.form = FaultRecord::Form::kRawEvent;
    record.event[0] = 0x10 | (std::uint64_t{0x18} << 32U);
    record.event[1] = std::uint64_t{1} << 35U;
    record.event[2] = 0x1234'5000;
  } else {
    record.form = FaultRecord::Form::kReason;
    record.reason = FaultReason::kPteFetch;
    record.has_addr = record.has_perm = true;
    record.addr = 0x1234'5000;
  }
  return record;
}

void rate(benchmark::State& state, double burst) {
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(burst));
  state.counters["per_record"] =
      benchmark::Counter(static_cast<double>(state.iterations()) * burst,
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

/// range(0): records per publish; range(1): 1 = fault ABI 1 records, 2 = raw events of ABI 2.
void TranscodePlacePublish(benchmark::State& state) {
  bench::Guest guest;
  viommu::EventQueue queue;
  queue.enable(guest.memory_, guest.page_, bench::Guest::kQueueAt | kLog2, 0, 19);
  const auto burst = static_cast<std::uint32_t>(state.range(0));
  const FaultRecord record = record_of(state.range(1) == 2);
  viommu::TranscodeCounts counts;
  for (auto _ : state) {
    for (std::uint32_t i = 0; i < burst; ++i) {
      viommu::Event event;
      viommu::transcode(record, StreamId{0x20}, event, counts);
      if (!queue.place(event)) {
        state.SkipWithError("the event queue is full");
        return;
      }
    }
    queue.publish_exitless();
    // The guest reads everything at once.
    guest.page_.release(viommu::Reg32::kEvtqCons, queue.prod());
  }
  rate(state, burst);
}
BENCHMARK(TranscodePlacePublish)->ArgsProduct({{1, 8, 32}, {1, 2}})->ArgNames({"burst", "abi"});

void BaselineCopy(benchmark::State& state) {
  bench::Guest guest;
  const auto burst = static_cast<std::uint32_t>(state.range(0));
  auto* slots = static_cast<unsigned char*>(
      guest.memory_.pointer(Gpa{bench::Guest::kQueueAt}, std::size_t{32} << kLog2));
  const std::array<std::uint64_t, 4> event{0x10, 2, 3, 4};
  std::uint32_t at = 0;
  for (auto _ : state) {
    for (std::uint32_t i = 0; i < burst; ++i) {
      copy_to_shared(slots + std::size_t{at} * 32, event.data(), sizeof event);
      at = (at + 1) & ((1U << kLog2) - 1);
    }
    guest.page_.release(viommu::Reg32::kEvtqProd, at);
  }
  rate(state, burst);
}
BENCHMARK(BaselineCopy)->Arg(1)->Arg(8)->Arg(32)->ArgName("burst");

}  // namespace
}  // namespace faultline
