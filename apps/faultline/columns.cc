// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/columns.h"

#include <algorithm>

namespace faultline {
namespace {

constexpr std::size_t kGap = 1;

/// Which columns are shown: until the rest fits, that of the highest rank goes, of equals the last.
std::vector<bool> fitting(std::span<const Column> columns, const std::vector<std::size_t>& widths,
                          std::size_t width) {
  std::vector<bool> kept(columns.size(), true);
  std::size_t total = 0;
  for (const std::size_t w : widths) total += w + kGap;
  while (total > kGap && total - kGap > width) {
    std::size_t worst = columns.size();
    for (std::size_t i = 0; i < columns.size(); ++i) {
      if (!kept[i] || columns[i].rank == 0) continue;
      if (worst == columns.size() || columns[i].rank >= columns[worst].rank) worst = i;
    }
    if (worst == columns.size()) break;
    kept[worst] = false;
    total -= widths[worst] + kGap;
  }
  return kept;
}

}  // namespace

Lines grid(std::span<const Column> columns, const std::vector<Cells>& rows, std::size_t width) {
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < columns.size(); ++i) {
    std::size_t w = std::max(columns[i].least, columns[i].name.size());
    for (const Cells& row : rows) w = std::max(w, row[i].size());
    widths.push_back(w);
  }
  const std::vector<bool> kept = fitting(columns, widths, width);
  const auto line = [&](const auto& cell) {
    std::string out;
    for (std::size_t i = 0; i < columns.size(); ++i) {
      if (!kept[i]) continue;
      const std::string_view text = cell(i);
      const std::string space(widths[i] - text.size(), ' ');
      if (!out.empty()) out.append(kGap, ' ');
      if (!columns[i].left) out += space;
      out += text;
      if (columns[i].left) out += space;
    }
    out.erase(out.find_last_not_of(' ') + 1);
    if (out.size() > width) out.resize(width);
    return out;
  };
  Lines out{line([&](std::size_t i) { return columns[i].name; })};
  for (const Cells& row : rows) {
    out.push_back(line([&](std::size_t i) { return std::string_view(row[i]); }));
  }
  return out;
}

std::string plain(std::string_view text) {
  std::string out;
  bool inside = false;  // of a character of UTF-8
  for (const char c : text) {
    const bool ascii = static_cast<unsigned char>(c) < 0x80;
    const bool follows = (static_cast<unsigned char>(c) & 0xc0U) == 0x80;
    if (!(follows && inside)) out += c >= ' ' && c <= '~' ? c : '?';
    inside = !ascii;
  }
  return out;
}

std::string shown(std::string_view text, std::size_t width) {
  std::string out = plain(text);
  if (out.size() > width && width > 0) out = out.substr(0, width - 1) + "+";
  return out;
}

}  // namespace faultline
