// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "config/options.h"

namespace faultline::config {

using Flag = bool Options::*;
using Number = std::uint64_t Options::*;
using Real = double Options::*;
using Text = std::string Options::*;
using List = std::vector<unsigned> Options::*;

/// One key of the configuration file. All that is known of keys is in the table of these: parsing,
/// printing and doc/configuration.md are made of it.
struct Key {
  std::string_view name;  ///< table.key
  std::variant<Flag, Number, Real, Text, List> member;
  std::string_view doc;
  bool reload = false;      ///< SIGHUP takes a new value over
  std::uint64_t least = 0;  ///< of numbers and of a list's elements
  std::uint64_t most = 1;
  std::string_view choices = {};  ///< of a text: words with a space between; empty: any text
  bool octal = false;             ///< how a number is printed
};

/// One table of the file, in its order.
struct Table {
  std::string_view name;
  std::string_view doc;
  std::span<const Key> keys;
};

[[nodiscard]] std::span<const Table> tables() noexcept;

/// The key of this full name, or null.
[[nodiscard]] const Key* find_key(std::string_view name) noexcept;

/// Letters to insert, drop, replace or swap with their neighbour to make one of the other.
[[nodiscard]] std::size_t edit_distance(std::string_view a, std::string_view b);

/// "a boolean", "a whole number from 1 to 64", …
[[nodiscard]] std::string range_of(const Key& key);

/// As it is written in the file.
[[nodiscard]] std::string value_of(const Options& options, const Key& key);

/// The whole file that says this, every key with its comment.
[[nodiscard]] std::string to_toml(const Options& options);

/// Every key as tables of Markdown.
[[nodiscard]] std::string to_markdown();

/// Take over from `next` what a running service can.
///
/// returns  keys that differ and were left as they are
std::vector<std::string> reload(Options& now, const Options& next);

}  // namespace faultline::config
