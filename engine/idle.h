// SPDX-License-Identifier: BSD-3-Clause
// hot path: what a polling core does when a round found nothing.
#pragma once

#include <time.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "kernel/base/clock.h"

namespace faultline::engine {

enum class IdlePolicy : std::uint8_t {
  kSpin,     ///< poll again at once: the least latency, the whole core
  kPause,    ///< tell the core that this is a spin loop: the default on an isolated core
  kMonitor,  ///< wait for a write to the line that work is most likely announced by (monitor.h)
  kYield,    ///< nap when nothing came for a while: the default everywhere else
  kSleep,  ///< sleep on descriptors when nothing came for a set time, and poll again from the first
           ///< event on
};

struct IdleOptions {
  IdlePolicy policy = IdlePolicy::kPause;
  Nanos quiet = 200'000;        ///< kSleep: ns without work before it sleeps
  Nanos longest = 100'000'000;  ///< kSleep: ns of one sleep; a VMM waits 300 ms for the next beat
};

[[nodiscard]] constexpr std::string_view idle_name(IdlePolicy policy) noexcept {
  switch (policy) {
    case IdlePolicy::kSpin:
      return "spin";
    case IdlePolicy::kPause:
      return "pause";
    case IdlePolicy::kMonitor:
      return "monitor";
    case IdlePolicy::kYield:
      return "yield";
    case IdlePolicy::kSleep:
      return "sleep";
  }
  return "?";
}

[[nodiscard]] constexpr std::optional<IdlePolicy> idle_from_name(std::string_view name) noexcept {
  for (const IdlePolicy p : {IdlePolicy::kSpin, IdlePolicy::kPause, IdlePolicy::kMonitor,
                             IdlePolicy::kYield, IdlePolicy::kSleep}) {
    if (idle_name(p) == name) return p;
  }
  return std::nullopt;
}

/// What to do when nobody asked for a policy.
[[nodiscard]] constexpr IdlePolicy default_idle(bool shares_its_core) noexcept {
  return shares_its_core ? IdlePolicy::kYield : IdlePolicy::kPause;
}

/// Idle rounds in a row that kYield only pauses for: what comes right after work is still seen at
/// once.
inline constexpr std::size_t kYieldAfter = 64;

/// Rest after a round without work.
///
/// idle_rounds  rounds without work in a row, this one included
/// cost         kYield sleeps for about a timer interrupt (10 to 60 µs) after kYieldAfter rounds;
/// the
///              others make no system call. Not sched_yield(2): since Linux 6.6 (EEVDF) each call
///              moves the caller's deadline a whole slice away, so that a thread that has yielded
///              often gets no turn for seconds once somebody else computes on its core (2 s
///              measured on 6.18; a guest gives its CMD_SYNC one second)
inline void rest(IdlePolicy policy, std::size_t idle_rounds = kYieldAfter + 1) noexcept {
  switch (policy) {
    case IdlePolicy::kSpin:
      return;
    case IdlePolicy::kYield:
      if (idle_rounds > kYieldAfter) {
        const timespec nap{0, 1'000};
        nanosleep(&nap, nullptr);
        return;
      }
      [[fallthrough]];
    case IdlePolicy::kPause:
    case IdlePolicy::kMonitor:  // where there is no line to watch
    case IdlePolicy::kSleep:    // until it sleeps (shard_sleep.h)
      cpu_relax();
      return;
  }
}

}  // namespace faultline::engine
