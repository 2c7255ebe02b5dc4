// SPDX-License-Identifier: BSD-3-Clause
#include "config/parse.h"

#include <toml++/toml.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "config/keys.h"

namespace faultline::config {
namespace {

constexpr std::size_t kFileBytes = std::size_t{1} << 20;

/// One line, however hostile what it quotes.
std::string printable(std::string_view text) {
  constexpr std::size_t kMost = 80;
  std::string out;
  for (const char c : text.substr(0, kMost)) {
    const auto byte = static_cast<unsigned char>(c);
    out += byte < 0x20 || byte == 0x7f ? '?' : c;
  }
  return text.size() > kMost ? out + "..." : out;
}

class Reader {
 public:
  explicit Reader(std::string file) : file_(std::move(file)) {}

  Parsed read(std::string_view text) {
    try {
      const toml::table root = toml::parse(text);
      for (const auto& [name, node] : root) read_table(name, node);
      if (out_.errors.empty()) check_together(root);
    } catch (const toml::parse_error& e) {
      complain(e.source(), "no TOML: " + std::string(e.description()));
    }
    return std::move(out_);
  }

 private:
  void complain(const toml::source_region& at, const std::string& what) {
    std::string line = file_ + ':' + std::to_string(at.begin.line) + ':' +
                       std::to_string(at.begin.column) + ": " + what;
    std::replace_if(
        line.begin(), line.end(),
        [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, '?');
    out_.errors.push_back(std::move(line));
  }

  void read_table(const toml::key& name, const toml::node& node) {
    for (const Table& table : tables()) {
      if (table.name != name.str()) continue;
      if (!node.is_table()) {
        complain(node.source(), std::string(table.name) + " is a table: write [" +
                                    std::string(table.name) + "], and keys below it");
        return;
      }
      for (const auto& [key, value] : *node.as_table()) read_key(table, key, value);
      return;
    }
    std::string nearest;
    std::size_t distance = std::string::npos;
    for (const Table& table : tables()) {
      nearer(name.str(), table.name, nearest, distance);
      // A key of that name whose table was forgotten is nearer than any table.
      for (const Key& key : table.keys) {
        if (key.name.substr(table.name.size() + 1) == name.str()) {
          complain(name.source(), "key '" + printable(name.str()) + "' belongs in [" +
                                      std::string(table.name) + ']');
          return;
        }
      }
    }
    complain(name.source(),
             "unknown table '" + printable(name.str()) + "': did you mean '" + nearest + "'?");
  }

  static void nearer(std::string_view asked, std::string_view known, std::string& nearest,
                     std::size_t& distance) {
    const std::size_t d = edit_distance(asked.substr(0, 64), known);
    if (d >= distance) return;
    distance = d;
    nearest = known;
  }

  void read_key(const Table& table, const toml::key& name, const toml::node& node) {
    std::string nearest;
    std::size_t distance = std::string::npos;
    for (const Key& key : table.keys) {
      const std::string_view known = key.name.substr(table.name.size() + 1);
      if (known == name.str()) {
        std::visit([&](auto member) { take(key, node, out_.options.*member); }, key.member);
        return;
      }
      nearer(name.str(), known, nearest, distance);
    }
    complain(name.source(), "unknown key '" + printable(name.str()) + "' in [" +
                                std::string(table.name) + "]: did you mean '" + nearest + "'?");
  }

  void refuse(const Key& key, const toml::node& node) {
    complain(node.source(), std::string(key.name) + " is " + range_of(key));
  }

  void take(const Key& key, const toml::node& node, bool& to) {
    if (!node.is_boolean()) return refuse(key, node);
    to = node.as_boolean()->get();
  }

  static bool whole(const Key& key, const toml::node& node, std::uint64_t& to) {
    if (!node.is_integer()) return false;
    const std::int64_t value = node.as_integer()->get();
    if (value < 0) return false;
    to = static_cast<std::uint64_t>(value);
    return to >= key.least && to <= key.most;
  }

  void take(const Key& key, const toml::node& node, std::uint64_t& to) {
    std::uint64_t value = 0;
    if (!whole(key, node, value)) return refuse(key, node);
    to = value;
  }

  void take(const Key& key, const toml::node& node, double& to) {
    if (!node.is_number()) return refuse(key, node);
    const double value = *node.value<double>();
    // Written so that NaN is refused, too.
    if (!(value >= static_cast<double>(key.least) && value <= static_cast<double>(key.most))) {
      return refuse(key, node);
    }
    to = value;
  }

  void take(const Key& key, const toml::node& node, std::string& to) {
    if (!node.is_string()) return refuse(key, node);
    const std::string& value = node.as_string()->get();
    if (value.find('\0') != std::string::npos) return refuse(key, node);
    std::string_view choices = key.choices;
    while (!choices.empty()) {
      const std::size_t end = std::min(choices.find(' '), choices.size());
      if (choices.substr(0, end) == value) break;
      choices.remove_prefix(std::min(end + 1, choices.size()));
      if (choices.empty()) return refuse(key, node);
    }
    to = value;
  }

  void take(const Key& key, const toml::node& node, std::vector<unsigned>& to) {
    if (!node.is_array()) return refuse(key, node);
    std::vector<unsigned> values;
    for (const toml::node& element : *node.as_array()) {
      std::uint64_t value = 0;
      if (!whole(key, element, value)) return refuse(key, element);
      values.push_back(static_cast<unsigned>(value));
      if (std::count(values.begin(), values.end(), values.back()) > 1) {
        complain(element.source(), std::string(key.name) + " has " + std::to_string(value) +
                                       " twice: leave one away");
        return;
      }
    }
    to = std::move(values);
  }

  /// What no key alone is wrong about; each error is told at the first key named.
  void check_together(const toml::table& root) {
    const Options& o = out_.options;
    const auto at = [&](std::string_view path) {
      const auto node = root.at_path(path);
      return node ? node.node()->source() : root.source();
    };
    // It is part of names of files and sockets.
    if (o.instance.size() > 64 ||
        !std::all_of(o.instance.begin(), o.instance.end(), [](unsigned char c) {
          return (c < 0x80 && std::isalnum(c) != 0) || c == '.' || c == '_' || c == '-';
        })) {
      complain(at("service.instance"),
               "service.instance is at most 64 letters, digits, '.', '_' and '-'");
    }
    if (!o.group.empty() && o.user.empty()) {
      complain(at("service.group"), "service.group without service.user: name the user, too");
    }
    if (o.sleep_longest_us >= o.stall_ms * 1000) {
      complain(at("idle.sleep-longest-us"),
               "idle.sleep-longest-us is no less than service.stall-ms: a sleeping shard would "
               "count as hung; sleep for less, or raise service.stall-ms");
    }
    for (const unsigned cpu : o.housekeeping) {
      if (std::count(o.cpus.begin(), o.cpus.end(), cpu) == 0) continue;
      complain(at("placement.housekeeping"), "CPU " + std::to_string(cpu) +
                                                 " is in placement.housekeeping and in "
                                                 "placement.cpus: leave it away from one");
    }
    if (!o.cpus.empty() && o.shards > o.cpus.size() && o.strict_cores) {
      complain(at("placement.shards"),
               "placement.shards is more than placement.cpus has: fewer shards, more CPUs, or "
               "strict-cores = false");
    }
  }

  std::string file_;
  Parsed out_;
};

}  // namespace

Parsed parse(std::string_view text, const std::string& file) {
  return Reader(file).read(text);
}

Parsed parse_file(const std::string& path) {
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  std::string text;
  if (in) {
    text.resize(kFileBytes + 1);
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(std::max<std::streamsize>(in.gcount(), 0)));
  }
  Parsed out;
  if (!in.eof() && text.size() <= kFileBytes) {
    out.errors.push_back(path + ": cannot be read: " + std::strerror(errno) +
                         "; --config names a file of TOML");
  } else if (text.size() > kFileBytes) {
    out.errors.push_back(path + ": is longer than 1 MiB: no configuration is");
  } else {
    return parse(text, path);
  }
  return out;
}

}  // namespace faultline::config
