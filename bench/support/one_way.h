// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <thread>
#include <utility>
#include <vector>

#include "bench/support/floor.h"
#include "bench/support/interleave.h"
#include "kernel/base/clock.h"
#include "kernel/base/histogram.h"
#include "kernel/base/units.h"

namespace faultline::bench {

/// Times from a moment on one core to a moment on another, one event at a time, by the cycle
/// counter of both, the difference of which is measured first. The producer starts an event some µs
/// after the consumer has begun to wait for it.
///
/// thread   made and used by the consumer; the producer is a thread of this object
class OneWay {
 public:
  /// One event, run by the producer. returns  cycles() at the moment that counts
  using Produce = std::uint64_t (*)(void* context);

  OneWay(unsigned producer, unsigned consumer) : rate_(calibrate_ticks()) {
    pin_to(consumer);
    thread_ = std::thread([this, producer] {
      pin_to(producer);
      serve();
    });
    while (!started_.load(std::memory_order_acquire)) cpu_relax();
    measure_offset();
  }
  OneWay(const OneWay&) = delete;
  OneWay& operator=(const OneWay&) = delete;
  ~OneWay() {
    stop_.store(true, std::memory_order_release);
    thread_.join();
  }

  /// One event after the other until `most` are measured or `limit` is over.
  ///
  /// wait     waits for the event and takes it. returns  cycles() when it was in hand
  /// samples  ns of each one are recorded there. returns  their median, ns
  template <class Wait>
  double run(Produce produce, void* context, std::size_t most, Nanos limit, Wait wait,
             Histogram& samples) {
    produce_ = produce;
    context_ = context;
    std::vector<double> taken;
    const Nanos start = monotonic_ns();
    while (taken.size() < most && (taken.empty() || monotonic_ns() - start < limit)) {
      // Pairs with the producer's acquire: produce_ and context_ are whole.
      asked_.store(++number_, std::memory_order_release);
      const std::uint64_t seen = wait();
      // Pairs with the producer's release: stamp_ is of this event.
      while (done_.load(std::memory_order_acquire) != number_) cpu_relax();
      const double ns =
          static_cast<double>(static_cast<std::int64_t>(seen - stamp_)) * rate_.ns_per_tick;
      taken.push_back(ns);
      samples.record(ns > 0 ? static_cast<std::uint64_t>(ns) : 0);
    }
    return spread_of(std::move(taken)).median;
  }

  /// How far the producer's counter is ahead of the consumer's, ns. Corrected in all samples.
  [[nodiscard]] double offset_ns() const noexcept { return offset_ * rate_.ns_per_tick; }

 private:
  /// The counters of two cores need not agree: from the fastest of many round trips, of which each
  /// half takes the same time.
  void measure_offset() {
    std::int64_t least = std::numeric_limits<std::int64_t>::max();
    for (std::uint64_t i = 1; i <= 20'000; ++i) {
      const std::uint64_t before = cycles();
      ping_.store(i, std::memory_order_release);
      std::uint64_t there = 0;
      while ((there = pong_.load(std::memory_order_acquire)) == last_pong_) cpu_relax();
      const std::uint64_t after = cycles();
      last_pong_ = there;
      const auto trip = static_cast<std::int64_t>(after - before);
      if (trip >= least) continue;
      least = trip;
      offset_ = static_cast<double>(static_cast<std::int64_t>(there - before)) -
                static_cast<double>(trip) / 2;
    }
    ping_.store(kNoMore, std::memory_order_release);
  }

  void answer_pings() {
    std::uint64_t last = 0;
    started_.store(true, std::memory_order_release);
    for (;;) {
      const std::uint64_t now = ping_.load(std::memory_order_acquire);
      if (now == kNoMore) return;
      if (now == last) continue;
      last = now;
      pong_.store(cycles(), std::memory_order_release);
    }
  }

  void serve() {
    answer_pings();
    std::uint64_t last = 0;
    std::uint64_t random = 1;
    while (!stop_.load(std::memory_order_relaxed)) {
      const std::uint64_t asked = asked_.load(std::memory_order_acquire);
      if (asked == last) {
        cpu_relax();
        continue;
      }
      random = random * 6364136223846793005U + 1442695040888963407U;
      const std::uint64_t until = cycles() + 2000 + (random >> 54U) * 4;
      while (cycles() < until) cpu_relax();
      stamp_ = produce_(context_);
      last = asked;
      done_.store(asked, std::memory_order_release);
    }
  }

  static constexpr std::uint64_t kNoMore = ~std::uint64_t{0};

  TickRate rate_;
  double offset_ = 0;  ///< producer's counter - consumer's
  std::uint64_t last_pong_ = 0;
  Produce produce_ = nullptr;
  void* context_ = nullptr;
  std::uint64_t number_ = 0;
  alignas(2 * kCacheLine) std::atomic<std::uint64_t> ping_{0};
  alignas(2 * kCacheLine) std::atomic<std::uint64_t> pong_{0};
  alignas(2 * kCacheLine) std::atomic<bool> started_{false};
  alignas(2 * kCacheLine) std::atomic<std::uint64_t> asked_{0};
  alignas(2 * kCacheLine) std::atomic<std::uint64_t> done_{0};
  alignas(2 * kCacheLine) std::uint64_t stamp_ = 0;
  alignas(2 * kCacheLine) std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace faultline::bench
