// SPDX-License-Identifier: BSD-3-Clause
#include "apps/metrics/table.h"

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
void add_fields(Table& table, const std::string& prefix, T GuestSnapshot::*part,
                const std::array<Field<T>, N>& fields) {
  for (const Field<T>& f : fields) {
    add_guest(table, prefix + f.name + "_total", f.help, "1", MetricType::kCounter,
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
    add_guest(table, "faultline_" + side + "_stage_" + f.name + "_total", f.help, "1",
              MetricType::kCounter,
              [part, at = f.at](const GuestSnapshot& g) { return number(g.*part.*at); });
  }
  std::string help = "Cycles of each stage, in the sampled rounds. ";
  for (const Field<T>& f : stages) {
    help += std::string(f.name) + ": " + f.help + (f.name == stages.back().name ? "." : "; ");
  }
  table.push_back({"faultline_" + side + "_stage_cycles_total",
                   help,
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
                     f.help,
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

/// value: double(const Moment&, const ShardSnapshot&)
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
           all.push_back({{std::to_string(i), std::to_string(s.cpu)}, value(m, s), nullptr});
         }
         return all;
       }});
}

/// In seconds. A round may begin while the moment is taken, so after its `now`.
double beat_age(const Moment& m, const ShardSnapshot& s) {
  if (s.counters.beat == 0) return static_cast<double>(m.uptime_ns) / 1e9;  // not one round yet
  return s.counters.beat >= m.now ? 0 : number(m.now - s.counters.beat) / 1e9;
}

void add_shards(Table& table) {
  for (const auto& f : kShardFields) {
    const std::string_view name = f.name;
    if (name == "slept_ns") {
      add_shard(
          table, "faultline_shard_slept_seconds_total", f.help, "seconds", MetricType::kCounter,
          [](const Moment&, const ShardSnapshot& s) { return number(s.counters.slept_ns) / 1e9; });
      continue;
    }
    if (name == "beat") {
      add_shard(table, "faultline_shard_beat_age_seconds", f.help, "seconds", MetricType::kGauge,
                beat_age);
      continue;
    }
    add_shard(
        table, std::string("faultline_shard_") + f.name + "_total", f.help,
        name.ends_with("cycles") ? "cycles" : "1", MetricType::kCounter,
        [at = f.at](const Moment&, const ShardSnapshot& s) { return number(s.counters.*at); });
  }
  add_shard(table, "faultline_shard_busy_ratio",
            "Share of the cycles that were in rounds that found work, since the shard started.",
            "ratio", MetricType::kGauge, [](const Moment&, const ShardSnapshot& s) {
              return busy_share(engine::ShardCounters{}, s.counters);
            });
}

void add_service(Table& table) {
  for (const auto& f : kSessionFields) {
    const std::string_view name = f.name;
    const bool now = name == "sessions" || name == "lingering";
    table.push_back({std::string("faultline_session_") + (name == "sessions" ? "open" : f.name) +
                         (now ? "" : "_total"),
                     f.help,
                     "1",
                     now ? MetricType::kGauge : MetricType::kCounter,
                     {},
                     [at = f.at](const Moment& m) {
                       return std::vector<Sample>{{{}, number(m.sessions.*at), nullptr}};
                     }});
  }
  table.push_back(
      {"faultline_uptime_seconds",
       "Time since the service started.",
       "seconds",
       MetricType::kGauge,
       {},
       [](const Moment& m) {
         return std::vector<Sample>{{{}, static_cast<double>(m.uptime_ns) / 1e9, nullptr}};
       }});
}

std::vector<Sample> guest_info(const Moment& m) {
  std::vector<Sample> all;
  for (const GuestSnapshot& g : m.engine.guests) {
    all.push_back({{g.name, kPolicyNames.at(static_cast<std::size_t>(g.policy)),
                    kModeNames.at(static_cast<std::size_t>(g.mode)), std::to_string(g.event_shard),
                    std::to_string(g.command_shard)},
                   1,
                   nullptr});
  }
  return all;
}

void add_guests(Table& table) {
  table.push_back({"faultline_guest_info",
                   "Always 1; the labels say how the guest is served, and by which shards.",
                   "1",
                   MetricType::kGauge,
                   {"guest", "policy", "mode", "event_shard", "command_shard"},
                   guest_info});
  add_fields(table, "faultline_event_", &GuestSnapshot::events, kEventGuestFields);
  add_fields(table, "faultline_command_", &GuestSnapshot::commands, kCommandFields);
  add_fields(table, "faultline_merge_", &GuestSnapshot::merge, kMergeFields);
  const auto counter = [&](const char* name, const char* help, std::uint64_t GuestSnapshot::*at) {
    add_guest(table, name, help, "1", MetricType::kCounter,
              [at](const GuestSnapshot& g) { return number(g.*at); });
  };
  counter("faultline_interrupts_total", "Interrupts raised for the event queue.",
          &GuestSnapshot::interrupts);
  counter("faultline_interrupts_unheard_total", "Interrupts that nobody could be told of.",
          &GuestSnapshot::interrupts_unheard);
  counter("faultline_blocked_eventfds_total",
          "Eventfds that the guest's VMM made block a polling core; the guest is removed.",
          &GuestSnapshot::blocked_eventfds);
  const auto gauge = [&](const char* name, const char* help, const char* unit, auto value) {
    add_guest(table, name, help, unit, MetricType::kGauge, value);
  };
  gauge("faultline_evtq_depth", "Events in the EVTQ that the guest has not consumed.", "1",
        [](const GuestSnapshot& g) { return number(g.evtq_depth); });
  gauge("faultline_evtq_size", "Entries of the EVTQ; 0: it is disabled.", "1",
        [](const GuestSnapshot& g) { return number(g.evtq_size); });
  gauge("faultline_guest_paused", "1: paused by its VMM.", "1",
        [](const GuestSnapshot& g) { return g.paused ? 1.0 : 0.0; });
  gauge("faultline_guest_detached", "1: its memory went away, and it is served no more.", "1",
        [](const GuestSnapshot& g) { return g.detached ? 1.0 : 0.0; });
  gauge("faultline_ioctls_per_sync",
        "Host ioctls for each CMD_SYNC completed, since the guest was added.", "ratio",
        [](const GuestSnapshot& g) { return ioctls_per_sync(g.commands); });
  gauge("faultline_over_invalidation_ratio",
        "TLB entries removed for each one asked, since the guest was added; 1 is exact.", "ratio",
        [](const GuestSnapshot& g) { return over_invalidation(g); });
  add_latency(table, "faultline_publish_seconds",
              "From a burst of faults polled to published and journalled.",
              &GuestSnapshot::publish_ns);
  add_latency(table, "faultline_sync_seconds",
              "From a CMD_SYNC fetched to the guest told that it is done.",
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
