// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <string>
#include <vector>

#include "apps/faultline/engine_host.h"
#include "apps/faultline/options.h"
#include "apps/guest/trace.h"
#include "apps/wiring/host_guest.h"
#include "engine/placement.h"
#include "kernel/base/result.h"
#include "kernel/soft/soft_kernel.h"

namespace faultline {

/// The trace that `run` plays: what --trace names, or the one that comes with the source.
///
/// errors   code kUsageError, and which file is missing or wrong
Result<guest::Trace> load_trace(const RunOptions& options);

/// The soft kernel's devices are those of the guests, in order.
soft::SoftKernelConfig kernel_config(const RunOptions& options,
                                     const std::vector<HostGuest>& guests);

EngineChoices engine_choices(const RunOptions& options);

/// One line: what this run consists of; and one for each thing that is not as it should be.
void announce(const RunOptions& options, const guest::Trace& trace, const engine::Plan& plan);

/// From now on SIGINT and SIGTERM end the run instead of the process.
void catch_interrupts();
[[nodiscard]] bool interrupted() noexcept;

}  // namespace faultline
