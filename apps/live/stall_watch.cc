// SPDX-License-Identifier: BSD-3-Clause
#include "apps/live/stall_watch.h"

#include <ctime>

namespace faultline::live {

StallWatch::StallWatch() {
  thread_ = std::thread([this] {
    constexpr Nanos kAsked = 1'000'000;
    Nanos before = monotonic_ns();
    while (!stop_.load(std::memory_order_relaxed)) {
      const timespec t{0, static_cast<long>(kAsked)};
      ::nanosleep(&t, nullptr);
      const Nanos now = monotonic_ns();
      if (now - before > kAsked + worst()) {
        worst_.store(now - before - kAsked, std::memory_order_relaxed);
      }
      before = now;
    }
  });
}

StallWatch::~StallWatch() {
  stop_.store(true, std::memory_order_relaxed);
  thread_.join();
}

}  // namespace faultline::live
