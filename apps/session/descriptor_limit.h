// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>

#include "apps/session/guest_parts.h"
#include "apps/session/request.h"
#include "kernel/base/result.h"

namespace faultline::session {

/// Descriptors that a guest with these parts costs the service. Each counts twice: from `start` on
/// the engine has one of its own.
[[nodiscard]] std::uint64_t descriptors_of(const GuestParts& parts) noexcept;

/// May a request bring the descriptors that came with it?
///
/// has     of all guests of its user, by descriptors_of()
/// most    that they may have
/// errors  one line with the numbers and the key of the configuration
[[nodiscard]] Result<void> check_room(const Request& request, unsigned uid, std::uint64_t has,
                                      std::uint64_t most);

}  // namespace faultline::session
