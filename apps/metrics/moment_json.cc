// SPDX-License-Identifier: BSD-3-Clause
#include "apps/metrics/moment_json.h"

#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "apps/metrics/fields.h"

namespace faultline::metrics {
namespace {

using json = nlohmann::ordered_json;

constexpr int kVersion = 1;
constexpr std::array kBackends = {"soft", "vfio", "iommufd"};

template <class E, std::size_t N>
E by_name(const std::array<const char*, N>& names, const json& j) {
  const auto& name = j.get_ref<const std::string&>();
  for (std::size_t i = 0; i < N; ++i) {
    if (name == names[i]) return static_cast<E>(i);
  }
  // As JSON writes it, so on one line.
  const json shown = name.substr(0, 40);
  throw std::invalid_argument("unknown word " +
                              shown.dump(-1, ' ', true, json::error_handler_t::replace));
}

/// get<>() would turn a negative number or a fraction into some other counter.
std::uint64_t number(const json& j) {
  if (!j.is_number_unsigned()) throw std::invalid_argument("a counter is no whole number");
  return j.get<std::uint64_t>();
}

/// A loop over what is none would be over nothing, or over the value itself.
const json& list(const json& j) {
  if (!j.is_array()) throw std::invalid_argument("a list is none");
  return j;
}

template <class T>
T small(const json& j) {
  const std::uint64_t value = number(j);
  if (value > std::numeric_limits<T>::max()) throw std::invalid_argument("a number is too large");
  return static_cast<T>(value);
}

template <class T, std::size_t N>
json counters(const T& from, const std::array<Field<T>, N>& fields) {
  json j = json::object();
  for (const Field<T>& f : fields) j[f.name] = from.*f.at;
  return j;
}

template <class T, std::size_t N>
void read(const json& j, T& to, const std::array<Field<T>, N>& fields) {
  for (const Field<T>& f : fields) to.*f.at = number(j.at(f.name));
}

json histogram(const Histogram& h) {
  json buckets = json::array();
  for (std::size_t i = 0; i < Histogram::kBuckets; ++i) {
    if (const std::uint64_t n = h.in_bucket(i)) buckets.push_back({i, n});
  }
  return {{"max", h.max()}, {"buckets", std::move(buckets)}};
}

void read(const json& j, Histogram& h) {
  const std::uint64_t max = number(j.at("max"));
  for (const json& b : list(j.at("buckets"))) {
    if (b.size() != 2) throw std::invalid_argument("a bucket is no pair");
    const std::uint64_t bucket = number(b.at(0));
    if (bucket >= Histogram::kBuckets) throw std::invalid_argument("no such bucket");
    h.add(bucket, number(b.at(1)), max);
  }
}

json guest(const engine::GuestSnapshot& g) {
  json devices = json::array();
  for (const engine::DeviceSnapshot& d : g.devices) {
    devices.push_back({{"name", d.name},
                       {"vsid", d.vsid.value},
                       {"events", counters(d.events, kEventDeviceFields)}});
  }
  return {{"name", g.name},
          {"policy", kPolicyNames.at(static_cast<std::size_t>(g.policy))},
          {"mode", kModeNames.at(static_cast<std::size_t>(g.mode))},
          {"event_shard", g.event_shard},
          {"command_shard", g.command_shard},
          {"paused", g.paused},
          {"detached", g.detached},
          {"events", counters(g.events, kEventGuestFields)},
          {"commands", counters(g.commands, kCommandFields)},
          {"merge", counters(g.merge, kMergeFields)},
          {"interrupts", g.interrupts},
          {"interrupts_unheard", g.interrupts_unheard},
          {"blocked_eventfds", g.blocked_eventfds},
          {"evtq_depth", g.evtq_depth},
          {"evtq_size", g.evtq_size},
          {"publish_ns", histogram(g.publish_ns)},
          {"sync_ns", histogram(g.sync_ns)},
          {"event_stages", counters(g.event_stages, kEventStageFields)},
          {"command_stages", counters(g.command_stages, kCommandStageFields)},
          {"devices", std::move(devices)}};
}

void read(const json& j, engine::GuestSnapshot& g) {
  g.name = j.at("name").get<std::string>();
  g.policy = by_name<engine::PolicyKind>(kPolicyNames, j.at("policy"));
  g.mode = by_name<engine::RegisterMode>(kModeNames, j.at("mode"));
  g.event_shard = number(j.at("event_shard"));
  g.command_shard = number(j.at("command_shard"));
  g.paused = j.at("paused").get<bool>();
  g.detached = j.at("detached").get<bool>();
  read(j.at("events"), g.events, kEventGuestFields);
  read(j.at("commands"), g.commands, kCommandFields);
  read(j.at("merge"), g.merge, kMergeFields);
  g.interrupts = number(j.at("interrupts"));
  g.interrupts_unheard = number(j.at("interrupts_unheard"));
  g.blocked_eventfds = number(j.at("blocked_eventfds"));
  g.evtq_depth = small<std::uint32_t>(j.at("evtq_depth"));
  g.evtq_size = small<std::uint32_t>(j.at("evtq_size"));
  read(j.at("publish_ns"), g.publish_ns);
  read(j.at("sync_ns"), g.sync_ns);
  read(j.at("event_stages"), g.event_stages, kEventStageFields);
  read(j.at("command_stages"), g.command_stages, kCommandStageFields);
  for (const json& d : list(j.at("devices"))) {
    engine::DeviceSnapshot& device = g.devices.emplace_back();
    device.name = d.at("name").get<std::string>();
    device.vsid = StreamId{small<std::uint32_t>(d.at("vsid"))};
    read(d.at("events"), device.events, kEventDeviceFields);
  }
}

void read(const json& j, std::vector<std::string>& names) {
  for (const json& name : list(j)) names.push_back(name.get<std::string>());
}

}  // namespace

std::string to_json(const Moment& moment) {
  json shards = json::array();
  for (const engine::ShardSnapshot& s : moment.engine.shards) {
    shards.push_back(
        {{"cpu", s.cpu}, {"shared", s.shared}, {"counters", counters(s.counters, kShardFields)}});
  }
  json guests = json::array();
  for (const engine::GuestSnapshot& g : moment.engine.guests) guests.push_back(guest(g));
  const json all = {{"version", kVersion},
                    {"node", moment.node},
                    {"backend", kBackends.at(static_cast<std::size_t>(moment.backend))},
                    {"now_ns", moment.now},
                    {"uptime_ns", moment.uptime_ns},
                    {"sessions", counters(moment.sessions, kSessionFields)},
                    {"made_guests", moment.names.made},
                    {"lingering_guests", moment.names.lingering},
                    {"shards", std::move(shards)},
                    {"guests", std::move(guests)}};
  // A name that is not UTF-8 must not throw here.
  return all.dump(-1, ' ', false, json::error_handler_t::replace);
}

Result<Moment> moment_from_json(std::string_view text) {
  try {
    const json j = json::parse(text);
    if (number(j.at("version")) != kVersion) {
      return fail(0, "the service speaks another version of moment.json: use its own faultline");
    }
    Moment m;
    m.node = small<int>(j.at("node"));
    m.backend = by_name<session::Backend>(kBackends, j.at("backend"));
    m.now = small<Nanos>(j.at("now_ns"));
    m.uptime_ns = small<Nanos>(j.at("uptime_ns"));
    read(j.at("sessions"), m.sessions, kSessionFields);
    read(j.at("made_guests"), m.names.made);
    read(j.at("lingering_guests"), m.names.lingering);
    for (const json& s : list(j.at("shards"))) {
      engine::ShardSnapshot& shard = m.engine.shards.emplace_back();
      shard.cpu = small<unsigned>(s.at("cpu"));
      shard.shared = s.at("shared").get<bool>();
      read(s.at("counters"), shard.counters, kShardFields);
    }
    for (const json& g : list(j.at("guests"))) read(g, m.engine.guests.emplace_back());
    return m;
  } catch (const std::exception& e) {
    return fail(0, std::string("the service's moment.json is damaged: ") + e.what());
  }
}

}  // namespace faultline::metrics
