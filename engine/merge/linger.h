// SPDX-License-Identifier: BSD-3-Clause
// hot path: whether to wait for the owners of SYNCs just released.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "engine/merge/counters.h"
#include "engine/merge/options.h"
#include "kernel/base/clock.h"
#include "kernel/base/shared.h"

namespace faultline::merge {

/// Group commit alone lets the vCPUs fall into two halves that alternate: while one half's SYNCs
/// are in the kernel, the other half's collect. Waiting a little after a release lets the released
/// ones come back and go with the others.
///
/// A wait lasts a quarter of what a submission takes, and ends when as many SYNCs are held as could
/// come. kAuto stops waiting after kPatience waits that gained nothing, and tries again later.
class Linger {
 public:
  explicit Linger(LingerMode mode) noexcept : mode_(mode) {}

  /// A submission took so long.
  void submitted(Nanos took) noexcept { took_ = took_ == 0 ? took : took_ - took_ / 8 + took / 8; }
  /// A SYNC is held, `held` in all.
  void sync(std::size_t held, Nanos now) noexcept {
    if (until_ == 0) return;
    // What comes at the moment of the first would have gone without waiting.
    if (base_ == 0 || now == base_at_) {
      base_ = held;
      base_at_ = now;
    }
  }
  /// SYNCs were told done while `held` others are held.
  void released(std::size_t syncs, std::size_t held, Nanos now, MergeCounters& counters) noexcept {
    if (syncs < 2 || mode_ == LingerMode::kOff || took_ < kFraction) return;
    over(base_, counters);  // one in which nothing at all came gained nothing
    if (mode_ == LingerMode::kAuto && credit_ == 0) {
      if (++skipped_ < kRetry) return;
      skipped_ = 0;
      credit_ = 2;
    }
    until_ = now + std::min(took_ / kFraction, kLongest);
    expected_ = held + syncs;
    base_ = held;
    base_at_ = now;
    tally(counters.lingers);
  }
  [[nodiscard]] bool waiting(std::size_t held, Nanos now) const noexcept {
    return now < until_ && held < expected_;
  }
  /// A submission starts with `held` SYNCs.
  void over(std::size_t held, MergeCounters& counters) noexcept {
    if (until_ == 0) return;
    until_ = 0;
    if (held > base_) {
      tally(counters.linger_gains, held - base_);
      credit_ = std::min(credit_ + 2, kPatience);
    } else if (credit_ != 0) {
      --credit_;
    }
  }
  void clear() noexcept { until_ = 0; }

 private:
  static constexpr Nanos kFraction = 4;
  static constexpr Nanos kLongest = 100'000;
  static constexpr unsigned kPatience = 8;
  static constexpr unsigned kRetry = 64;  ///< releases between tries

  LingerMode mode_;
  Nanos took_ = 0;   ///< moving average
  Nanos until_ = 0;  ///< 0: not lingering
  Nanos base_at_ = 0;
  std::size_t base_ = 0;  ///< SYNCs that would have gone without waiting
  std::size_t expected_ = 0;
  unsigned credit_ = kPatience;
  unsigned skipped_ = 0;
};

}  // namespace faultline::merge
