// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "apps/session/guest_parts.h"
#include "engine/snapshot.h"

namespace faultline::session {

/// What it consists of, as its VMM said: devices, memory, budget. Added to `out`.
void describe(const GuestParts& parts, nlohmann::json& out);

/// What its VMM may know of a guest: queue depth, counters, detached or not. Added to `out`.
void describe(const engine::GuestSnapshot& guest, nlohmann::json& out);

}  // namespace faultline::session
