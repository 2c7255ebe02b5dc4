// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <string>

#include "kernel/base/result.h"

namespace faultline {

/// `faultline drain`: ask the service to finish what is in flight and end; wait until it has.
///
/// limit_s   seconds to wait
/// errors    it refuses; ETIMEDOUT: it is still there
Result<void> drain_command(const std::string& socket, unsigned limit_s);

}  // namespace faultline
