// SPDX-License-Identifier: BSD-3-Clause
// What a shard of devices that have nothing to say costs under each idle policy, in per cent of a
// CPU as the scheduler accounts it in /proc over 10 s, and how soon a fault that comes after that
// is in the guest's event queue. The policies are each other's baseline: spin is the least latency
// and the whole core.
#include <benchmark/benchmark.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <fstream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "bench/support/event_duty.h"
#include "bench/support/floor.h"
#include "bench/support/guest.h"
#include "bench/support/soft_rig.h"
#include "engine/event_duty.h"
#include "engine/run_loop.h"
#include "engine/shard.h"

namespace faultline {
namespace {

using Regions = vfio::FaultRegions<soft::SoftSys>;
using Duty = engine::EventDuty<Regions>;
using EventShard = engine::Shard<Duty>;
constexpr unsigned kPerGuest = 64;  // as many as a journal has room for
constexpr time_t kQuietSeconds = 10;
constexpr unsigned kFaults = 200;  // fewer than the queue holds
constexpr Nanos kBetween = 5'000'000;
constexpr Nanos kLost = 5'000'000'000;

/// One guest of the shard.
struct Resting {
  explicit Resting(unsigned devices) : rig(devices), sources(rig.regions(vfio::AbiChoice::kV2)) {
    if (!rings.event_bell.hang()) throw std::runtime_error("no eventfd");
    duty = std::make_unique<Duty>(sources, bench::event_duty_setup(guest, rings, devices),
                                  journal.event());
    rig.make_fault(guest);
  }

  bench::Guest guest{bench::Guest::kLazy};
  engine::GuestRings rings;
  bench::SoftRig<> rig;
  Regions sources;
  engine::Journal journal = engine::Journal::create("bench", kPerGuest, 0).value();
  std::unique_ptr<Duty> duty;
};

void nap(Nanos length) {
  const timespec time{static_cast<time_t>(length / 1'000'000'000),
                      static_cast<long>(length % 1'000'000'000)};
  nanosleep(&time, nullptr);
}

/// User and system time of a thread so far, clock ticks.
double cpu_ticks(long tid) {
  std::ifstream in("/proc/self/task/" + std::to_string(tid) + "/stat");
  std::string text;
  std::getline(in, text);
  // Fields 14 and 15; the name before them may hold anything, and ends with the last parenthesis.
  const std::size_t name = text.rfind(')');
  if (name == std::string::npos) throw std::runtime_error("/proc does not tell the thread's time");
  std::istringstream fields(text.substr(name + 1));
  std::string skipped;
  for (int i = 0; i < 11; ++i) fields >> skipped;
  double user = 0;
  double system = 0;
  fields >> user >> system;
  return user + system;
}

/// A fault of device 0 until its event can be read. returns  ns
Nanos wake_up(Resting& guest, unsigned number) {
  const std::uint32_t before = guest.guest.page_.acquire(viommu::Reg32::kEvtqProd);
  soft::DmaRequest request;
  request.iova = std::uint64_t{number} << 12U;
  const Nanos start = monotonic_ns();
  static_cast<void>(guest.rig.kernel().dma(0, request));
  while (guest.guest.page_.acquire(viommu::Reg32::kEvtqProd) == before) {
    if (monotonic_ns() - start > kLost) throw std::runtime_error("an event did not arrive");
  }
  return monotonic_ns() - start;
}

void measure(benchmark::State& state, engine::IdlePolicy policy) {
  std::deque<Resting> guests;
  for (auto left = static_cast<unsigned>(state.range(0)); left != 0;) {
    const unsigned devices = std::min(left, kPerGuest);
    guests.emplace_back(devices);
    left -= devices;
  }
  EventShard shard;
  auto sleeper = engine::Sleeper::make();
  if (!sleeper) throw std::runtime_error(sleeper.error().what);
  shard.sleep_on(std::move(*sleeper));
  for (Resting& guest : guests) {
    if (!shard.watch(*guest.duty) || !shard.add(*guest.duty))
      throw std::runtime_error("the shard takes no more duties");
  }
  std::atomic<long> tid{0};
  const auto cpus = bench::usable_cpus();
  std::thread core([&] {
    bench::pin_to(cpus.back());
    tid.store(::syscall(SYS_gettid), std::memory_order_release);
    EventShard* const shards[] = {&shard};
    engine::run_loop(std::span<EventShard* const>(shards), engine::IdleOptions{.policy = policy},
                     MonotonicClock{});
  });
  while (tid.load(std::memory_order_acquire) == 0) std::this_thread::yield();
  nap(100'000'000);
  std::string error;
  try {
    const double hz = static_cast<double>(sysconf(_SC_CLK_TCK));
    const double ticks = cpu_ticks(tid);
    const Nanos start = monotonic_ns();
    nap(Nanos{kQuietSeconds} * 1'000'000'000);
    const double seconds = static_cast<double>(monotonic_ns() - start) / 1e9;
    state.counters["cpu_percent"] = 100 * (cpu_ticks(tid) - ticks) / hz / seconds;
    std::vector<double> samples;
    for (unsigned i = 1; i <= kFaults; ++i) {
      nap(kBetween);
      samples.push_back(static_cast<double>(wake_up(guests.front(), i)));
    }
    std::ranges::sort(samples);
    state.counters["wake_p50_ns"] = samples[samples.size() / 2];
    state.counters["wake_p99_ns"] = samples[samples.size() * 99 / 100];
    state.counters["sleeps"] = static_cast<double>(load_relaxed(shard.counters().sleeps));
  } catch (const std::runtime_error& e) {
    error = e.what();
  }
  while (!shard.post({})) std::this_thread::yield();
  core.join();
  if (!error.empty()) throw std::runtime_error(error);
}

void run(benchmark::State& state, engine::IdlePolicy policy) {
  if (const auto able = engine::check_idle(policy); !able) {
    return state.SkipWithError(("not measured: " + able.error().what).c_str());
  }
  if (bench::usable_cpus().size() < 2) return state.SkipWithError("needs two CPUs");
  try {
    for (auto _ : state) measure(state, policy);
  } catch (const std::runtime_error& error) {
    state.SkipWithError(error.what());
  }
}

void SpinningShard(benchmark::State& state) {
  run(state, engine::IdlePolicy::kSpin);
}
void PausingShard(benchmark::State& state) {
  run(state, engine::IdlePolicy::kPause);
}
void MonitoringShard(benchmark::State& state) {
  run(state, engine::IdlePolicy::kMonitor);
}
void YieldingShard(benchmark::State& state) {
  run(state, engine::IdlePolicy::kYield);
}
void SleepingShard(benchmark::State& state) {
  run(state, engine::IdlePolicy::kSleep);
}

void once(benchmark::internal::Benchmark* b) {
  b->Arg(1)->Arg(1024)->ArgName("devices")->Iterations(1)->Repetitions(1)->Unit(benchmark::kSecond);
}
BENCHMARK(SpinningShard)->Apply(once);
BENCHMARK(PausingShard)->Apply(once);
BENCHMARK(MonitoringShard)->Apply(once);
BENCHMARK(YieldingShard)->Apply(once);
BENCHMARK(SleepingShard)->Apply(once);

}  // namespace
}  // namespace faultline
