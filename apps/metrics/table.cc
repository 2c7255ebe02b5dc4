// SPDX-License-Identifier: BSD-3-Clause
#include "apps/metrics/table.h"

#include <algorithm>
#include <string_view>

#include "apps/metrics/fields.h"

namespace faultline::metrics {
namespace {

using engine::DeviceSnapshot;
using engine::GuestSnapshot;
using engine::ShardSnapshot;
using Labels = std::vector<std::string>;
using Table = std::vector<Metric>;

const Labels kGuest = {"guest"};

double number(std::uint64_t value) {
  return static_cast<double>(value);
}

std::string words(std::string name) {
  std::replace(name.begin(), name.end(), '_', ' ');
  return name;
}

/// value: double(const GuestSnapshot&)
template <class F>
void add_guest(Table& table, std::string name, std::string help, std::string unit, MetricType type,
               F value) {
  table.push_back(
      {std::move(name), std::move(help), std::move(unit), type, kGuest, [value](const Moment& m) {
         std::vector<Sample> all;
         for (const GuestSnapshot& g : m.engine.guests) {
           all.push_back({{g.name}, value(g), nullptr});
         }
         return all;
       }});
}

/// Every counter of a struct of a guest.
template <class T, std::size_t N>
void add_fields(Table& table, const std::string& prefix, const std::string& help,
                T GuestSnapshot::*part, const std::array<Field<T>, N>& fields) {
  for (const Field<T>& f : fields) {
    add_guest(table, prefix + f.name + "_total", help + words(f.name), "1", MetricType::kCounter,
              [part, at = f.at](const GuestSnapshot& g) { return number(g.*part.*at); });
  }
}

/// Cycles by stage; what was counted beside them has a name of its own.
template <class T, std::size_t N>
void add_stages(Table& table, const std::string& side, T GuestSnapshot::*part,
                const std::array<Field<T>, N>& fields) {
  std::vector<Field<T>> stages;
  for (const Field<T>& f : fields) {
    const std::string_view name = f.name;
    if (name != "bursts" && name != "records" && name != "commands") {
      stages.push_back(f);
      continue;
    }
    add_guest(table, "faultline_" + side + "_stage_" + f.name + "_total",
              "In the sampled rounds of the " + side + " path: " + f.name, "1",
              MetricType::kCounter,
              [part, at = f.at](const GuestSnapshot& g) { return number(g.*part.*at); });
  }
  table.push_back({"faultline_" + side + "_stage_cycles_total",
                   "Cycles of each stage of the " + side + " path, in sampled rounds",
                   "cycles",
                   MetricType::kCounter,
                   {"guest", "stage"},
                   [part, stages](const Moment& m) {
                     std::vector<Sample> all;
                     for (const GuestSnapshot& g : m.engine.guests) {
                       for (const Field<T>& f : stages) {
                         all.push_back({{g.name, f.name}, number(g.*part.*f.at), nullptr});
                       }
                     }
                     return all;
                   }});
}

void add_latency(Table& table, const char* name, const char* help, Histogram GuestSnapshot::*at) {
  table.push_back({name, help, "seconds", MetricType::kHistogram, kGuest, [at](const Moment& m) {
                     std::vector<Sample> all;
                     for (const GuestSnapshot& g : m.engine.guests)
                       all.push_back({{g.name}, 0, &(g.*at)});
                     return all;
                   }});
}

void add_devices(Table& table) {
  for (const auto& f : kEventDeviceFields) {
    table.push_back({std::string("faultline_device_") + f.name + "_total",
                     "Events of a device: " + words(f.name),
                     "1",
                     MetricType::kCounter,
                     {"guest", "device"},
                     [at = f.at](const Moment& m) {
                       std::vector<Sample> all;
                       for (const GuestSnapshot& g : m.engine.guests) {
                         for (const DeviceSnapshot& d : g.devices) {
                           all.push_back({{g.name, d.name}, number(d.events.*at), nullptr});
                         }
                       }
                       return all;
                     }});
  }
}

template <class F>
void add_shard(Table& table, std::string name, std::string help, std::string unit, MetricType type,
               F value) {
  table.push_back(
      {std::move(name),
       std::move(help),
       std::move(unit),
       type,
       {"shard", "cpu"},
       [value](const Moment& m) {
         std::vector<Sample> all;
         for (std::size_t i = 0; i < m.engine.shards.size(); ++i) {
           const ShardSnapshot& s = m.engine.shards[i];
           all.push_back({{std::to_string(i), std::to_string(s.cpu)}, value(s), nullptr});
         }
         return all;
       }});
}

void add_shards(Table& table) {
  for (const auto& f : kShardFields) {
    const std::string_view name = f.name;
    if (name == "slept_ns") {
      add_shard(table, "faultline_shard_slept_seconds_total", "Time a shard slept", "seconds",
                MetricType::kCounter,
                [](const ShardSnapshot& s) { return number(s.counters.slept_ns) / 1e9; });
      continue;
    }
    add_shard(table, std::string("faultline_shard_") + f.name + "_total",
              "Polling shard: " + words(f.name), name.ends_with("cycles") ? "cycles" : "1",
              MetricType::kCounter,
              [at = f.at](const ShardSnapshot& s) { return number(s.counters.*at); });
  }
  add_shard(table, "faultline_shard_busy_ratio",
            "Share of a shard's cycles in rounds that found work, since it started", "ratio",
            MetricType::kGauge,
            [](const ShardSnapshot& s) { return busy_share(engine::ShardCounters{}, s.counters); });
}

void add_service(Table& table) {
  for (const auto& f : kSessionFields) {
    const std::string_view name = f.name;
    const bool now = name == "sessions" || name == "lingering";
    table.push_back({std::string("faultline_session_") + (name == "sessions" ? "open" : f.name) +
                         (now ? "" : "_total"),
                     "Session server: " + words(f.name),
                     "1",
                     now ? MetricType::kGauge : MetricType::kCounter,
                     {},
                     [at = f.at](const Moment& m) {
                       return std::vector<Sample>{{{}, number(m.sessions.*at), nullptr}};
                     }});
  }
  table.push_back(
      {"faultline_uptime_seconds",
       "Time since the service started",
       "seconds",
       MetricType::kGauge,
       {},
       [](const Moment& m) {
         return std::vector<Sample>{{{}, static_cast<double>(m.uptime_ns) / 1e9, nullptr}};
       }});
}

void add_guests(Table& table) {
  add_fields(table, "faultline_event_", "Event path: ", &GuestSnapshot::events, kEventGuestFields);
  add_fields(table, "faultline_command_", "Command path: ", &GuestSnapshot::commands,
             kCommandFields);
  add_fields(table, "faultline_merge_", "Merging: ", &GuestSnapshot::merge, kMergeFields);
  const auto counter = [&](const char* name, const char* help, std::uint64_t GuestSnapshot::*at) {
    add_guest(table, name, help, "1", MetricType::kCounter,
              [at](const GuestSnapshot& g) { return number(g.*at); });
  };
  counter("faultline_interrupts_total", "Interrupts raised for the event queue",
          &GuestSnapshot::interrupts);
  counter("faultline_interrupts_unheard_total", "Interrupts that nobody could be told of",
          &GuestSnapshot::interrupts_unheard);
  const auto gauge = [&](const char* name, const char* help, const char* unit, auto value) {
    add_guest(table, name, help, unit, MetricType::kGauge, value);
  };
  gauge("faultline_evtq_depth", "Events in the EVTQ that the guest has not consumed", "1",
        [](const GuestSnapshot& g) { return number(g.evtq_depth); });
  gauge("faultline_evtq_size", "Entries of the EVTQ, 0: disabled", "1",
        [](const GuestSnapshot& g) { return number(g.evtq_size); });
  gauge("faultline_guest_paused", "1: paused by its VMM", "1",
        [](const GuestSnapshot& g) { return g.paused ? 1.0 : 0.0; });
  gauge("faultline_guest_detached", "1: its memory went away", "1",
        [](const GuestSnapshot& g) { return g.detached ? 1.0 : 0.0; });
  gauge("faultline_ioctls_per_sync", "Host ioctls for each CMD_SYNC completed", "ratio",
        [](const GuestSnapshot& g) { return ioctls_per_sync(g.commands); });
  gauge("faultline_over_invalidation_ratio", "TLB entries removed for each one asked", "ratio",
        [](const GuestSnapshot& g) { return over_invalidation(g); });
  add_latency(table, "faultline_publish_seconds", "Fault polled to journalled, per burst",
              &GuestSnapshot::publish_ns);
  add_latency(table, "faultline_sync_seconds", "CMD_SYNC fetched to told done",
              &GuestSnapshot::sync_ns);
  add_stages(table, "event", &GuestSnapshot::event_stages, kEventStageFields);
  add_stages(table, "command", &GuestSnapshot::command_stages, kCommandStageFields);
}

}  // namespace

const std::vector<Metric>& metric_table() {
  static const Table table = [] {
    Table t;
    add_service(t);
    add_shards(t);
    add_guests(t);
    add_devices(t);
    return t;
  }();
  return table;
}

}  // namespace faultline::metrics
