// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <string>

#include "kernel/base/result.h"

namespace faultline {

/// `faultline status`: print what the service on that socket is; the rates of one second.
///
/// json   its own answer as it is, at once
Result<void> status_command(const std::string& socket, bool json);

}  // namespace faultline
