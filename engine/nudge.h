// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <pthread.h>

#include "kernel/base/clock.h"

namespace faultline::engine {

/// A shard that has not begun a round for so long hangs in a call: longer than any sleep
/// (idle.sleep-longest-us).
inline constexpr Nanos kHangNs = 300'000'000;

/// How a polling thread is taken out of a system call that blocks it.
///
/// The descriptors that a VMM passes are files that it has, too: it can make an eventfd block that
/// the service had made non-blocking, and fill it. The write (or read) of the shard then hangs, and
/// every guest of that shard with it. A signal whose handler does nothing ends the call with EINTR,
/// and whoever made it never uses that descriptor again.
///
/// The signal is SIGUSR2, without SA_RESTART.

/// Install the handler, once for the process. thread: any
void take_nudges() noexcept;

/// thread  any, while that one exists; take_nudges() was before
void nudge(pthread_t thread) noexcept;

}  // namespace faultline::engine
