// SPDX-License-Identifier: BSD-3-Clause
#pragma once

namespace faultline {

/// Where the two threads of a replay by the real clock run.
struct CorePair {
  int guest = -1;  ///< -1: wherever there is room
  int engine = -1;
  bool apart = false;  ///< they are two CPUs, so that each may be polled on without a pause
};

/// The first two CPUs that this thread may use.
CorePair pick_cores() noexcept;

/// Keep the calling thread on this CPU, if that is allowed. -1: leave it alone
void pin_to(int cpu) noexcept;

}  // namespace faultline
