// SPDX-License-Identifier: BSD-3-Clause
#include "bench/support/floor.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <thread>

#include "kernel/base/histogram.h"
#include "kernel/base/units.h"

namespace faultline::bench {

TickRate calibrate_ticks() {
  std::array<double, 9> rates{};
  for (double& rate : rates) {
    const Nanos t0 = monotonic_ns();
    const std::uint64_t c0 = cycles();
    while (monotonic_ns() - t0 < 5'000'000) cpu_relax();
    const std::uint64_t c1 = cycles();
    rate = static_cast<double>(monotonic_ns() - t0) / static_cast<double>(c1 - c0);
  }
  std::ranges::sort(rates);
  const double median = rates[rates.size() / 2];
  return {median, (rates.back() - rates.front()) / median};
}

bool pin_to(unsigned cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  return pthread_setaffinity_np(pthread_self(), sizeof set, &set) == 0;
}

std::vector<unsigned> usable_cpus() {
  std::vector<unsigned> out;
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return out;
  for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) out.push_back(cpu);
  }
  return out;
}

Jitter measure_jitter(unsigned cpu, Nanos how_long) {
  constexpr Nanos kGap = 1'000;
  Jitter result{.cpu = cpu};
  std::thread([&] {
    result.pinned = pin_to(cpu);
    const auto pauses = std::make_unique<Histogram>();
    const Nanos start = monotonic_ns();
    Nanos last = start;
    Nanos stolen = 0;
    while (last - start < how_long) {
      const Nanos now = monotonic_ns();
      if (now - last > kGap) {
        pauses->record(now - last);
        stolen += now - last;
      }
      last = now;
    }
    result.seconds = static_cast<double>(last - start) / 1e9;
    result.gaps = pauses->count();
    result.stolen = static_cast<double>(stolen) / static_cast<double>(last - start);
    result.p50 = pauses->percentile(0.5);
    result.p99 = pauses->percentile(0.99);
    result.max = pauses->max();
  }).join();
  return result;
}

Handover measure_handover(unsigned from, unsigned to, Nanos how_long) {
  struct Lines {
    alignas(2 * kCacheLine) std::atomic<std::uint64_t> there{0};
    alignas(2 * kCacheLine) std::atomic<std::uint64_t> back{0};
    alignas(2 * kCacheLine) std::atomic<bool> stop{false};
  };
  const auto lines = std::make_unique<Lines>();
  std::thread answer([&] {
    pin_to(to);
    std::uint64_t seen = 0;
    while (!lines->stop.load(std::memory_order_relaxed)) {
      // Acquire and release pair with those of the asking side, both ways.
      const std::uint64_t now = lines->there.load(std::memory_order_acquire);
      if (now != seen) {
        seen = now;
        lines->back.store(now, std::memory_order_release);
      } else if (from == to) {
        std::this_thread::yield();
      }
    }
  });
  Handover result{.from = from, .to = to};
  std::thread([&] {
    pin_to(from);
    const TickRate rate = calibrate_ticks();
    const auto ticks = std::make_unique<Histogram>();
    const Nanos start = monotonic_ns();
    for (std::uint64_t i = 1; monotonic_ns() - start < how_long; ++i) {
      const std::uint64_t before = cycles();
      lines->there.store(i, std::memory_order_release);
      while (lines->back.load(std::memory_order_acquire) != i) {
        if (from == to) std::this_thread::yield();
      }
      ticks->record(cycles() - before);
    }
    result.rounds = ticks->count();
    result.p50_ns = static_cast<double>(ticks->percentile(0.5)) * rate.ns_per_tick / 2;
    result.p99_ns = static_cast<double>(ticks->percentile(0.99)) * rate.ns_per_tick / 2;
    lines->stop = true;
  }).join();
  answer.join();
  return result;
}

}  // namespace faultline::bench
