// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include "apps/guest/trace.h"
#include "apps/replay/options.h"
#include "apps/replay/report.h"
#include "kernel/base/result.h"

namespace faultline {

/// What replay() refuses before it starts.
///
/// errors   one line: an option out of range, or a command that is illegal on the virtual SMMU
Result<void> check_replay(const guest::Trace& trace, const ReplayOptions& options);

/// Play a recorded trace in a closed loop against the engine: one guest without devices, its
/// driver, the engine's two duties, and a sink that only takes its time.
///
/// A vCPU rings its next doorbell when the CMD_SYNC it waits for was seen complete; different vCPUs
/// go on at once. What concerns everything is played first, alone. Commands about streams succeed
/// without an operation, since the guest has no devices.
///
/// errors   what check_replay() refuses; no memory; the engine stopped or let a CMD_SYNC wait for
///          ever
/// thread   blocks; with ReplayClock::kWall it starts two threads, pinned to the first two CPUs
/// that
///          the caller may use
Result<ReplayReport> replay(const guest::Trace& trace, const ReplayOptions& options);

}  // namespace faultline
