// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <vector>

#include "apps/faultline/host_guest.h"
#include "apps/faultline/options.h"
#include "apps/guest/trace.h"
#include "kernel/base/result.h"

namespace faultline {

/// A run whose engine is a process of its own that is killed again and again: kernel, guests, audit
/// and the supervisor that starts it anew live on.
///
/// returns, errors   as run()
Result<int> run_chaos(const RunOptions& options, const guest::Trace& trace,
                      std::vector<HostGuest>& hosts);

}  // namespace faultline
