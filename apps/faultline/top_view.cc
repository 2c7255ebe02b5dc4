// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/top_view.h"

#include <algorithm>

namespace faultline {
namespace {

constexpr const char* kKeys =
    "g guests  d devices  s shards  t stages   sort: n name  f faults  c commands  e EVTQ  l "
    "latency   j k scroll   q quit";

}  // namespace

bool press(TopChoice& choice, int key) noexcept {
  const auto show = [&choice](TopTable table) {
    choice.table = table;
    choice.first = 0;
  };
  switch (key) {
    case 'q':
      return false;
    case 'g':
      show(TopTable::kGuests);
      break;
    case 'd':
      show(TopTable::kDevices);
      break;
    case 's':
      show(TopTable::kShards);
      break;
    case 't':
      show(TopTable::kStages);
      break;
    case 'n':
      choice.order = Order::kName;
      break;
    case 'f':
      choice.order = Order::kFaults;
      break;
    case 'c':
      choice.order = Order::kCommands;
      break;
    case 'e':
      choice.order = Order::kDepth;
      break;
    case 'l':
      choice.order = Order::kLatency;
      break;
    case 'j':
      ++choice.first;
      break;
    case 'k':
      if (choice.first > 0) --choice.first;
      break;
    default:
      break;
  }
  return true;
}

Lines top_lines(const metrics::Moment& before, const metrics::Moment& now, const TopChoice& choice,
                std::size_t height, std::size_t width) {
  Lines out;
  if (!choice.trouble.empty()) out.push_back(choice.trouble);
  for (std::string& line : service_lines(before, now)) out.push_back(std::move(line));
  out.emplace_back(kKeys);
  Lines table = choice.table == TopTable::kGuests    ? guest_table(before, now, choice.order)
                : choice.table == TopTable::kDevices ? device_table(before, now, choice.order)
                : choice.table == TopTable::kShards  ? shard_table(before, now)
                                                     : stage_table(now);
  const std::size_t rows = table.size() - 1;
  const std::size_t first = std::min(choice.first, rows == 0 ? 0 : rows - 1);
  table.erase(table.begin() + 1, table.begin() + 1 + static_cast<std::ptrdiff_t>(first));
  for (std::string& line : table) out.push_back(std::move(line));
  if (out.size() > height) out.resize(height);
  for (std::string& line : out) {
    if (line.size() > width) line.resize(width);
  }
  return out;
}

}  // namespace faultline
