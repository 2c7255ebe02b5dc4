// SPDX-License-Identifier: BSD-3-Clause
#include "apps/metrics/telemetry.h"

#include <rte_telemetry.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <mutex>
#include <optional>
#include <string>

#include "apps/metrics/table.h"

namespace faultline::metrics {
namespace {

// DPDK's commands have no context and cannot be withdrawn.
std::mutex g_mutex;
std::function<Moment()> g_moment;

/// DPDK's buffer for an answer, less what stands around it: it leaves out without a word what does
/// not fit. Its lists and dictionaries have limits of their own, and say so.
constexpr std::size_t kMostBytes = 16'000;

/// A dictionary that is whole or refused: {"/faultline/…": null}.
class Dict {
 public:
  explicit Dict(rte_tel_data* to) : to_(to) { keep(rte_tel_data_start_dict(to)); }

  void add(const std::string& key, std::uint64_t value) {
    charge(key.size() + 20);
    keep(rte_tel_data_add_dict_u64(to_, key.c_str(), value));
  }
  void add(const std::string& key, const std::string& value) {
    charge(key.size() + value.size() + 2);
    keep(rte_tel_data_add_dict_string(to_, key.c_str(), value.c_str()));
  }
  /// A whole number as such; DPDK knows no fractions, so any other one is a string.
  void add(const std::string& key, double value) {
    if (value >= 0 && value < 0x1p63 && std::floor(value) == value) {
      add(key, static_cast<std::uint64_t>(value));
      return;
    }
    char text[32];
    add(key, std::string(text, std::to_chars(text, text + sizeof text, value).ptr));
  }
  /// What a command returns.
  [[nodiscard]] int result() const noexcept { return error_; }

 private:
  void charge(std::size_t bytes) {
    bytes_ += bytes + 4;
    if (bytes_ > kMostBytes) keep(-E2BIG);
  }
  /// Text that was cut off is a positive number there.
  void keep(int rc) {
    if (error_ == 0) error_ = rc > 0 ? -rc : rc;
  }

  rte_tel_data* to_;
  std::size_t bytes_ = 0;
  int error_ = 0;
};

std::optional<std::size_t> index(const std::string& text) {
  std::size_t value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || rest != end) return std::nullopt;
  return value;
}

/// Names from number `first` (none: 0) on, as many as fit.
template <class List>
int list_names(const List& list, const std::string& first, rte_tel_data* to) {
  const std::optional<std::size_t> from = index(first.empty() ? "0" : first);
  if (!from) return -EINVAL;
  int rc = rte_tel_data_start_array(to, RTE_TEL_STRING_VAL);
  std::size_t bytes = 0;
  const std::size_t most = RTE_TEL_MAX_ARRAY_ENTRIES;
  for (std::size_t i = *from; i < list.size() && i - *from < most && rc == 0; ++i) {
    bytes += 6 * list[i].name.size() + 3;  // every character escaped
    if (bytes > kMostBytes) break;
    rc = rte_tel_data_add_array_string(to, list[i].name.c_str());
  }
  return rc > 0 ? -rc : rc;
}

/// Every metric with the labels `names`, of the sample that has `values`. A stage ends the key.
void add_metrics(Dict& to, const Moment& moment, const std::vector<std::string>& names,
                 const std::vector<std::string>& values) {
  for (const Metric& metric : metric_table()) {
    if (metric.type == MetricType::kHistogram) continue;
    const bool stage = !metric.labels.empty() && metric.labels.back() == "stage";
    std::vector<std::string> labels = metric.labels;
    if (stage) labels.pop_back();
    if (labels != names) continue;
    for (const Sample& sample : metric.read(moment)) {
      if (!std::equal(values.begin(), values.end(), sample.labels.begin())) continue;
      to.add(metric.name + (stage ? "/" + sample.labels.back() : ""), sample.value);
    }
  }
}

int service(const Moment& m, const std::string& argument, rte_tel_data* to) {
  if (!argument.empty()) return -EINVAL;
  Dict dict(to);
  dict.add("node", static_cast<std::uint64_t>(m.node));
  add_metrics(dict, m, {}, {});
  return dict.result();
}

int shards(const Moment& m, const std::string& argument, rte_tel_data* to) {
  if (!argument.empty()) return -EINVAL;
  int rc = rte_tel_data_start_array(to, RTE_TEL_INT_VAL);
  for (const engine::ShardSnapshot& s : m.engine.shards) {
    if (rc == 0) rc = rte_tel_data_add_array_int(to, static_cast<int>(s.cpu));
  }
  return rc;
}

int shard(const Moment& m, const std::string& number, rte_tel_data* to) {
  const std::optional<std::size_t> at = index(number);
  if (!at) return -EINVAL;
  if (*at >= m.engine.shards.size()) return -ENOENT;
  Dict dict(to);
  dict.add("cpu", std::uint64_t{m.engine.shards[*at].cpu});
  add_metrics(dict, m, {"shard", "cpu"}, {std::to_string(*at)});
  return dict.result();
}

int guests(const Moment& m, const std::string& first, rte_tel_data* to) {
  return list_names(m.engine.guests, first, to);
}

int guest(const Moment& m, const std::string& name, rte_tel_data* to) {
  const engine::GuestSnapshot* g = find_guest(m, name);
  if (g == nullptr) return -ENOENT;
  Dict dict(to);
  // The labels of faultline_guest_info.
  dict.add("policy", std::string(kPolicyNames.at(static_cast<std::size_t>(g->policy))));
  dict.add("mode", std::string(kModeNames.at(static_cast<std::size_t>(g->mode))));
  dict.add("event_shard", std::uint64_t{g->event_shard});
  dict.add("command_shard", std::uint64_t{g->command_shard});
  add_metrics(dict, m, {"guest"}, {name});
  return dict.result();
}

/// A guest's name has no comma and no slash (apps/session/guest_parts.cc).
int devices(const Moment& m, const std::string& argument, rte_tel_data* to) {
  const std::size_t comma = std::min(argument.find(','), argument.size());
  const engine::GuestSnapshot* g = find_guest(m, argument.substr(0, comma));
  if (g == nullptr) return -ENOENT;
  return list_names(g->devices, argument.substr(std::min(comma + 1, argument.size())), to);
}

int device(const Moment& m, const std::string& argument, rte_tel_data* to) {
  const std::size_t slash = argument.find('/');
  if (slash == std::string::npos) return -EINVAL;
  const std::string name = argument.substr(0, slash);
  const std::string which = argument.substr(slash + 1);
  const engine::GuestSnapshot* g = find_guest(m, name);
  const auto is_it = [&](const engine::DeviceSnapshot& d) { return d.name == which; };
  if (g == nullptr || std::none_of(g->devices.begin(), g->devices.end(), is_it)) return -ENOENT;
  Dict dict(to);
  add_metrics(dict, m, {"guest", "device"}, {name, which});
  return dict.result();
}

int latency(const Moment& m, const std::string& name, rte_tel_data* to) {
  const engine::GuestSnapshot* g = find_guest(m, name);
  if (g == nullptr) return -ENOENT;
  Dict dict(to);
  const auto put = [&](const std::string& what, const Histogram& h) {
    dict.add(what + "_count", h.count());
    dict.add(what + "_p50_ns", h.percentile(0.5));
    dict.add(what + "_p99_ns", h.percentile(0.99));
    dict.add(what + "_p999_ns", h.percentile(0.999));
    dict.add(what + "_max_ns", h.max());
  };
  put("publish", g->publish_ns);
  put("sync", g->sync_ns);
  return dict.result();
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
    // DPDK takes a help text of 63 characters at most.
    const auto add = [&](const char* name, auto callback, const char* help) {
      if (rc == 0) rc = rte_telemetry_register_cmd(name, callback, help);
    };
    add("/faultline/service", command<service>, "Sessions and uptime.");
    add("/faultline/shards", command<shards>, "The CPU of each shard.");
    add("/faultline/shard", command<shard>, "Counters of a shard. Parameter: its number.");
    add("/faultline/guests", command<guests>, "Names of guests. Parameter: number of the first.");
    add("/faultline/guest", command<guest>, "All counters of a guest. Parameter: its name.");
    add("/faultline/devices", command<devices>, "Names of devices. Parameters: GUEST[,FIRST].");
    add("/faultline/device", command<device>, "Counters of a device. Parameter: GUEST/DEVICE.");
    add("/faultline/latency", command<latency>, "Latencies of a guest. Parameter: its name.");
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
