// SPDX-License-Identifier: BSD-3-Clause
// What guests that come and go cost one that is being polled: 64 guests of 16 devices each (soft
// kernels) are added to, and removed from, a running engine whose one shard polls a victim.
// Measured is the time from one round of the victim to the next: the longest one while a guest is
// added or removed, of each of the 64. Baselines of the same run: the longest one in as long a time
// without a guest that comes or goes, and the round that takes a full burst (32 records of each of
// 16 devices).
#include <benchmark/benchmark.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "bench/support/floor.h"
#include "bench/support/guest.h"
#include "bench/support/soft_rig.h"
#include "engine/engine.h"

namespace faultline {
namespace {

constexpr unsigned kGuests = 64;
constexpr unsigned kDevices = 16;
constexpr unsigned kBurst = 32;
constexpr unsigned kBursts = 50;
constexpr std::uint32_t kEvtqLog2 = 10;
constexpr Nanos kLost = 5'000'000'000;

/// The longest time between two rounds since the last take().
class Gaps {
 public:
  void tick(Nanos now) noexcept {  // the shard
    if (last_ != 0 && now - last_ > longest_.load(std::memory_order_relaxed)) {
      longest_.store(now - last_, std::memory_order_relaxed);
    }
    last_ = now;
    rounds_.store(rounds_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  }
  /// While the victim is paused: its pause is no round.
  void reset() noexcept {
    last_ = 0;
    longest_.store(0);
  }
  /// Waits for two more rounds, so that what has just happened is in it.
  Nanos take() {
    wait_for(2);
    return longest_.exchange(0);
  }
  void wait_for(unsigned rounds) const {
    const std::uint64_t until = rounds_.load(std::memory_order_acquire) + rounds;
    const Nanos start = monotonic_ns();
    while (rounds_.load(std::memory_order_acquire) < until) {
      if (monotonic_ns() - start > kLost) throw std::runtime_error("the shard does not go round");
      std::this_thread::yield();
    }
  }

 private:
  Nanos last_ = 0;
  std::atomic<Nanos> longest_{0};
  std::atomic<std::uint64_t> rounds_{0};
};

using Regions = vfio::FaultRegions<soft::SoftSys>;

/// The fault regions of a guest, whose rounds are told where there are Gaps.
class TimedRegions : public Regions {
 public:
  TimedRegions(Regions regions, Gaps* gaps) : Regions(std::move(regions)), gaps_(gaps) {}
  std::size_t housekeeping(Nanos now) noexcept {
    if (gaps_ != nullptr) gaps_->tick(now);
    return Regions::housekeeping(now);
  }

 private:
  Gaps* gaps_;
};

struct NoSink {
  static SinkCaps caps() noexcept { return {.max_batch = 63, .tlb_all = true}; }
  static SubmitResult submit(std::span<const Operation> /*ops*/) noexcept { return {0, 1, 1}; }
  static void note_asid(std::size_t /*device*/, std::uint16_t /*asid*/) noexcept {}
  static SubmitResult set_stage1(std::size_t /*device*/, const Stage1Config& /*c*/) noexcept {
    return {};
  }
};
using Engine = engine::Engine<TimedRegions, NoSink>;

template <class T>
T must(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message());
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

struct OneGuest {
  explicit OneGuest(unsigned number)
      : rig(kDevices), memory(bench::Guest::kLazy), name("guest-" + std::to_string(number)) {
    spec.name = name;
    spec.memory = {{Gpa{bench::Guest::kBase}, bench::Guest::kSize, memory.ram_, -1}};
    spec.registers = Gpa{bench::Guest::kBase};
    spec.mode = engine::RegisterMode::kTrapped;
    for (std::uint32_t i = 0; i < kDevices; ++i) {
      spec.devices.push_back({"device-" + std::to_string(i), StreamId{i}});
    }
    journal = std::make_unique<engine::Journal>(must(engine::create_journal(spec)));
    regions = std::make_unique<Regions>(rig.regions(vfio::AbiChoice::kV2));
  }
  /// Its sources are the engine's then; a guest is added once.
  void join(Engine& engine, Gaps* gaps = nullptr) {
    must(engine.add_guest(spec, TimedRegions(std::move(*regions), gaps), NoSink{}, *journal));
  }
  /// As its driver enables the event queue.
  void enable_events() const {
    memory.page_.store(viommu::Reg64::kEvtqBase, bench::Guest::kQueueAt | kEvtqLog2);
    memory.page_.store(viommu::Reg32::kEvtqProd, 0U);
    memory.page_.store(viommu::Reg32::kEvtqCons, 0U);
    memory.page_.release(viommu::Reg32::kCr0, 4U);
    until([&] { return memory.page_.acquire(viommu::Reg32::kCr0Ack) == 4; });
  }
  template <class F>
  static void until(F done) {
    const Nanos start = monotonic_ns();
    while (!done()) {
      if (monotonic_ns() - start > kLost) throw std::runtime_error("the engine does not answer");
      std::this_thread::yield();
    }
  }

  bench::SoftRig<> rig;
  bench::Guest memory;
  std::string name;
  engine::GuestSpec spec;
  std::unique_ptr<engine::Journal> journal;
  std::unique_ptr<Regions> regions;
};

double quantile(std::vector<double> samples, std::size_t percent) {
  std::ranges::sort(samples);
  return samples[std::min(samples.size() - 1, samples.size() * percent / 100)];
}

void tell(benchmark::State& state, const std::string& what, const std::vector<double>& samples) {
  state.counters[what + "_p50_ns"] = quantile(samples, 50);
  state.counters[what + "_p90_ns"] = quantile(samples, 90);
  state.counters[what + "_max_ns"] = quantile(samples, 100);
}

/// The round that takes a full burst of each device. The victim is paused while they come.
Nanos full_burst(Engine& engine, OneGuest& victim, Gaps& gaps) {
  must(engine.pause_guest(victim.name));
  for (std::uint32_t d = 0; d < kDevices; ++d) {
    for (unsigned i = 0; i < kBurst; ++i) {
      soft::DmaRequest request;
      request.iova = std::uint64_t{i + 1} << 12U;
      static_cast<void>(victim.rig.kernel().dma(d, request));
    }
  }
  const auto& page = victim.memory.page_;
  const std::uint32_t prod = page.acquire(viommu::Reg32::kEvtqProd);
  constexpr std::uint32_t kMask = (2U << kEvtqLog2) - 1;
  gaps.reset();
  must(engine.resume_guest(victim.name));
  OneGuest::until([&] {
    return ((page.acquire(viommu::Reg32::kEvtqProd) - prod) & kMask) == kBurst * kDevices;
  });
  const Nanos longest = gaps.take();
  page.release(viommu::Reg32::kEvtqCons, page.acquire(viommu::Reg32::kEvtqProd));
  return longest;
}

void measure(benchmark::State& state, engine::IdlePolicy idle) {
  std::vector<std::unique_ptr<OneGuest>> guests;
  for (unsigned i = 0; i < kGuests; ++i) guests.push_back(std::make_unique<OneGuest>(i));
  OneGuest victim(kGuests);
  victim.rig.make_fault(victim.memory, kDevices);
  Gaps gaps;
  const auto cpus = bench::usable_cpus();
  engine::ColdLane lane({cpus.front()});
  engine::EngineOptions options;
  options.idle = idle;
  Engine engine(lane, options);
  engine::Plan plan;
  plan.shards = {{cpus.back(), false, "the one"}};
  plan.housekeeping = {cpus.front()};
  std::thread core;
  must(engine.start(plan, {[&](std::vector<std::function<void()>> loops) -> Result<void> {
                             core = std::thread([&, loop = std::move(loops.front())] {
                               bench::pin_to(cpus.back());
                               loop();
                             });
                             return {};
                           },
                           [&] { core.join(); }}));
  victim.join(engine, &gaps);
  victim.enable_events();

  std::vector<double> bursts, quiet, attach, detach, took;
  for (unsigned i = 0; i < kBursts; ++i) {
    bursts.push_back(static_cast<double>(full_burst(engine, victim, gaps)));
  }
  for (auto& guest : guests) {
    (void)gaps.take();
    const Nanos start = monotonic_ns();
    guest->join(engine);
    const Nanos length = monotonic_ns() - start;
    attach.push_back(static_cast<double>(gaps.take()));
    took.push_back(static_cast<double>(length));
    const timespec pause{0, static_cast<long>(length)};
    nanosleep(&pause, nullptr);
    quiet.push_back(static_cast<double>(gaps.take()));
  }
  for (auto& guest : guests) {
    (void)gaps.take();
    must(engine.remove_guest(guest->name));
    detach.push_back(static_cast<double>(gaps.take()));
  }
  must(engine.stop());
  tell(state, "burst", bursts);
  tell(state, "quiet", quiet);
  tell(state, "attach", attach);
  tell(state, "detach", detach);
  state.counters["add_guest_p50_ns"] = quantile(took, 50);
  const double burst = quantile(bursts, 50);
  state.counters["attach_per_burst"] = quantile(attach, 50) / burst;
  state.counters["detach_per_burst"] = quantile(detach, 50) / burst;
}

void run(benchmark::State& state, engine::IdlePolicy idle) {
  if (bench::usable_cpus().size() < 2) return state.SkipWithError("needs two CPUs");
  try {
    for (auto _ : state) measure(state, idle);
  } catch (const std::runtime_error& error) {
    state.SkipWithError(error.what());
  }
}

void AttachPausing(benchmark::State& state) {
  run(state, engine::IdlePolicy::kPause);
}
/// Its shard watches descriptors, as one that may sleep does.
void AttachSleeping(benchmark::State& state) {
  run(state, engine::IdlePolicy::kSleep);
}
void once(benchmark::internal::Benchmark* b) {
  b->Iterations(1)->Unit(benchmark::kSecond);
}
BENCHMARK(AttachPausing)->Apply(once);
BENCHMARK(AttachSleeping)->Apply(once);

}  // namespace
}  // namespace faultline
