// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "apps/faultline/columns.h"
#include "apps/metrics/moment.h"

namespace faultline {

/// What rows are sorted by. Names and numbers of shards ascend, everything else descends.
enum class Order : std::uint8_t {
  kName,
  kFaults,         ///< guests, devices
  kCommands,       ///< guests
  kDepth,          ///< guests
  kLatency,        ///< guests: of CMD_SYNC, 99th percentile
  kCuts,           ///< guests
  kWaits,          ///< guests
  kLost,           ///< devices
  kBusy,           ///< shards
  kWork,           ///< shards
  kBurstCycles,    ///< stages
  kCommandCycles,  ///< stages
};

// Tables of a service between two moments, a header first. Rates are of the time between them, and
// 0 of what was not there before. Columns that do not fit in `width` are left out, the least
// telling first. An order that a table does not have is that by name. Pure; cost: one pass over
// both moments.

Lines service_lines(const metrics::Moment& before, const metrics::Moment& now);
Lines shard_table(const metrics::Moment& before, const metrics::Moment& now,
                  Order order = Order::kName, std::size_t width = kAnyWidth);
Lines guest_table(const metrics::Moment& before, const metrics::Moment& now,
                  Order order = Order::kName, std::size_t width = kAnyWidth);
Lines device_table(const metrics::Moment& before, const metrics::Moment& now,
                   Order order = Order::kName, std::size_t width = kAnyWidth);
Lines stage_table(const metrics::Moment& now, Order order = Order::kName,
                  std::size_t width = kAnyWidth);

/// All but the stages, as `faultline status` prints them.
std::string status_text(const metrics::Moment& before, const metrics::Moment& now);

}  // namespace faultline
