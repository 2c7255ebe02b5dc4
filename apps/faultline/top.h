// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <string>

#include "kernel/base/result.h"

namespace faultline {

/// `faultline top`: the service's tables on the whole terminal, every second anew, until q.
///
/// errors   stdout is no terminal; no service is there at the start. One that goes away later is
///          waited for
Result<void> top_command(const std::string& socket);

}  // namespace faultline
