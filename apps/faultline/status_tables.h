// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <string>
#include <vector>

#include "apps/metrics/moment.h"

namespace faultline {

/// What rows are sorted by. Names ascend, everything else descends.
enum class Order : std::uint8_t { kName, kFaults, kCommands, kDepth, kLatency };

// Tables of a service between two moments, a header first. Rates are of the time between them, and
// 0 of what was not there before. Pure; cost: one pass over both moments.
using Lines = std::vector<std::string>;

Lines service_lines(const metrics::Moment& before, const metrics::Moment& now);
Lines shard_table(const metrics::Moment& before, const metrics::Moment& now);
Lines guest_table(const metrics::Moment& before, const metrics::Moment& now, Order order);
Lines device_table(const metrics::Moment& before, const metrics::Moment& now, Order order);
Lines stage_table(const metrics::Moment& now);

/// All but the stages, as `faultline status` prints them.
std::string status_text(const metrics::Moment& before, const metrics::Moment& now);

}  // namespace faultline
