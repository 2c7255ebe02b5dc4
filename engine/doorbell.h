// SPDX-License-Identifier: BSD-3-Clause
// hot path: how the registers of one guest wake a shard that sleeps.
#pragma once

#include <array>
#include <cerrno>

#include "engine/bell.h"
#include "engine/guest_spec.h"
#include "kernel/base/clock.h"
#include "kernel/base/shared.h"

namespace faultline::engine {

/// Trapped: the VMM rings the doorbell after every write. Exitless: nobody does, and the registers
/// are looked at every GuestSpec::register_poll_ns; unless the VMM can arm:
///
///   the shard is about to sleep   it rings arm_eventfd
///   the VMM                       makes the page read-only for the guest, rings armed_eventfd
///   the shard                     wakes, takes that back, looks at the registers once more, and
///                                 may sleep as if the guest were trapped
///   the guest writes              it exits; the VMM makes the page writable, makes the write
///                                 visible, rings the doorbell
///
/// The VMM does the second and the fourth under one lock. An `armed` that a ring of the doorbell
/// has overtaken is not believed; one that is believed wrongly has a doorbell behind it that is
/// still readable. tests/model/arm.pml is this for spin.
///
/// thread  the shard that owns the guest's CommandDuty, but where it says any
class Doorbell {
 public:
  explicit Doorbell(const GuestSpec& spec) noexcept
      : rung_(spec.doorbell_eventfd),
        arm_(spec.arm_eventfd),
        armed_(spec.armed_eventfd),
        poll_(spec.register_poll_ns) {}

  /// The VMM made one of its eventfds block. thread: any
  [[nodiscard]] bool deaf() const noexcept { return load_relaxed(deaf_); }

  [[nodiscard]] std::array<int, 2> wake_fds() const noexcept { return {rung_, armed_}; }

  /// Before the look. Asks for what a sleep of any length needs and is not there.
  void drain() noexcept {
    // In this order: what armed before it rang is then both here, or neither.
    const bool rung = take(rung_);
    if (!arms()) return;
    // What an earlier engine was told does not count.
    const bool answered = take(armed_) && asked_;
    is_armed_ = !rung && (answered || is_armed_);
    if (answered) asked_ = false;
    if (is_armed_ || asked_) return;
    asked_ = true;
    if (!deaf_ && !Bell::ring(arm_)) note_failure();
  }

  /// ns that the registers may be left alone.
  [[nodiscard]] Nanos longest_sleep() const noexcept {
    const bool rings = rung_ >= 0 && !deaf_ && (!arms() || is_armed_);
    return rings ? ~Nanos{0} : poll_;
  }

 private:
  bool take(int fd) noexcept {
    if (fd < 0 || deaf_) return false;
    const bool had = Bell::drain(fd);
    if (!had) note_failure();
    return had;
  }
  /// A call that cannot sleep never ends with EINTR.
  void note_failure() noexcept {
    if (errno == EINTR) [[unlikely]] {
      store_relaxed(deaf_, true);
    }
  }

  [[nodiscard]] bool arms() const noexcept { return arm_ >= 0; }

  int rung_;   ///< eventfd; -1: nobody rings
  int arm_;    ///< eventfd; -1: the VMM cannot arm
  int armed_;  ///< eventfd
  Nanos poll_;
  bool deaf_ = false;  ///< the VMM made one of them block (nudge.h): they are let alone
  bool asked_ = false;
  bool is_armed_ = false;
};

}  // namespace faultline::engine
