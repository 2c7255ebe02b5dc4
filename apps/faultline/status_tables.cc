// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/status_tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <tuple>
#include <utility>
#include <vector>

#include "apps/faultline/table.h"

namespace faultline {
namespace {

using engine::DeviceSnapshot;
using engine::EventDeviceCounters;
using engine::GuestSnapshot;
using metrics::Moment;
using metrics::per_second;

// Of a name at most; one that was longer is cut.
constexpr std::size_t kNameWidth = 20;
constexpr std::size_t kDeviceWidth = 20;

const char* backend_name(session::Backend backend) {
  switch (backend) {
    case session::Backend::kVfio:
      return "vfio";
    case session::Backend::kIommufd:
      return "iommufd";
    case session::Backend::kSoft:
      break;
  }
  return "soft";
}

std::uint64_t faults(const EventDeviceCounters& e) {
  return e.delivered + e.discarded + e.dropped_full + e.untranslatable + e.pages_folded +
         e.pages_retried;
}
std::uint64_t faults(const GuestSnapshot& g) {
  std::uint64_t sum = 0;
  for (const DeviceSnapshot& d : g.devices) sum += faults(d.events);
  return sum;
}
std::uint64_t lost(const EventDeviceCounters& e) {
  return e.dropped_full + e.untranslatable + e.lost_exact + e.lost_possible;
}

const DeviceSnapshot* find_device(const GuestSnapshot* guest, const std::string& name) {
  if (guest == nullptr) return nullptr;
  for (const DeviceSnapshot& d : guest->devices) {
    if (d.name == name) return &d;
  }
  return nullptr;
}

std::string count(std::uint64_t n, const char* what) {
  return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s");
}

/// Its two largest units.
std::string uptime(Nanos ns) {
  const std::uint64_t s = ns / 1'000'000'000;
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{} m {} s", s / 60, s % 60);
  if (s < 86400) return fmt::format("{} h {} m", s / 3600, s / 60 % 60);
  return fmt::format("{} d {} h", s / 86400, s / 3600 % 24);
}

std::string whole(double value) {
  return fmt::format("{:.0f}", value);
}
std::string percent(double share) {
  return fmt::format("{:.1f}%", share * 100);
}

/// Descending by the key; equals, and all of them by name, as they come after name.
struct Row {
  std::pair<std::string, std::string> name;
  double key = 0;
  Cells cells;
};

Lines table(std::span<const Column> columns, std::vector<Row> rows, std::size_t width) {
  std::ranges::stable_sort(rows, [](const Row& a, const Row& b) {
    return std::tie(b.key, a.name) < std::tie(a.key, b.name);
  });
  std::vector<Cells> cells;
  for (Row& row : rows) cells.push_back(std::move(row.cells));
  return grid(columns, cells, width);
}

std::string state_of(const GuestSnapshot& g, const session::GuestNames& names) {
  const bool lingers = std::ranges::find(names.lingering, g.name) != names.lingering.end();
  return g.detached ? "detached" : lingers ? "lingers" : g.paused ? "paused" : "served";
}

constexpr std::array kShardColumns = std::to_array<Column>({
    {"shard", 5, 0, true},
    {"CPU", 4, 1},
    {"CPU use", 7, 2},
    {"busy", 6, 0},
    {"idle", 6, 3},
    {"asleep", 6, 4},
    {"rounds/s", 10, 7},
    {"work/s", 9, 5},
    {"submit/s", 8, 6},
    {"", 0, 8, true},
});

constexpr std::array kGuestColumns = std::to_array<Column>({
    {"guest", 8, 0, true},
    {"state", 6, 7, true},
    {"faults/s", 8, 1},
    {"cmds/s", 7, 2},
    {"SYNC/s", 7, 12},
    {"EVTQ", 9, 3},
    {"overfl", 6, 4},
    {"io/SYNC", 7, 9},
    {"inval", 5, 10},
    {"cmdcut", 6, 5},
    {"reccut", 6, 6},
    {"waits", 6, 11},
    {"pub p50", 8, 15},
    {"pub p99", 8, 13},
    {"SYNC p50", 8, 14},
    {"SYNC p99", 8, 8},
});

constexpr std::array kDeviceColumns = std::to_array<Column>({
    {"guest", 8, 0, true},
    {"device", 12, 0, true},
    {"vSID", 6, 3},
    {"faults/s", 8, 1},
    {"delivered", 10, 4},
    {"discarded", 9, 5},
    {"lost", 7, 2},
    {"page req", 9, 6},
    {"answered", 9, 7},
});

constexpr std::array kStageColumns = std::to_array<Column>({
    {"guest", 8, 0, true},
    {"cycles/burst: poll", 18, 1},
    {"transcode", 9, 2},
    {"publish", 7, 3},
    {"commit", 6, 4},
    {"cycles/command: fetch", 21, 5},
    {"merge", 6, 6},
    {"submit", 6, 7},
    {"sync", 6, 8},
});

}  // namespace

Lines service_lines(const Moment& before, const Moment& now) {
  std::size_t devices = 0;
  for (const GuestSnapshot& g : now.engine.guests) devices += g.devices.size();
  const std::uint64_t n = now.sessions.lingering;
  const std::string lingering =
      n == 0 ? "" : ", " + count(n, "guest") + (n == 1 ? " lingers" : " linger");
  return {
      fmt::format("service   node {}, backend {}, up {}; {}, {}, {}", now.node,
                  backend_name(now.backend), uptime(now.uptime_ns),
                  count(now.engine.guests.size(), "guest"), count(devices, "device"),
                  count(now.engine.shards.size(), "shard")),
      fmt::format("sessions  {} open, {} accepted, {} refused; {:.0f} requests/s, {} refused; "
                  "{} lost{}, {} re-attached",
                  now.sessions.sessions, now.sessions.accepted, now.sessions.refused_peers,
                  per_second(before.sessions.requests, now.sessions.requests, now.now - before.now),
                  now.sessions.refused_requests, count(now.sessions.lost_vmms, "VMM"), lingering,
                  count(now.sessions.reattached, "guest"))};
}

Lines shard_table(const Moment& before, const Moment& now, Order order, std::size_t width) {
  std::vector<Row> rows;
  const Nanos time = now.now - before.now;
  for (std::size_t i = 0; i < now.engine.shards.size(); ++i) {
    const engine::ShardSnapshot& s = now.engine.shards[i];
    const engine::ShardCounters was = i < before.engine.shards.size()
                                          ? before.engine.shards[i].counters
                                          : engine::ShardCounters{};
    const bool ran = s.counters.rounds != was.rounds;
    const double asleep = std::min(1.0, per_second(was.slept_ns, s.counters.slept_ns, time) / 1e9);
    // Cycles are counted while it is awake; the three shares are of all the time.
    const double awake = ran ? 1 - asleep : 0;
    const double busy = metrics::busy_share(was, s.counters) * awake;
    const double work = per_second(was.work, s.counters.work, time);
    // A shard that sleeps looks every 100 ms.
    const char* note = !ran && time >= 500'000'000 ? "  does not poll"
                       : s.shared                  ? "  shares its CPU"
                                                   : "";
    rows.push_back(
        {.name = {"", fmt::format("{:06}", i)},
         .key = order == Order::kBusy   ? busy
                : order == Order::kWork ? work
                                        : 0,
         .cells = {std::to_string(i), std::to_string(s.cpu), percent(awake), percent(busy),
                   percent(awake - busy), percent(asleep),
                   whole(per_second(was.rounds, s.counters.rounds, time)), whole(work),
                   whole(per_second(was.submissions, s.counters.submissions, time)), note}});
  }
  return table(kShardColumns, std::move(rows), width);
}

Lines guest_table(const Moment& before, const Moment& now, Order order, std::size_t width) {
  std::vector<Row> rows;
  const Nanos time = now.now - before.now;
  for (const GuestSnapshot& g : now.engine.guests) {
    const GuestSnapshot* found = find_guest(before, g.name);
    const GuestSnapshot& was = found != nullptr ? *found : g;
    const double fault_rate = per_second(faults(was), faults(g), time);
    const double command_rate = per_second(was.commands.commands, g.commands.commands, time);
    const double command_cuts =
        per_second(was.commands.commands_cut, g.commands.commands_cut, time);
    const double record_cuts = per_second(was.events.records_cut, g.events.records_cut, time);
    const double waits = per_second(was.commands.foreign_waits, g.commands.foreign_waits, time) +
                         per_second(was.events.foreign_waits, g.events.foreign_waits, time);
    const std::uint64_t p99 = g.sync_ns.percentile(0.99);
    rows.push_back(
        {.name = {g.name, ""},
         .key = order == Order::kFaults     ? fault_rate
                : order == Order::kCommands ? command_rate
                : order == Order::kDepth    ? g.evtq_depth
                : order == Order::kLatency  ? static_cast<double>(p99)
                : order == Order::kCuts     ? command_cuts + record_cuts
                : order == Order::kWaits    ? waits
                                            : 0,
         .cells = {
             shown(g.name, kNameWidth), state_of(g, now.names), whole(fault_rate),
             whole(command_rate),
             whole(per_second(was.commands.syncs_completed, g.commands.syncs_completed, time)),
             fmt::format("{}/{}", g.evtq_depth, g.evtq_size), std::to_string(g.events.overflows),
             fmt::format("{:.2f}", metrics::ioctls_per_sync(g.commands)),
             fmt::format("{:.2f}", metrics::over_invalidation(g)), whole(command_cuts),
             whole(record_cuts), whole(waits), duration(g.publish_ns.percentile(0.5)),
             duration(g.publish_ns.percentile(0.99)), duration(g.sync_ns.percentile(0.5)),
             duration(p99)}});
  }
  for (const std::string& name : now.names.made) {
    rows.push_back({.name = {name, ""}, .key = 0, .cells = {shown(name, kNameWidth), "made"}});
    rows.back().cells.resize(kGuestColumns.size());
  }
  return table(kGuestColumns, std::move(rows), width);
}

Lines device_table(const Moment& before, const Moment& now, Order order, std::size_t width) {
  std::vector<Row> rows;
  const Nanos time = now.now - before.now;
  for (const GuestSnapshot& g : now.engine.guests) {
    const GuestSnapshot* was = find_guest(before, g.name);
    for (const DeviceSnapshot& d : g.devices) {
      const DeviceSnapshot* old = find_device(was, d.name);
      const EventDeviceCounters& e = d.events;
      const double rate = old == nullptr ? 0 : per_second(faults(old->events), faults(e), time);
      rows.push_back(
          {.name = {g.name, d.name},
           .key = order == Order::kFaults ? rate
                  : order == Order::kLost ? static_cast<double>(lost(e))
                                          : 0,
           .cells = {shown(g.name, kNameWidth), shown(d.name, kDeviceWidth),
                     fmt::format("{:#x}", d.vsid.value), whole(rate), std::to_string(e.delivered),
                     std::to_string(e.discarded), std::to_string(lost(e)),
                     std::to_string(e.page_requests), std::to_string(e.pages_answered)}});
    }
  }
  return table(kDeviceColumns, std::move(rows), width);
}

Lines stage_table(const Moment& now, Order order, std::size_t width) {
  std::vector<Row> rows;
  const auto each = [](std::uint64_t cycles, std::uint64_t of) {
    return of == 0 ? 0.0 : static_cast<double>(cycles) / static_cast<double>(of);
  };
  for (const GuestSnapshot& g : now.engine.guests) {
    const engine::EventStageCycles& e = g.event_stages;
    const engine::CommandStageCycles& c = g.command_stages;
    const std::array burst = {each(e.poll, e.bursts), each(e.transcode, e.bursts),
                              each(e.publish, e.bursts), each(e.commit, e.bursts)};
    const std::array command = {each(c.fetch, c.commands), each(c.merge, c.commands),
                                each(c.submit, c.commands), each(c.sync, c.commands)};
    Row row{.name = {g.name, ""}, .key = 0, .cells = {shown(g.name, kNameWidth)}};
    for (const double cycles : burst) {
      row.cells.push_back(whole(cycles));
      if (order == Order::kBurstCycles) row.key += cycles;
    }
    for (const double cycles : command) {
      row.cells.push_back(whole(cycles));
      if (order == Order::kCommandCycles) row.key += cycles;
    }
    rows.push_back(std::move(row));
  }
  return table(kStageColumns, std::move(rows), width);
}

std::string status_text(const Moment& before, const Moment& now) {
  std::string out;
  for (const Lines& table : {service_lines(before, now), shard_table(before, now),
                             guest_table(before, now), device_table(before, now)}) {
    if (!out.empty()) out += '\n';
    for (const std::string& line : table) out += line + '\n';
  }
  return out;
}

}  // namespace faultline
