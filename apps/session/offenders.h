// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <sys/types.h>

#include <map>

#include "kernel/base/clock.h"

namespace faultline::session {

/// Users of whom a VMM did what only one that means harm does: they are put aside for a time, in
/// which no VMM of theirs may connect. The sessions that they have go on.
///
/// now     CLOCK_MONOTONIC, of the moment of the call
/// thread  one
class Offenders {
 public:
  static constexpr Nanos kAside = 60'000'000'000;

  /// From now on for kAside, also where it is aside already.
  void put_aside(uid_t uid, Nanos now) { until_[uid] = now + kAside; }

  /// Let those go whose time is over. Until then they are aside, however late that is.
  void expire(Nanos now) {
    std::erase_if(until_, [now](const auto& entry) { return entry.second <= now; });
  }

  [[nodiscard]] bool aside(uid_t uid) const { return until_.contains(uid); }
  /// Seconds that are left, at least one. Requires aside().
  [[nodiscard]] unsigned seconds_left(uid_t uid, Nanos now) const {
    constexpr Nanos kSecond = 1'000'000'000;
    const Nanos until = until_.at(uid);
    return until > now ? static_cast<unsigned>((until - now + kSecond - 1) / kSecond) : 1;
  }

 private:
  std::map<uid_t, Nanos> until_;
};

}  // namespace faultline::session
