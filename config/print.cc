// SPDX-License-Identifier: BSD-3-Clause
// What is made of the table of keys for people: a file, and the page about it.
#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <numeric>

#include "config/keys.h"

namespace faultline::config {
namespace {

constexpr std::size_t kWidth = 99;

std::string number(std::uint64_t value, bool octal) {
  std::array<char, 32> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value, octal ? 8 : 10);
  return (octal ? "0o" : "") + std::string(text.data(), end.ptr);
}

std::string real(double value) {
  std::array<char, 64> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value);
  std::string out(text.data(), end.ptr);
  if (out.find_first_of(".e") == std::string::npos) out += ".0";
  return out;
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      std::array<char, 8> escape{};
      std::snprintf(escape.data(), escape.size(), "\\u%04X", byte);
      out += escape.data();
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::string list(const std::vector<unsigned>& values) {
  std::string out = "[";
  for (const unsigned v : values) out += (out.size() > 1 ? ", " : "") + std::to_string(v);
  return out + ']';
}

std::string words(std::string_view choices) {
  std::string out;
  while (!choices.empty()) {
    const std::size_t end = std::min(choices.find(' '), choices.size());
    out += (out.empty() ? "" : end == choices.size() ? " or " : ", ");
    out += quoted(choices.substr(0, end));
    choices.remove_prefix(std::min(end + 1, choices.size()));
  }
  return out;
}

std::string_view short_name(const Key& key) {
  return key.name.substr(key.name.find('.') + 1);
}

void comment(std::string& out, std::string_view text) {
  while (!text.empty()) {
    std::size_t end = text.size();
    if (end > kWidth - 2) end = text.rfind(' ', kWidth - 2);
    out += "# " + std::string(text.substr(0, end)) + '\n';
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

}  // namespace

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1);
  std::vector<std::size_t> last(b.size() + 1);
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(last.begin(), last.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const bool same = a[i - 1] == b[j - 1];
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (same ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
    before = last;
    last = row;
  }
  return last[b.size()];
}

std::string range_of(const Key& key) {
  const auto bounds = [&] {
    return number(key.least, key.octal) + " to " + number(key.most, key.octal);
  };
  if (std::holds_alternative<Flag>(key.member)) return "true or false";
  if (std::holds_alternative<Number>(key.member)) return "a whole number, " + bounds();
  if (std::holds_alternative<Real>(key.member)) return "a number, " + bounds();
  if (std::holds_alternative<List>(key.member)) return "a list of whole numbers, " + bounds();
  return key.choices.empty() ? "a text" : words(key.choices);
}

std::string value_of(const Options& options, const Key& key) {
  if (const auto* m = std::get_if<Flag>(&key.member)) return options.**m ? "true" : "false";
  if (const auto* m = std::get_if<Number>(&key.member)) return number(options.**m, key.octal);
  if (const auto* m = std::get_if<Real>(&key.member)) return real(options.**m);
  if (const auto* m = std::get_if<List>(&key.member)) return list(options.**m);
  return quoted(options.*std::get<Text>(key.member));
}

std::string to_toml(const Options& options) {
  std::string out = "# SPDX-License-Identifier: BSD-3-Clause\n";
  comment(out, "Configuration of faultlined: every key there is. (reload): SIGHUP takes it over.");
  for (const Table& table : tables()) {
    out += "\n[" + std::string(table.name) + "]\n";
    comment(out, table.doc);
    for (const Key& key : table.keys) {
      out += '\n';
      comment(out, key.doc);
      comment(out, range_of(key) + (key.reload ? " (reload)" : ""));
      out += std::string(short_name(key)) + " = " + value_of(options, key) + '\n';
    }
  }
  return out;
}

std::string to_markdown() {
  const Options defaults;
  std::string out;
  for (const Table& table : tables()) {
    out += (out.empty() ? "### `[" : "\n### `[") + std::string(table.name) + "]`\n\n" +
           std::string(table.doc) + "\n\n| key | value | default | reload | meaning |\n" +
           "|---|---|---|---|---|\n";
    for (const Key& key : table.keys) {
      out += "| `" + std::string(short_name(key)) + "` | " + range_of(key) + " | `" +
             value_of(defaults, key) + "` | " + (key.reload ? "yes" : "no") + " | " +
             std::string(key.doc) + " |\n";
    }
  }
  return out;
}

}  // namespace faultline::config
