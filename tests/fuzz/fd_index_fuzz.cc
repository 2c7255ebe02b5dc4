// SPDX-License-Identifier: BSD-3-Clause
// The index of the fd store, cut off and damaged, against a reader of its own.
#include "apps/faultlined/fd_index.h"

#include <sstream>
#include <utility>
#include <vector>

#include "tests/fuzz/input.h"

namespace faultline::fuzz {
namespace {

constexpr const char* kNames[] = {"a", "a/b", "web/journal", "a b", "", "web/device.0"};

/// Lines near the format, so that the fuzzer starts inside it.
std::string lines(Input& in) {
  std::string text = in.byte() % 16 == 0 ? "" : std::string(daemon::kIndexHead);
  while (!in.empty()) {
    const std::uint8_t kind = in.byte();
    if (kind % 4 == 3) {
      text.push_back(static_cast<char>(in.byte()));
      continue;
    }
    if (kind % 4 != 0) text += daemon::hex(kind % 4 == 1 ? in.byte() : in.u32());
    text += " ";
    text += kNames[in.byte() % std::size(kNames)];
    text += "\n";
  }
  return text;
}

bool plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
         c == '_' || c == '/' || c == '-';
}

/// The same rules, a character at a time, into a list.
std::vector<std::pair<std::string, std::uint64_t>> naive(const std::string& text) {
  std::vector<std::pair<std::string, std::uint64_t>> out;
  const std::string head(daemon::kIndexHead);
  if (text.compare(0, head.size(), head) != 0) return out;
  std::istringstream in(text.substr(head.size()));
  for (std::string line; std::getline(in, line) && !in.eof();) {
    std::size_t at = 0;
    std::uint64_t slot = 0;
    bool good = true;
    for (; at < line.size() && line[at] != ' '; ++at) {
      const char c = line[at];
      const bool digit = c >= '0' && c <= '9';
      const char low = static_cast<char>(c | 0x20);
      good = good && (digit || (low >= 'a' && low <= 'f')) && slot < (std::uint64_t{1} << 28U);
      if (good) slot = slot * 16 + static_cast<unsigned>(digit ? c - '0' : low - 'a' + 10);
    }
    if (!good || at == line.size() || (at > 0 && slot == 0)) continue;
    const std::string name = line.substr(at + 1);
    good = !name.empty() && name.size() <= 200;
    for (const char c : name) good = good && plain(c);
    if (!good) continue;
    std::erase_if(out, [&](const auto& entry) { return entry.first == name; });
    if (at > 0) out.emplace_back(name, slot);
  }
  return out;
}

void run(Input in) {
  const std::string text = lines(in);
  const auto entries = daemon::parse_index(text);
  const auto expected = naive(text);
  hold(entries.size() == expected.size(), "number of names");
  for (const auto& [name, slot] : expected) {
    bool found = false;
    for (const auto& e : entries) found |= e.name == name && e.slot == slot;
    hold(found, "a name and its slot");
  }
  for (const auto& e : entries) {
    hold(daemon::valid_kept_name(e.name) && e.slot != 0, "an entry that could not be kept");
    hold(daemon::numbered('k', "k" + daemon::hex(e.slot)) == e.slot, "a slot's name");
  }
}

}  // namespace
}  // namespace faultline::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  faultline::fuzz::run({data, size});
  return 0;
}
