// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <string>

#include "apps/faultline/status_tables.h"

namespace faultline {

enum class TopTable : std::uint8_t { kGuests, kDevices, kShards, kStages };

/// What the keys have chosen.
struct TopChoice {
  TopTable table = TopTable::kGuests;
  Order order = Order::kName;
  std::size_t first = 0;  ///< rows of the table scrolled over
  std::string trouble;    ///< shown in the first line; empty: none
};

/// One key of the keyboard. returns  false: end
bool press(TopChoice& choice, int key) noexcept;

/// The screen: at most `height` lines of at most `width` columns, for any size.
///
/// cost  one pass over both moments
Lines top_lines(const metrics::Moment& before, const metrics::Moment& now, const TopChoice& choice,
                std::size_t height, std::size_t width);

}  // namespace faultline
