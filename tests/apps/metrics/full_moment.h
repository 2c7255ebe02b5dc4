// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "apps/metrics/fields.h"
#include "apps/metrics/moment.h"

namespace faultline::metrics {

template <class T, std::size_t N>
void fill(T& counters, const std::array<Field<T>, N>& fields, std::uint64_t& next) {
  for (const Field<T>& f : fields) counters.*f.at = next++;
}

inline void add_full_guest(Moment& m, const std::string& name, std::uint64_t& next) {
  engine::GuestSnapshot& g = m.engine.guests.emplace_back();
  g.name = name;
  g.policy = engine::PolicyKind::kBatchUntilSync;
  g.mode = engine::RegisterMode::kTrapped;
  g.event_shard = 1;
  g.command_shard = 2;
  g.paused = true;
  g.evtq_depth = 9;
  g.evtq_size = 64;
  g.interrupts = next++;
  g.interrupts_unheard = next++;
  g.blocked_eventfds = next++;
  fill(g.events, kEventGuestFields, next);
  fill(g.commands, kCommandFields, next);
  fill(g.merge, kMergeFields, next);
  fill(g.event_stages, kEventStageFields, next);
  fill(g.command_stages, kCommandStageFields, next);
  for (const std::uint64_t v : {3U, 3U, 900U, 123'456U}) g.sync_ns.record(v);
}

inline void add_full_device(Moment& m, const std::string& name, std::uint64_t& next) {
  engine::DeviceSnapshot& d = m.engine.guests.back().devices.emplace_back();
  d.name = name;
  d.vsid = StreamId{17};
  fill(d.events, kEventDeviceFields, next);
}

inline void add_full_shard(Moment& m, unsigned cpu, std::uint64_t& next) {
  m.engine.shards.push_back({.cpu = cpu, .shared = true, .counters = {}});
  fill(m.engine.shards.back().counters, kShardFields, next);
}

/// One guest with one device, every counter another value.
inline Moment full_moment(const std::string& guest) {
  std::uint64_t next = 1000;
  Moment m;
  m.node = 3;
  m.names = {.made = {"half"}, .lingering = {"gone"}};
  m.backend = session::Backend::kIommufd;
  m.now = 77;
  m.uptime_ns = 66;
  fill(m.sessions, kSessionFields, next);
  add_full_shard(m, 5, next);
  add_full_guest(m, guest, next);
  add_full_device(m, "0000:01:00.0", next);
  return m;
}

}  // namespace faultline::metrics
