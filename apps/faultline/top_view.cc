// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/top_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace faultline {
namespace {

struct Page {
  int key;
  TopTable table;
  const char* word;
};
constexpr std::array kPages = std::to_array<Page>({
    {'g', TopTable::kGuests, "guests"},
    {'d', TopTable::kDevices, "devices"},
    {'s', TopTable::kShards, "shards"},
    {'t', TopTable::kStages, "stages"},
});

constexpr std::array kGuestKeys = std::to_array<SortKey>({
    {'n', Order::kName, "name"},
    {'f', Order::kFaults, "faults"},
    {'c', Order::kCommands, "commands"},
    {'e', Order::kDepth, "EVTQ"},
    {'l', Order::kLatency, "latency"},
    {'b', Order::kCuts, "cuts"},
    {'w', Order::kWaits, "waits"},
});
constexpr std::array kDeviceKeys = std::to_array<SortKey>({
    {'n', Order::kName, "name"},
    {'f', Order::kFaults, "faults"},
    {'l', Order::kLost, "lost"},
});
constexpr std::array kShardKeys = std::to_array<SortKey>({
    {'n', Order::kName, "number"},
    {'b', Order::kBusy, "busy"},
    {'w', Order::kWork, "work"},
});
constexpr std::array kStageKeys = std::to_array<SortKey>({
    {'n', Order::kName, "name"},
    {'e', Order::kBurstCycles, "events"},
    {'c', Order::kCommandCycles, "commands"},
});

/// What is chosen stands in brackets.
std::string key_text(int key, const char* word, bool chosen) {
  const char letter = static_cast<char>(key);
  return chosen ? fmt::format("[{} {}]", letter, word) : fmt::format(" {} {} ", letter, word);
}

/// Where there is no room for words.
std::string short_key(int key, bool chosen) {
  const char letter = static_cast<char>(key);
  return chosen ? fmt::format("[{}]", letter) : fmt::format(" {} ", letter);
}

std::string page_line(const TopChoice& choice, std::size_t rows, std::size_t room,
                      std::size_t width) {
  std::string out = "keys ";
  for (const Page& page : kPages) out += key_text(page.key, page.word, page.table == choice.table);
  out += rows > room
             ? fmt::format("  j k rows {}-{} of {}", choice.first + 1, choice.first + room, rows)
             : "  j k scroll";
  out += "   q quit";
  if (out.size() <= width) return out;
  out = "keys ";
  for (const Page& page : kPages) out += short_key(page.key, page.table == choice.table);
  out += rows > room ? fmt::format(" j k {}-{}/{}", choice.first + 1, choice.first + room, rows)
                     : " j k";
  return out + " q quit";
}

std::string sort_line(const TopChoice& choice, std::size_t width) {
  std::string out = "sort ";
  for (const SortKey& k : sort_keys(choice.table)) {
    out += key_text(k.key, k.word, k.order == choice.order());
  }
  if (out.size() <= width) return out;
  out = "sort ";
  for (const SortKey& k : sort_keys(choice.table)) {
    out += k.order == choice.order() ? key_text(k.key, k.word, true) : short_key(k.key, false);
  }
  return out;
}

Lines chosen_table(const metrics::Moment& before, const metrics::Moment& now,
                   const TopChoice& choice, std::size_t width) {
  switch (choice.table) {
    case TopTable::kDevices:
      return device_table(before, now, choice.order(), width);
    case TopTable::kShards:
      return shard_table(before, now, choice.order(), width);
    case TopTable::kStages:
      return stage_table(now, choice.order(), width);
    case TopTable::kGuests:
      break;
  }
  return guest_table(before, now, choice.order(), width);
}

}  // namespace

std::span<const SortKey> sort_keys(TopTable table) noexcept {
  switch (table) {
    case TopTable::kDevices:
      return kDeviceKeys;
    case TopTable::kShards:
      return kShardKeys;
    case TopTable::kStages:
      return kStageKeys;
    case TopTable::kGuests:
      break;
  }
  return kGuestKeys;
}

bool press(TopChoice& choice, int key) noexcept {
  if (key == 'q') return false;
  if (key == 'j') ++choice.first;
  if (key == 'k' && choice.first > 0) --choice.first;
  for (const Page& page : kPages) {
    if (page.key != key) continue;
    choice.table = page.table;
    choice.first = 0;
    return true;
  }
  for (const SortKey& k : sort_keys(choice.table)) {
    if (k.key == key) choice.orders[static_cast<std::size_t>(choice.table)] = k.order;
  }
  return true;
}

Lines top_lines(const metrics::Moment& before, const metrics::Moment& now, TopChoice& choice,
                std::size_t height, std::size_t width) {
  constexpr std::size_t kHead = 4;  // service, sessions, two of keys
  constexpr std::size_t kFewRows = 2;
  Lines table = chosen_table(before, now, choice, width);
  const std::size_t rows = table.size() - 1;
  const bool low = height < kHead + 1 + kFewRows;
  const std::size_t head = low ? 1 : kHead;
  const std::size_t room = height > head + 1 ? height - head - 1 : 0;
  choice.first = room == 0 ? 0 : std::min(choice.first, rows - std::min(rows, room));

  Lines out = service_lines(before, now);
  if (low) {
    out.resize(1);
  } else {
    out.push_back(page_line(choice, rows, room, width));
    out.push_back(sort_line(choice, width));
  }
  if (!choice.trouble.empty()) out[0] = choice.trouble;
  table.erase(table.begin() + 1, table.begin() + 1 + static_cast<std::ptrdiff_t>(choice.first));
  for (std::string& line : table) out.push_back(std::move(line));
  if (out.size() > height) out.resize(height);
  for (std::string& line : out) {
    line = plain(line);
    if (line.size() > width) line.resize(width);
  }
  return out;
}

}  // namespace faultline
