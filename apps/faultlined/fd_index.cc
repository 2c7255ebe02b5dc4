// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultlined/fd_index.h"

#include <array>
#include <charconv>
#include <functional>
#include <map>
#include <system_error>

namespace faultline::daemon {
namespace {

std::optional<std::uint32_t> from_hex(std::string_view text) noexcept {
  std::uint32_t value = 0;
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value, 16);
  if (error != std::errc() || at != end || value == 0) return std::nullopt;
  return value;
}

}  // namespace

std::string hex(std::uint32_t value) {
  std::array<char, 8> text{};
  return {text.data(), std::to_chars(text.data(), text.data() + text.size(), value, 16).ptr};
}

std::optional<std::uint32_t> numbered(char kind, std::string_view name) noexcept {
  if (name.empty() || name.front() != kind) return std::nullopt;
  return from_hex(name.substr(1));
}

bool valid_kept_name(std::string_view name) noexcept {
  return !name.empty() && name.size() <= kKeptNameBytes &&
         name.find_first_not_of(
             "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
             "._/-") == std::string_view::npos;
}

std::vector<IndexEntry> parse_index(std::string_view text) {
  std::map<std::string, std::uint32_t, std::less<>> names;
  if (text.substr(0, kIndexHead.size()) != kIndexHead) return {};
  text.remove_prefix(kIndexHead.size());
  for (std::size_t end = 0; (end = text.find('\n')) != std::string_view::npos;) {
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    const std::size_t gap = line.find(' ');
    const std::string_view name = gap == std::string_view::npos ? "" : line.substr(gap + 1);
    if (!valid_kept_name(name)) continue;
    if (gap == 0) {
      if (const auto it = names.find(name); it != names.end()) names.erase(it);
    } else if (const auto slot = from_hex(line.substr(0, gap))) {
      names.insert_or_assign(std::string(name), *slot);
    }
  }
  std::vector<IndexEntry> entries;
  entries.reserve(names.size());
  for (const auto& [name, slot] : names) entries.push_back({name, slot});
  return entries;
}

}  // namespace faultline::daemon
