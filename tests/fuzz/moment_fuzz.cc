// SPDX-License-Identifier: BSD-3-Clause
// A service's moment.json as `faultline status` reads it: any bytes, and a whole moment of which
// some values were replaced or taken away, against a reader of its own.
#include <nlohmann/json.hpp>
#include <vector>

#include "apps/metrics/fields.h"
#include "apps/metrics/moment_json.h"
#include "apps/metrics/table.h"
#include "tests/fuzz/input.h"

namespace faultline::fuzz {
namespace {

using metrics::Field;
using nlohmann::json;

const json& whole() {
  static const json moment = [] {
    metrics::Moment m;
    m.engine.shards.emplace_back();
    engine::GuestSnapshot& g = m.engine.guests.emplace_back();
    g.name = "g";
    for (std::uint64_t ns = 3; ns < 100'000; ns *= 5) {
      g.sync_ns.record(ns);
      g.publish_ns.record(2 * ns);
    }
    g.devices.emplace_back().name = "d";
    m.names = {.made = {"m"}, .lingering = {"g"}};
    return json::parse(to_json(m));
  }();
  return moment;
}

/// Of every value, and of every object and list around them.
const std::vector<json::json_pointer>& places() {
  static const std::vector<json::json_pointer> all = [] {
    std::vector<json::json_pointer> found;
    const auto walk = [&](const auto& self, const json& j, const json::json_pointer& at) -> void {
      if (!at.empty()) found.push_back(at);
      if (j.is_object()) {
        for (const auto& [key, value] : j.items()) self(self, value, at / key);
      } else if (j.is_array()) {
        for (std::size_t i = 0; i < j.size(); ++i) self(self, j[i], at / i);
      }
    };
    walk(walk, whole(), json::json_pointer());
    return found;
  }();
  return all;
}

json value(Input& in) {
  switch (in.byte() % 16) {
    case 0:
      return nullptr;
    case 1:
      return json::array();
    case 2:
      return json::object();
    case 3:
      return in.flag();
    case 4:
      return -1;
    case 5:
      return 1.5;
    case 6:
      return Histogram::kBuckets - in.byte() % 2;
    case 7:
      return std::uint64_t{1} << (in.byte() % 64);
    case 8:
      return ~std::uint64_t{0};
    case 9:
      return "merge";
    case 10:
      return "trapped\n";
    case 11:
      return "iommufd";
    case 12:
      return json::array({in.u64(), in.u64()});
    case 13:
      return whole().at("guests");
    default:
      return in.u64() >> (in.byte() % 64);
  }
}

// What a moment has to be, said once more.

bool number(const json& j, const char* name, std::uint64_t most = ~std::uint64_t{0}) {
  const auto at = j.find(name);
  return at != j.end() && at->is_number_unsigned() && at->get<std::uint64_t>() <= most;
}

bool word(const json& j, const char* name, std::initializer_list<const char*> known) {
  const auto at = j.find(name);
  if (at == j.end() || !at->is_string()) return false;
  return known.size() == 0 || std::find(known.begin(), known.end(), *at) != known.end();
}

bool boolean(const json& j, const char* name) {
  const auto at = j.find(name);
  return at != j.end() && at->is_boolean();
}

template <class T, std::size_t N>
bool counters(const json& j, const char* name, const std::array<Field<T>, N>& fields) {
  const auto at = j.find(name);
  if (at == j.end() || !at->is_object()) return false;
  return std::all_of(fields.begin(), fields.end(),
                     [&](const Field<T>& f) { return number(*at, f.name); });
}

template <class Each>
bool list(const json& j, const char* name, Each each) {
  const auto at = j.find(name);
  return at != j.end() && at->is_array() && std::all_of(at->begin(), at->end(), each);
}

bool histogram(const json& j, const char* name) {
  const auto at = j.find(name);
  if (at == j.end() || !at->is_object() || !number(*at, "max")) return false;
  return list(*at, "buckets", [](const json& b) {
    return b.is_array() && b.size() == 2 && b[0].is_number_unsigned() &&
           b[1].is_number_unsigned() && b[0].get<std::uint64_t>() < Histogram::kBuckets;
  });
}

bool device(const json& d) {
  return d.is_object() && word(d, "name", {}) && number(d, "vsid", ~0U) &&
         counters(d, "events", metrics::kEventDeviceFields);
}

bool guest(const json& g) {
  bool good = g.is_object() && word(g, "name", {}) &&
              word(g, "policy", {"forward-each", "batch-until-sync", "merge"}) &&
              word(g, "mode", {"exitless", "trapped"}) && boolean(g, "paused") &&
              boolean(g, "detached");
  for (const char* n :
       {"event_shard", "command_shard", "interrupts", "interrupts_unheard", "blocked_eventfds"}) {
    good = good && number(g, n);
  }
  good = good && number(g, "evtq_depth", ~0U) && number(g, "evtq_size", ~0U);
  good = good && counters(g, "events", metrics::kEventGuestFields) &&
         counters(g, "commands", metrics::kCommandFields) &&
         counters(g, "merge", metrics::kMergeFields) &&
         counters(g, "event_stages", metrics::kEventStageFields) &&
         counters(g, "command_stages", metrics::kCommandStageFields);
  return good && histogram(g, "publish_ns") && histogram(g, "sync_ns") &&
         list(g, "devices", device);
}

bool text(const json& j) {
  return j.is_string();
}

bool sound(const json& j) {
  return j.is_object() && number(j, "version", 1) && j["version"] == 1 &&
         number(j, "node", ~0U >> 1U) && word(j, "backend", {"soft", "vfio", "iommufd"}) &&
         number(j, "now_ns") && number(j, "uptime_ns") &&
         counters(j, "sessions", metrics::kSessionFields) && list(j, "made_guests", text) &&
         list(j, "lingering_guests", text) &&
         list(j, "shards",
              [](const json& s) {
                return s.is_object() && number(s, "cpu", ~0U) && boolean(s, "shared") &&
                       counters(s, "counters", metrics::kShardFields);
              }) &&
         list(j, "guests", guest);
}

/// Every view of a moment that was taken shows it, and it goes there and back.
void look(const metrics::Moment& m) {
  const std::string text = to_json(m);
  const auto again = metrics::moment_from_json(text);
  hold(again.has_value() && to_json(*again) == text, "does not print as it was read");
  hold(!metrics::to_prometheus(m).empty(), "nothing to show");
  for (const engine::GuestSnapshot& g : m.engine.guests) {
    hold(g.sync_ns.percentile(0.5) <= g.sync_ns.max(), "half of them above the largest");
  }
}

void run(Input in) {
  std::string text;
  if (in.byte() % 8 == 0) {
    const auto rest = in.rest();
    text.assign(reinterpret_cast<const char*>(rest.data()), rest.size());
  } else {
    json j = whole();
    for (unsigned n = 1 + in.byte() % 3; n > 0; --n) {
      const json::json_pointer& at = places()[in.below(places().size())];
      if (!j.contains(at)) continue;  // gone with one before
      if (in.byte() % 4 != 0) {
        j[at] = value(in);
      } else if (json& parent = j[at.parent_pointer()]; parent.is_object()) {
        parent.erase(at.back());
      } else {
        parent.erase(std::stoul(at.back()));
      }
    }
    text = j.dump();
  }
  const auto moment = metrics::moment_from_json(text);
  if (!moment) hold_one_line(moment.error().message());
  const json j = json::parse(text, nullptr, false);
  hold(moment.has_value() == (!j.is_discarded() && sound(j)), "taken or refused wrongly");
  if (moment) look(*moment);
}

}  // namespace
}  // namespace faultline::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  faultline::fuzz::run({data, size});
  return 0;
}
