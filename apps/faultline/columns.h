// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace faultline {

using Lines = std::vector<std::string>;
using Cells = std::vector<std::string>;

/// Wide enough for every column.
inline constexpr std::size_t kAnyWidth = ~std::size_t{0};

/// One column of a table; it grows with what stands in it.
struct Column {
  std::string_view name;
  std::size_t least;  ///< characters, whatever stands in it
  unsigned rank = 0;  ///< where not all fit, the highest is left out first; 0 stays
  bool left = false;  ///< aligned
};

/// A header and the rows, at most `width` characters each.
///
/// rows   as many cells as there are columns
Lines grid(std::span<const Column> columns, const std::vector<Cells>& rows, std::size_t width);

/// Text of other people's on a terminal: what is no printable ASCII is a question mark, one for
/// each character of UTF-8. So a byte is a column, and no byte moves the cursor.
std::string plain(std::string_view text);

/// plain(), at most `width` characters; a + at its end: it was longer.
std::string shown(std::string_view text, std::size_t width);

}  // namespace faultline
