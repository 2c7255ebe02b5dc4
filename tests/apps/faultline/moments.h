// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <string>

#include "apps/metrics/moment.h"

namespace faultline::testing_views {

inline engine::DeviceSnapshot device(const std::string& name, std::uint32_t vsid,
                                     std::uint64_t delivered) {
  engine::DeviceSnapshot d{name, StreamId{vsid}, {}};
  d.events.delivered = delivered;
  return d;
}

/// A service with two shards and two guests, one second after its other(): every rate is another.
inline metrics::Moment later() {
  metrics::Moment m;
  m.node = 1;
  m.now = 12'000'000'000;
  m.uptime_ns = 4'000'000'000;
  m.sessions.sessions = 2;
  m.sessions.accepted = 5;
  m.sessions.refused_peers = 1;
  m.sessions.requests = 30;
  m.sessions.refused_requests = 3;
  m.sessions.lost_vmms = 4;
  m.sessions.reattached = 6;

  m.engine.shards.push_back({.cpu = 6, .shared = false, .counters = {}});
  m.engine.shards.push_back({.cpu = 7, .shared = true, .counters = {}});
  engine::ShardCounters& spins = m.engine.shards[0].counters;
  spins.rounds = 5'000'000;
  spins.work = 900;
  spins.busy_cycles = 2'000;
  spins.idle_cycles = 100'000;
  spins.submissions = 40;
  engine::ShardCounters& sleeps = m.engine.shards[1].counters;
  sleeps.rounds = 700;
  sleeps.work = 2'000;
  sleeps.busy_cycles = 3'000;
  sleeps.idle_cycles = 1'000;
  sleeps.slept_ns = 800'000'000;

  engine::GuestSnapshot& web = m.engine.guests.emplace_back();
  web.name = "web";
  web.commands.commands = 4'000;
  web.commands.syncs_completed = 400;
  web.commands.ioctls = 300;
  web.commands.commands_cut = 70;
  web.commands.foreign_waits = 20;
  web.events.records_cut = 8;
  web.events.foreign_waits = 5;
  web.events.overflows = 2;
  web.merge.entries_asked = 100;
  web.merge.entries_removed = 125;
  web.evtq_depth = 12;
  web.evtq_size = 1024;
  web.publish_ns.record(900);
  web.sync_ns.record(12'000);
  web.event_stages.bursts = 10;
  web.event_stages.poll = 1'000;
  web.event_stages.transcode = 200;
  web.event_stages.publish = 300;
  web.event_stages.commit = 400;
  web.command_stages.commands = 100;
  web.command_stages.fetch = 500;
  web.command_stages.merge = 600;
  web.command_stages.submit = 70'000;
  web.command_stages.sync = 800;
  web.devices.push_back(device("0000:01:00.0", 0x10, 700));
  web.devices.push_back(device("0000:01:00.1", 0x11, 50));
  web.devices[1].events.dropped_full = 9;
  web.devices[1].events.page_requests = 4;
  web.devices[1].events.pages_answered = 3;

  engine::GuestSnapshot& db = m.engine.guests.emplace_back();
  db.name = "db";
  db.paused = true;
  db.commands.commands = 9'000;
  db.commands.commands_cut = 1;
  db.evtq_depth = 3;
  db.evtq_size = 64;
  db.sync_ns.record(900'000);
  db.event_stages.bursts = 10;
  db.event_stages.poll = 100;
  db.command_stages.commands = 1;
  db.command_stages.fetch = 2'000;
  db.devices.push_back(device("0000:02:00.0", 0x20, 300));
  return m;
}

/// As later(), with all counters that rates are made of at 0.
inline metrics::Moment earlier() {
  metrics::Moment m = later();
  m.now -= 1'000'000'000;
  m.uptime_ns -= 1'000'000'000;
  m.sessions = {};
  for (engine::ShardSnapshot& s : m.engine.shards) s.counters = {};
  for (engine::GuestSnapshot& g : m.engine.guests) {
    g.commands = {};
    g.events = {};
    for (engine::DeviceSnapshot& d : g.devices) d.events = {};
  }
  return m;
}

}  // namespace faultline::testing_views
