// SPDX-License-Identifier: BSD-3-Clause
// What devices cost that have nothing to say, per device and round: a shard's EventDuties of up to
// 64 devices each, on the seed's real interface. Baselines: one load per device, of lines that lie
// at the same offset of their pages as the headers do, and of lines packed together.
#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <stdexcept>
#include <vector>

#include "bench/support/event_duty.h"
#include "bench/support/guest.h"
#include "bench/support/soft_rig.h"
#include "engine/event_duty.h"
#include "tests/support/allocations.h"

namespace faultline {
namespace {

using Regions = vfio::FaultRegions<soft::SoftSys>;
constexpr unsigned kPerGuest = 64;  // as many as a journal has room for

void per_device(benchmark::State& state) {
  state.counters["per_device"] = benchmark::Counter(
      static_cast<double>(state.iterations()) * static_cast<double>(state.range(0)),
      benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

/// One guest of a shard.
struct Guest {
  Guest(unsigned devices, vfio::AbiChoice abi) : rig(devices), sources(rig.regions(abi)) {
    duty = std::make_unique<engine::EventDuty<Regions>>(
        sources, bench::event_duty_setup(guest, rings, devices), journal.event());
  }

  bench::Guest guest{bench::Guest::kLazy};
  engine::GuestRings rings;
  bench::SoftRig<> rig;
  Regions sources;
  engine::Journal journal = engine::Journal::create("bench", kPerGuest, 0).value();
  std::unique_ptr<engine::EventDuty<Regions>> duty;
};

void IdleRound(benchmark::State& state) {
  std::deque<Guest> guests;
  const auto abi = state.range(1) == 1 ? vfio::AbiChoice::kV1 : vfio::AbiChoice::kV2;
  try {
    for (auto left = static_cast<unsigned>(state.range(0)); left != 0;) {
      const unsigned devices = std::min(left, kPerGuest);
      guests.emplace_back(devices, abi);
      left -= devices;
    }
  } catch (const std::runtime_error& error) {
    return state.SkipWithError(error.what());
  }
  Nanos now = 1;
  std::size_t work = 0;
  for (int i = 0; i < 100; ++i) {
    now += 100;
    for (Guest& guest : guests) work += guest.duty->round(now);
  }
  const std::size_t before = testing_support::allocations();
  for (auto _ : state) {
    now += 100;
    for (Guest& guest : guests) work += guest.duty->round(now);
  }
  benchmark::DoNotOptimize(work);
  state.counters["allocations"] = static_cast<double>(testing_support::allocations() - before);
  per_device(state);
}
BENCHMARK(IdleRound)->ArgsProduct({{1, 16, 64, 256, 1024}, {1, 2}})->ArgNames({"devices", "abi"});

/// range(1): bytes from one line to the next. A page apart they share a set of the first level
/// cache, and few sets of the second; 4160 apart they do not, as if headers were coloured.
void BaselineLoads(benchmark::State& state) {
  const auto lines = static_cast<std::size_t>(state.range(0));
  const auto stride = static_cast<std::size_t>(state.range(1));
  void* at = mmap(nullptr, lines * stride + 4096, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (at == MAP_FAILED) return state.SkipWithError("mmap");
  std::vector<const std::uint64_t*> watched;
  for (std::size_t i = 0; i < lines; ++i) {
    watched.push_back(reinterpret_cast<std::uint64_t*>(static_cast<char*>(at) + i * stride + 64));
  }
  for (auto _ : state) {
    std::uint64_t any = 0;
    for (const std::uint64_t* line : watched) any |= load_acquire(*line);
    benchmark::DoNotOptimize(any);
  }
  munmap(at, lines * stride + 4096);
  per_device(state);
}
BENCHMARK(BaselineLoads)
    ->ArgsProduct({{1, 16, 64, 256, 1024}, {4096, 4160, 64}})
    ->ArgNames({"devices", "stride"});

}  // namespace
}  // namespace faultline
