// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "apps/faultline/status_tables.h"

namespace faultline {

enum class TopTable : std::uint8_t { kGuests, kDevices, kShards, kStages };

/// A key that sorts a table.
struct SortKey {
  int key;
  Order order;
  const char* word;
};
std::span<const SortKey> sort_keys(TopTable table) noexcept;

/// What the keys have chosen.
struct TopChoice {
  TopTable table = TopTable::kGuests;
  std::array<Order, 4> orders{};  ///< of each table
  std::size_t first = 0;          ///< rows of the table scrolled over
  std::string trouble;            ///< shown in the place of the first line; empty: none

  [[nodiscard]] Order order() const noexcept { return orders[static_cast<std::size_t>(table)]; }
};

/// One key of the keyboard; one that means nothing on this page does nothing. returns  false: end
bool press(TopChoice& choice, int key) noexcept;

/// The screen: at most `height` lines of at most `width` characters, for any size, all of printable
/// ASCII. A terminal too low for anything else has its first line and the table.
///
/// choice  `first` becomes no more than what brings the last row into sight
/// cost    one pass over both moments
Lines top_lines(const metrics::Moment& before, const metrics::Moment& now, TopChoice& choice,
                std::size_t height, std::size_t width);

}  // namespace faultline
