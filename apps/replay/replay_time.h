// SPDX-License-Identifier: BSD-3-Clause
// hot path: how time passes in a replay.
#pragma once

#include "apps/guest/player.h"
#include "kernel/base/clock.h"

namespace faultline {

/// Time that passes only where somebody says that something takes some. The vCPUs whose moment has
/// come meanwhile ring at that moment, so what they wrote is in the queue when a submission
/// returns.
///
/// thread  one for everything
class VirtualTime {
 public:
  [[nodiscard]] Nanos now() const noexcept { return now_; }
  /// For what only looks at the time.
  [[nodiscard]] const Nanos* clock() const noexcept { return &now_; }

  /// From here on these vCPUs live in it. nullptr: none
  void set_player(guest::Player* player) noexcept { player_ = player; }

  /// Let it be `moment`, at least now().
  void until(Nanos moment) noexcept {
    while (player_ != nullptr) {
      const Nanos next = player_->next_ring(now_);
      if (next > moment) break;
      now_ = next;
      (void)player_->step(now_, true);
    }
    now_ = moment;
  }

 private:
  Nanos now_ = 1;  // 0 means never in some places
  guest::Player* player_ = nullptr;
};

/// Real time: until() keeps the core busy.
class WallTime {
 public:
  [[nodiscard]] Nanos now() const noexcept { return monotonic_ns(); }
  void until(Nanos moment) const noexcept {
    while (monotonic_ns() < moment) cpu_relax();
  }
};

/// VirtualTime as the clock of a duty.
struct VirtualClock {
  const Nanos* now = nullptr;
  Nanos operator()() const noexcept { return *now; }
};

}  // namespace faultline
