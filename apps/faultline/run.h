// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include "apps/faultline/options.h"
#include "kernel/base/result.h"

namespace faultline {

/// `faultline run`: the whole path on this machine until the time is over or Ctrl-C.
///
/// returns  the exit status: 0 the audit is clean, 1 it is not
/// errors   one line; code kUsageError: what was asked for makes no sense (exit status 2)
Result<int> run(const RunOptions& options);

}  // namespace faultline
