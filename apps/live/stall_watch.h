// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <atomic>
#include <thread>

#include "kernel/base/clock.h"

namespace faultline::live {

/// Records how long this machine leaves a thread of normal priority without a core that has done
/// nothing to deserve it: it asks for 1 ms of sleep again and again, and notes how much later than
/// that it comes back. A run that fails while the machine stalled says nothing of the engine.
///
/// thread   worst(): any
class StallWatch {
 public:
  StallWatch();
  ~StallWatch();
  StallWatch(const StallWatch&) = delete;
  StallWatch& operator=(const StallWatch&) = delete;

  /// The longest so far, ns.
  [[nodiscard]] Nanos worst() const noexcept { return worst_.load(std::memory_order_relaxed); }

 private:
  std::atomic<Nanos> worst_{0};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace faultline::live
