// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <optional>
#include <vector>

#include "apps/faultline/description.h"
#include "apps/faultline/options.h"
#include "apps/faultline/result_file.h"
#include "apps/guest/trace.h"
#include "apps/wiring/host_guest.h"
#include "apps/wiring/wiring.h"
#include "kernel/base/result.h"
#include "kernel/soft/soft_process_sys.h"

namespace faultline {

/// What an engine's process is told of these guests.
///
/// kernel   SoftProcess::socket()
/// kept     what outlives the engines
Description describe(int kernel, const EngineChoices& choices, const std::vector<HostGuest>& hosts,
                     const HostSide<soft::SoftProcessSys>& kept);

/// A run whose engine is a process of its own that is killed again and again: kernel, guests, audit
/// and the supervisor that starts it anew live on.
///
/// json             takes the result, where there is one
/// returns, errors   as run()
Result<int> run_chaos(const RunOptions& options, const guest::Trace& trace,
                      std::vector<HostGuest>& hosts, std::optional<ResultFile>& json);

}  // namespace faultline
