// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "engine/snapshot.h"

namespace faultline::session {

/// What its VMM may know of a guest: queue depth, counters, detached or not. Added to `out`.
void describe(const engine::GuestSnapshot& guest, nlohmann::json& out);

}  // namespace faultline::session
