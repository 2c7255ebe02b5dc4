// SPDX-License-Identifier: BSD-3-Clause
// Small parts that every burst or sample pays for, each beside one store; and what two habits save:
// giving records back once per burst, and keeping what two cores write on lines of their own.
#include <benchmark/benchmark.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <memory>
#include <thread>

#include "bench/support/floor.h"
#include "bench/support/guest.h"
#include "bench/support/interleave.h"
#include "bench/support/soft_rig.h"
#include "engine/interrupt.h"
#include "engine/journal.h"
#include "kernel/base/histogram.h"

namespace faultline {
namespace {

void BaselineStore(benchmark::State& state) {
  std::uint64_t at = 0, i = 0;
  for (auto _ : state) {
    store_release(at, ++i);
    benchmark::ClobberMemory();
  }
}
BENCHMARK(BaselineStore);

void JournalPerBurst(benchmark::State& state) {
  engine::Journal journal = engine::Journal::create("bench", 1, 0).value();
  engine::EventJournal event = journal.event();
  std::uint32_t i = 0;
  for (auto _ : state) {
    ++i;
    event.begin(0, i, {i, 0});
    event.done();
  }
}
BENCHMARK(JournalPerBurst);

void JournalPerSync(benchmark::State& state) {
  engine::Journal journal = engine::Journal::create("bench", 1, 0).value();
  engine::CommandJournal command = journal.command();
  std::uint32_t i = 0;
  for (auto _ : state) {
    ++i;
    command.begin_sync(i, Gpa{0x1000}, i);
    command.sync_msi_written();
    command.end_sync();
  }
}
BENCHMARK(JournalPerSync);

void InterruptEventfd(benchmark::State& state) {
  bench::Guest guest;
  const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  engine::Interrupt interrupt(fd);
  for (auto _ : state) interrupt.raise(guest.memory_);
  if (load_relaxed(interrupt.unheard()) != 0) state.SkipWithError("an interrupt went nowhere");
  ::close(fd);
}
BENCHMARK(InterruptEventfd);

void InterruptMsi(benchmark::State& state) {
  bench::Guest guest;
  engine::Interrupt interrupt;
  interrupt.program(Gpa{bench::Guest::kQueueAt}, 5);
  for (auto _ : state) interrupt.raise(guest.memory_);
}
BENCHMARK(InterruptMsi);

void HistogramRecord(benchmark::State& state) {
  const auto histogram = std::make_unique<Histogram>();
  std::uint64_t random = 1;
  for (auto _ : state) {
    random = random * 6364136223846793005U + 1;
    histogram->record(random >> 44U);
  }
  benchmark::DoNotOptimize(histogram->max());
}
BENCHMARK(HistogramRecord);

void ClockMonotonic(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(monotonic_ns());
}
BENCHMARK(ClockMonotonic);

void ClockCycles(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(cycles());
}
BENCHMARK(ClockCycles);

/// Reports an interleaved pair as one benchmark.
void report(benchmark::State& state, const bench::Interleaved& pair) {
  for (auto _ : state) state.SetIterationTime(pair.subject.median * 1e-9);
  state.counters["baseline_ns"] = pair.baseline.median;
  state.counters["baseline_min_ns"] = pair.baseline.min;
  state.counters["baseline_max_ns"] = pair.baseline.max;
  state.counters["median_ns"] = pair.subject.median;
  state.counters["min_ns"] = pair.subject.min;
  state.counters["max_ns"] = pair.subject.max;
  state.counters["ratio"] = pair.ratio.median;
  state.counters["ratio_min"] = pair.ratio.min;
  state.counters["ratio_max"] = pair.ratio.max;
}

/// range(0): fault ABI. Per record of a burst of 32: cons given back once per record (baseline), or
/// once per burst.
void CommitPerBurst(benchmark::State& state) {
  bench::SoftRig<> rig(1);
  bench::Guest guest;
  rig.make_fault(guest);
  auto sources = rig.regions(state.range(0) == 1 ? vfio::AbiChoice::kV1 : vfio::AbiChoice::kV2);
  std::array<FaultRecord, 32> out;
  const double ns_per_tick = bench::calibrate_ticks().ns_per_tick;
  std::uint64_t address = 0;
  const auto drain = [&](std::size_t at_once) {
    for (int i = 0; i < 32; ++i) {
      soft::DmaRequest request;
      request.iova = ++address << 12U;
      static_cast<void>(rig.kernel().dma(0, request));
    }
    const std::uint64_t start = cycles();
    std::size_t records = 0;
    while (records < 32) {
      const std::size_t n = sources.poll(0, std::span(out).first(at_once));
      if (n == 0) break;
      records += n;
      sources.commit(0);
    }
    return static_cast<double>(cycles() - start) * ns_per_tick / 32;
  };
  report(state, bench::interleave(
                    201, [&] { return drain(1); }, [&] { return drain(32); }));
}
BENCHMARK(CommitPerBurst)
    ->Arg(1)
    ->Arg(2)
    ->ArgName("abi")
    ->Iterations(1)
    ->Repetitions(1)
    ->UseManualTime();

/// Two cores that each count for themselves: with both counters on one line (baseline), or on
/// two. What the engine's rule of one writer per line saves.
void CountersApart(benchmark::State& state) {
  const auto cpus = bench::usable_cpus();
  if (cpus.size() < 2) return state.SkipWithError("needs two CPUs");
  struct alignas(2 * kCacheLine) Counters {
    std::uint64_t mine = 0;
    std::uint64_t near = 0;
    alignas(2 * kCacheLine) std::uint64_t far = 0;
  };
  const auto counters = std::make_unique<Counters>();
  std::atomic<int> where{0};
  std::thread other([&] {
    bench::pin_to(cpus[1]);
    for (int w = 0; (w = where.load(std::memory_order_relaxed)) != 2;) {
      std::uint64_t& at = w == 0 ? counters->near : counters->far;
      for (int i = 0; i < 64; ++i) store_relaxed(at, load_relaxed(at) + 1);
    }
  });
  double ns = 0;
  std::thread([&] {
    bench::pin_to(cpus[0]);
    const double ns_per_tick = bench::calibrate_ticks().ns_per_tick;
    constexpr int kCounts = 20'000;
    const auto count = [&](int place) {
      where.store(place, std::memory_order_relaxed);
      const std::uint64_t start = cycles();
      for (int i = 0; i < kCounts; ++i) {
        store_relaxed(counters->mine, load_relaxed(counters->mine) + 1);
      }
      return static_cast<double>(cycles() - start) * ns_per_tick / kCounts;
    };
    const auto pair = bench::interleave(
        101, [&] { return count(0); }, [&] { return count(1); });
    report(state, pair);
    ns = pair.subject.median;
  }).join();
  benchmark::DoNotOptimize(ns);
  where.store(2);
  other.join();
}
BENCHMARK(CountersApart)->Iterations(1)->Repetitions(1)->UseManualTime();

}  // namespace
}  // namespace faultline
