// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/status_tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "apps/faultline/table.h"

namespace faultline {
namespace {

using engine::DeviceSnapshot;
using engine::EventDeviceCounters;
using engine::GuestSnapshot;
using metrics::Moment;
using metrics::per_second;

/// Guests of other people are called as they like; a name must not break the table.
std::string shown(const std::string& name, std::size_t width) {
  std::string out;
  for (const char c : name) out += c >= ' ' && c <= '~' ? c : '?';
  return out.size() > width ? out.substr(0, width - 1) + "+" : out;
}

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

struct Row {
  std::string name;
  double key = 0;
  std::string line;
};

Lines sorted(std::string header, std::vector<Row> rows, bool by_name) {
  std::ranges::stable_sort(rows, [by_name](const Row& a, const Row& b) {
    if (!by_name && a.key != b.key) return a.key > b.key;
    return a.name < b.name;
  });
  Lines out{std::move(header)};
  for (Row& row : rows) out.push_back(std::move(row.line));
  return out;
}

std::string state_of(const GuestSnapshot& g) {
  return g.detached ? "detached" : g.paused ? "paused" : "served";
}

}  // namespace

Lines service_lines(const Moment& before, const Moment& now) {
  std::size_t devices = 0;
  for (const GuestSnapshot& g : now.engine.guests) devices += g.devices.size();
  return {
      fmt::format("service   node {}, backend {}, up {}; {} guests, {} devices, {} shards",
                  now.node, backend_name(now.backend),
                  duration(static_cast<std::uint64_t>(std::max<Nanos>(now.uptime_ns, 0))),
                  now.engine.guests.size(), devices, now.engine.shards.size()),
      fmt::format("sessions  {} open, {} accepted, {} refused; {:.0f} requests/s, {} refused; "
                  "{} VMMs lost, {} guests re-attached",
                  now.sessions.sessions, now.sessions.accepted, now.sessions.refused_peers,
                  per_second(before.sessions.requests, now.sessions.requests, now.now - before.now),
                  now.sessions.refused_requests, now.sessions.lost_vmms, now.sessions.reattached)};
}

Lines shard_table(const Moment& before, const Moment& now) {
  Lines out{"shard  CPU    busy    idle  asleep     rounds/s    work/s"};
  const Nanos time = now.now - before.now;
  for (std::size_t i = 0; i < now.engine.shards.size(); ++i) {
    const engine::ShardSnapshot& s = now.engine.shards[i];
    const engine::ShardCounters was = i < before.engine.shards.size()
                                          ? before.engine.shards[i].counters
                                          : engine::ShardCounters{};
    const double busy = metrics::busy_share(was, s.counters);
    const bool ran = s.counters.rounds != was.rounds;
    const double asleep = std::min(1.0, per_second(was.slept_ns, s.counters.slept_ns, time) / 1e9);
    out.push_back(fmt::format(
        "{:<5} {:>4} {:>6.1f}% {:>6.1f}% {:>6.1f}% {:>12.0f} {:>9.0f}{}", i, s.cpu, busy * 100,
        ran ? (1 - busy) * 100 : 0.0, asleep * 100, per_second(was.rounds, s.counters.rounds, time),
        per_second(was.work, s.counters.work, time), s.shared ? "  shares its CPU" : ""));
  }
  return out;
}

Lines guest_table(const Moment& before, const Moment& now, Order order) {
  std::vector<Row> rows;
  const Nanos time = now.now - before.now;
  for (const GuestSnapshot& g : now.engine.guests) {
    const GuestSnapshot* found = find_guest(before, g.name);
    const GuestSnapshot& was = found != nullptr ? *found : g;
    const double fault_rate = per_second(faults(was), faults(g), time);
    const double command_rate = per_second(was.commands.commands, g.commands.commands, time);
    const std::uint64_t p99 = g.sync_ns.percentile(0.99);
    Row row;
    row.name = g.name;
    row.key = order == Order::kFaults     ? fault_rate
              : order == Order::kCommands ? command_rate
              : order == Order::kDepth    ? g.evtq_depth
                                          : static_cast<double>(p99);
    row.line = fmt::format(
        "{:<12} {:<8} {:>9.0f} {:>9.0f} {:>8.0f} {:>11} {:>6} {:>8.2f} {:>6.2f} {:>8} {:>8} {:>8} "
        "{:>8}",
        shown(g.name, 12), state_of(g), fault_rate, command_rate,
        per_second(was.commands.syncs_completed, g.commands.syncs_completed, time),
        fmt::format("{}/{}", g.evtq_depth, g.evtq_size), g.events.overflows,
        metrics::ioctls_per_sync(g.commands), metrics::over_invalidation(g),
        duration(g.publish_ns.percentile(0.5)), duration(g.publish_ns.percentile(0.99)),
        duration(g.sync_ns.percentile(0.5)), duration(p99));
    rows.push_back(std::move(row));
  }
  return sorted(
      "guest        state     faults/s    cmds/s   SYNC/s        EVTQ  overfl  io/SYNC  "
      "inval  pub p50  pub p99 SYNC p50 SYNC p99",
      std::move(rows), order == Order::kName);
}

Lines device_table(const Moment& before, const Moment& now, Order order) {
  std::vector<Row> rows;
  const Nanos time = now.now - before.now;
  for (const GuestSnapshot& g : now.engine.guests) {
    const GuestSnapshot* was = find_guest(before, g.name);
    for (const DeviceSnapshot& d : g.devices) {
      const DeviceSnapshot* old = find_device(was, d.name);
      const EventDeviceCounters& e = d.events;
      const double rate = old == nullptr ? 0 : per_second(faults(old->events), faults(e), time);
      rows.push_back({.name = g.name + " " + d.name,
                      .key = rate,
                      .line = fmt::format("{:<14} {:<12} {:>#6x} {:>9.0f} {:>10} {:>9} {:>7} {:>9} "
                                          "{:>9}",
                                          shown(d.name, 14), shown(g.name, 12), d.vsid.value, rate,
                                          e.delivered, e.discarded, lost(e), e.page_requests,
                                          e.pages_answered)});
    }
  }
  return sorted(
      "device         guest          vSID  faults/s  delivered discarded    lost  page req  "
      "answered",
      std::move(rows), order == Order::kName);
}

Lines stage_table(const Moment& now) {
  Lines out{
      "guest          cycles a burst: poll transcode publish  commit   a command: fetch  merge "
      "submit   sync"};
  const auto each = [](std::uint64_t cycles, std::uint64_t of) {
    return of == 0 ? 0.0 : static_cast<double>(cycles) / static_cast<double>(of);
  };
  for (const GuestSnapshot& g : now.engine.guests) {
    const engine::EventStageCycles& e = g.event_stages;
    const engine::CommandStageCycles& c = g.command_stages;
    out.push_back(fmt::format(
        "{:<12} {:>21.0f} {:>9.0f} {:>7.0f} {:>7.0f} {:>18.0f} {:>6.0f} {:>6.0f} {:>6.0f}",
        shown(g.name, 12), each(e.poll, e.bursts), each(e.transcode, e.bursts),
        each(e.publish, e.bursts), each(e.commit, e.bursts), each(c.fetch, c.commands),
        each(c.merge, c.commands), each(c.submit, c.commands), each(c.sync, c.commands)));
  }
  return out;
}

std::string status_text(const Moment& before, const Moment& now) {
  std::string out;
  for (const Lines& table :
       {service_lines(before, now), shard_table(before, now),
        guest_table(before, now, Order::kName), device_table(before, now, Order::kName)}) {
    if (!out.empty()) out += '\n';
    for (const std::string& line : table) out += line + '\n';
  }
  return out;
}

}  // namespace faultline
