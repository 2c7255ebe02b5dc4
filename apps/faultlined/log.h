// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <string_view>

namespace faultline::daemon {

enum class Level : std::uint8_t { kError = 3, kWarning = 4, kNotice = 5, kInfo = 6 };

/// One line to stderr: with its priority in front as systemd reads it (sd-daemon(3)), or, on a
/// terminal, as people do.
///
/// thread   any
void log(Level level, std::string_view line);

}  // namespace faultline::daemon
