// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <string>
#include <vector>

namespace faultline::session {

/// Guests that are not as the engine's snapshot shows them, by name.
struct GuestNames {
  std::vector<std::string> made;  ///< put together by a VMM and not started: not in any snapshot
  std::vector<std::string> lingering;  ///< without a session
};

}  // namespace faultline::session
