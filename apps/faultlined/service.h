// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <string>

#include "config/options.h"
#include "kernel/base/result.h"

namespace faultline::daemon {

/// The service of one node, from its start to its end: SIGTERM, SIGINT, or a peer that asked for
/// it.
///
/// options   of the configuration, with what the command line said on top
/// file      where they came from, for SIGHUP; empty: nowhere
/// returns   it has drained: nothing polls, what guests cannot lose is with the keeper
/// errors    one line: what it could not start with
/// thread    the main one, before there are others; blocks SIGTERM, SIGINT and SIGHUP for all
Result<void> serve(config::Options options, const std::string& file);

}  // namespace faultline::daemon
