// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace faultline::daemon {

inline constexpr std::string_view kIndexHead = "faultline-index 1\n";
inline constexpr std::size_t kKeptNameBytes = 200;

/// A name of a kept descriptor and the slot it stands for.
struct IndexEntry {
  std::string name;
  std::uint32_t slot = 0;  ///< never 0
};

/// What an index says, by name. Lines are `SLOT NAME` (the slot in hex) and ` NAME`, which takes
/// the name away; one that is cut off by a kill, or malformed, counts for nothing.
std::vector<IndexEntry> parse_index(std::string_view text);

/// 1 to 200 of [A-Za-z0-9._/-].
bool valid_kept_name(std::string_view name) noexcept;

std::string hex(std::uint32_t value);

/// The number in a name of the store: 'k' and a slot, 'i' and an index, in hex.
std::optional<std::uint32_t> numbered(char kind, std::string_view name) noexcept;

}  // namespace faultline::daemon
