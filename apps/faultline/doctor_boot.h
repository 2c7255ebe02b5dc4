// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <string>
#include <vector>

#include "apps/faultline/host.h"

namespace faultline {

// How a host comes to boot with other options: the file and line that have them, or, where its
// kernel was built without what an option is for, another kernel. One line each.

/// what   "add WORDS to", "take WORDS out of … in"
[[nodiscard]] std::string on_command_line(const Host& host, const std::string& what);

/// Nothing but what is put there runs on these CPUs.
[[nodiscard]] std::string isolate(const Host& host, const std::vector<unsigned>& cpus);
/// No timer's tick on them, and no RCU callbacks.
[[nodiscard]] std::string make_tickless(const Host& host, const std::vector<unsigned>& cpus);
[[nodiscard]] std::string take_callbacks(const Host& host, const std::vector<unsigned>& cpus);

}  // namespace faultline
