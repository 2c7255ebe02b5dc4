// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <string>
#include <vector>

#include "engine/placement.h"

namespace faultline::engine {

/// Have hwloc's lstopo draw a topology with the CPUs of a plan coloured: polling, their idle SMT
/// siblings, housekeeping, and vCPUs.
///
/// xml     the topology's file; empty: this machine
/// file    what lstopo can write; its ending says which kind (.svg always, .png and .pdf with the
///         graphical lstopo)
/// errors  the topology cannot be loaded; lstopo is missing or fails
Result<void> draw_placement(const std::string& xml, const Plan& plan,
                            const std::vector<GuestPlacement>& guests, const std::string& file);

}  // namespace faultline::engine
