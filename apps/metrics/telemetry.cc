// SPDX-License-Identifier: BSD-3-Clause
#include "apps/metrics/telemetry.h"

#include <rte_telemetry.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <mutex>
#include <string>

#include "apps/metrics/table.h"

namespace faultline::metrics {
namespace {

// DPDK's commands have no context and cannot be withdrawn.
std::mutex g_mutex;
std::function<Moment()> g_moment;

/// A whole number as such; DPDK knows no fractions, so any other one is a string.
void add(rte_tel_data* to, const std::string& key, double value) {
  if (value >= 0 && value < 0x1p63 && std::floor(value) == value) {
    rte_tel_data_add_dict_u64(to, key.c_str(), static_cast<std::uint64_t>(value));
    return;
  }
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", value);
  rte_tel_data_add_dict_string(to, key.c_str(), text);
}

/// Every metric whose first labels are `labels`: exactly these, or one more that ends the key.
void add_metrics(rte_tel_data* to, const Moment& moment, const std::string& before,
                 const std::vector<std::string>& names, const std::vector<std::string>& values) {
  for (const Metric& metric : metric_table()) {
    if (metric.type == MetricType::kHistogram) continue;
    const bool stage = !metric.labels.empty() && metric.labels.back() == "stage";
    std::vector<std::string> labels = metric.labels;
    if (stage) labels.pop_back();
    if (labels != names) continue;
    for (const Sample& sample : metric.read(moment)) {
      if (!std::equal(values.begin(), values.end(), sample.labels.begin())) continue;
      add(to, before + metric.name + (stage ? "/" + sample.labels.back() : ""), sample.value);
    }
  }
}

int guests(const Moment& m, const std::string& /*argument*/, rte_tel_data* to) {
  rte_tel_data_start_array(to, RTE_TEL_STRING_VAL);
  for (const auto& g : m.engine.guests) rte_tel_data_add_array_string(to, g.name.c_str());
  return 0;
}

int guest(const Moment& m, const std::string& name, rte_tel_data* to) {
  if (find_guest(m, name) == nullptr) return -ENOENT;
  rte_tel_data_start_dict(to);
  add_metrics(to, m, "", {"guest"}, {name});
  return 0;
}

int shards(const Moment& m, const std::string& one, rte_tel_data* to) {
  rte_tel_data_start_dict(to);
  for (std::size_t i = 0; i < m.engine.shards.size(); ++i) {
    const std::string number = std::to_string(i);
    if (!one.empty() && one != number) continue;
    rte_tel_data_add_dict_u64(to, (number + "/cpu").c_str(), m.engine.shards[i].cpu);
    add_metrics(to, m, number + "/", {"shard", "cpu"}, {number});
  }
  return 0;
}

/// Without an argument: which ones there are, as GUEST/DEVICE.
int devices(const Moment& m, const std::string& one, rte_tel_data* to) {
  if (one.empty()) rte_tel_data_start_array(to, RTE_TEL_STRING_VAL);
  for (const auto& g : m.engine.guests) {
    for (const auto& d : g.devices) {
      const std::string name = g.name + "/" + d.name;
      if (one.empty()) {
        rte_tel_data_add_array_string(to, name.c_str());
      } else if (one == name) {
        rte_tel_data_start_dict(to);
        add_metrics(to, m, "", {"guest", "device"}, {g.name, d.name});
        return 0;
      }
    }
  }
  return one.empty() ? 0 : -ENOENT;
}

int latency(const Moment& m, const std::string& one, rte_tel_data* to) {
  rte_tel_data_start_dict(to);
  for (std::size_t i = 0; i < m.engine.guests.size(); ++i) {
    const engine::GuestSnapshot& g = m.engine.guests[i];
    if (!one.empty() && one != g.name) continue;
    const std::string before = std::to_string(i) + "/";
    rte_tel_data_add_dict_string(to, (before + "guest").c_str(), g.name.c_str());
    const auto put = [&](const std::string& what, const Histogram& h) {
      const auto value = [&](const char* name, std::uint64_t v) {
        rte_tel_data_add_dict_u64(to, (before + what + name).c_str(), v);
      };
      value("_count", h.count());
      value("_p50_ns", h.percentile(0.5));
      value("_p99_ns", h.percentile(0.99));
      value("_p999_ns", h.percentile(0.999));
      value("_max_ns", h.max());
    };
    put("publish", g.publish_ns);
    put("sync", g.sync_ns);
  }
  return 0;
}

template <auto Answer>
int command(const char* /*command*/, const char* argument, rte_tel_data* to) {
  const std::lock_guard lock(g_mutex);
  if (!g_moment) return -ENODEV;
  return Answer(g_moment(), argument != nullptr ? argument : "", to);
}

}  // namespace

Result<std::unique_ptr<Telemetry>> Telemetry::start(std::function<Moment()> moment) {
  static const int kRegistered = [] {
    int rc = 0;
    const auto add = [&](const char* name, auto callback, const char* help) {
      if (rc == 0) rc = rte_telemetry_register_cmd(name, callback, help);
    };
    add("/faultline/guests", command<guests>, "Names of the guests. No parameter.");
    add("/faultline/guest", command<guest>, "Counters of a guest. Parameter: its name.");
    add("/faultline/shards", command<shards>, "Counters of all shards. Parameter: one's number.");
    add("/faultline/devices", command<devices>,
        "Names of the devices. Parameter: GUEST/DEVICE, for its counters.");
    add("/faultline/latency", command<latency>, "Latencies of all guests. Parameter: one's name.");
    return rc;
  }();
  if (kRegistered != 0) {
    return fail(-kRegistered, "telemetry: DPDK does not take the commands: update DPDK");
  }
  const std::lock_guard lock(g_mutex);
  if (g_moment) return fail(EBUSY, "telemetry: is started already: stop the other one first");
  g_moment = std::move(moment);
  return std::unique_ptr<Telemetry>(new Telemetry);
}

Telemetry::~Telemetry() {
  const std::lock_guard lock(g_mutex);
  g_moment = nullptr;
}

}  // namespace faultline::metrics
