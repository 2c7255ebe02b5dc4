// SPDX-License-Identifier: BSD-3-Clause
// hot path: what a polling core asks of its work.
#pragma once

#include <concepts>
#include <cstddef>

#include "engine/budget.h"
#include "kernel/base/clock.h"

namespace faultline::engine {

/// One unit of polling work.
///
/// round(now)  do what is due, bounded; returns the work done, 0 = idle
/// quiet()     optional: nothing is in flight that a later round has to finish (asked when
///             draining, and before a sleep)
///
/// and, all optional, for a shard that sleeps:
///
/// wake_fds()          an array of descriptors that are readable when there may be work; -1: none
/// drain_signals(now)  take back what they signal; every round from then on finds what it was for
/// longest_sleep()     ns that the duty may be left alone; 0: it has to be polled all the time, as
///                     has a duty that does not say
///
/// and for one that waits for a write to a line:
///
/// watched()           the WatchedLine that most likely announces the duty's next work
template <class D>
concept Duty = requires(D& d, Nanos now) {
  { d.round(now) }
  noexcept->std::same_as<std::size_t>;
};

/// A duty whose round may block the core, at most once, by asking the host.
///
/// take_submitted()     whether the round that has just returned did
/// owner()              the guest, the same for all its duties; also of a duty that never submits
/// note_foreign_wait()  it had work in a round right behind a submission of another owner
template <class D>
concept SubmittingDuty = Duty<D> && requires(D& d) {
  { d.take_submitted() }
  noexcept->std::same_as<Submitted>;
};

}  // namespace faultline::engine
