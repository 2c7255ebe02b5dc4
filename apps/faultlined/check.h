// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <string>
#include <vector>

#include "config/options.h"

namespace faultline::daemon {

/// What is wrong with a configuration beyond what its file alone tells: an address of metrics or a
/// socket's path that is none, users and groups that nobody is. Opens nothing.
///
/// own_socket   the service makes its socket itself
/// returns      one line each
[[nodiscard]] std::vector<std::string> check(const config::Options& options, bool own_socket);

}  // namespace faultline::daemon
