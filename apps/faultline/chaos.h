// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <optional>
#include <vector>

#include "apps/faultline/host_guest.h"
#include "apps/faultline/options.h"
#include "apps/faultline/result_file.h"
#include "apps/guest/trace.h"
#include "kernel/base/result.h"

namespace faultline {

/// A run whose engine is a process of its own that is killed again and again: kernel, guests, audit
/// and the supervisor that starts it anew live on.
///
/// json             takes the result, where there is one
/// returns, errors   as run()
Result<int> run_chaos(const RunOptions& options, const guest::Trace& trace,
                      std::vector<HostGuest>& hosts, std::optional<ResultFile>& json);

}  // namespace faultline
