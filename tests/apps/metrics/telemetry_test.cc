// SPDX-License-Identifier: BSD-3-Clause
// EAL can be started once in a process, so these tests have an executable of their own.
#include "apps/metrics/telemetry.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <rte_eal.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>

#include "apps/metrics/table.h"
#include "engine/lcore.h"
#include "tests/apps/metrics/full_moment.h"

namespace faultline::metrics {
namespace {

using nlohmann::json;

/// DPDK's telemetry socket, as its clients use it.
class Client {
 public:
  Client() : fd_(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)) {
    sockaddr_un to{};
    to.sun_family = AF_UNIX;
    const std::string path = std::string(rte_eal_get_runtime_dir()) + "/dpdk_telemetry.v2";
    path.copy(to.sun_path, sizeof to.sun_path - 1);
    if (::connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) return;
    most_ = receive(1024).value("max_output_len", std::size_t{0});
  }
  ~Client() { ::close(fd_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  /// The answer to "/faultline/what,parameter"; of the wrong name or size, discarded: none.
  json ask(const std::string& what, const std::string& parameter = "") {
    const std::string name = "/faultline/" + what;
    const std::string line = name + (parameter.empty() ? "" : "," + parameter);
    EXPECT_EQ(::send(fd_, line.data(), line.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(line.size()));
    const json answer = receive(most_);
    EXPECT_TRUE(answer.is_object() && answer.contains(name)) << line << ": " << answer;
    return answer.value(name, json(json::value_t::discarded));
  }
  json raw(const std::string& line) {
    (void)::send(fd_, line.data(), line.size(), MSG_NOSIGNAL);
    return receive(most_);
  }

 private:
  json receive(std::size_t most) {
    std::string text(most, '\0');
    pollfd p{fd_, POLLIN, 0};
    if (::poll(&p, 1, 10'000) != 1) return {};
    const ssize_t n = ::recv(fd_, text.data(), text.size(), 0);
    text.resize(n < 0 ? 0 : static_cast<std::size_t>(n));
    return json::parse(text, nullptr, false);
  }

  int fd_;
  std::size_t most_ = 0;
};

class TelemetryTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    cpu_set_t mine;
    ASSERT_EQ(sched_getaffinity(0, sizeof mine, &mine), 0);
    unsigned cpu = 0;
    while (!CPU_ISSET(cpu, &mine)) ++cpu;
    engine::LcoreOptions options;
    options.cpus = {cpu};
    options.housekeeping_cpu = cpu;
    options.telemetry = true;
    options.file_prefix = prefix();
    auto lcores = engine::Lcores::start(options);
    ASSERT_TRUE(lcores) << lcores.error().message();
    lcores_ = std::move(*lcores);
  }
  static void TearDownTestSuite() {
    const std::filesystem::path folder = rte_eal_get_runtime_dir();
    lcores_.reset();
    std::filesystem::remove_all(folder);
  }

  static std::string prefix() { return "faultline-test-" + std::to_string(::getpid()); }

  void tell(Moment m) {
    telemetry_.reset();
    auto started = Telemetry::start([m = std::move(m)] { return m; });
    ASSERT_TRUE(started) << started.error().message();
    telemetry_ = std::move(*started);
  }

  static inline std::unique_ptr<engine::Lcores> lcores_;
  std::unique_ptr<Telemetry> telemetry_;
};

Moment two_guests() {
  Moment m = full_moment("vm-a");
  std::uint64_t next = 5000;
  m.now = 2'000'000'000;
  m.uptime_ns = 1'500'000'001;
  add_full_shard(m, 7, next);
  add_full_device(m, "a \"quoted\"\\one", next);
  add_full_guest(m, "vm_b.1", next);
  add_full_device(m, "0000:01:00.0", next);
  m.engine.guests[1].event_stages.poll = (std::uint64_t{1} << 53U) + 2;
  return m;
}

/// name → value of the labels of a line of Prometheus' text.
std::map<std::string, std::string> labels_of(const std::string& text) {
  std::map<std::string, std::string> labels;
  const std::regex one(R"x((\w+)="((?:\\.|[^"\\])*)")x");
  for (std::sregex_iterator it(text.begin(), text.end(), one), end; it != end; ++it) {
    const std::string quoted = (*it)[2].str();
    std::string& value = labels[(*it)[1].str()];
    for (std::size_t i = 0; i < quoted.size(); ++i) {
      if (quoted[i] == '\\') ++i;
      value += quoted[i];
    }
  }
  return labels;
}

double number(const json& value) {
  return value.is_string() ? std::stod(value.get<std::string>()) : value.get<double>();
}

TEST_F(TelemetryTest, TellsEveryNumberThatPrometheusIsTold) {
  const Moment m = two_guests();
  tell(m);
  Client client;
  std::set<std::string> histograms;
  for (const Metric& metric : metric_table()) {
    if (metric.type == MetricType::kHistogram) histograms.insert(metric.name);
  }
  std::map<std::pair<std::string, std::string>, json> answers;
  const auto answer = [&](const std::string& what, const std::string& parameter) -> json& {
    const auto [it, fresh] = answers.try_emplace({what, parameter});
    if (fresh) it->second = client.ask(what, parameter);
    return it->second;
  };
  std::size_t compared = 0;
  const std::regex sample(R"((faultline_\w+)(\{.*\})? (\S+))");
  std::istringstream text(to_prometheus(m));
  for (std::string line; std::getline(text, line);) {
    std::smatch parts;
    if (line.starts_with('#') || !std::regex_match(line, parts, sample)) continue;
    std::string name = parts[1];
    if (histograms.contains(std::regex_replace(name, std::regex("_(bucket|sum|count)$"), ""))) {
      continue;
    }
    std::map<std::string, std::string> labels = labels_of(parts[2]);
    json& whole = labels.contains("shard") ? answer("shard", labels["shard"])
                  : labels.contains("device")
                      ? answer("device", labels["guest"] + "/" + labels["device"])
                  : labels.contains("guest") ? answer("guest", labels["guest"])
                                             : answer("service", "");
    ASSERT_TRUE(whole.is_object()) << line;
    if (labels.contains("cpu")) {
      EXPECT_EQ(whole["cpu"].dump(), labels["cpu"]);
    }
    if (name == "faultline_guest_info") {
      for (const char* label : {"policy", "mode"}) EXPECT_EQ(whole[label], labels[label]) << line;
      for (const char* label : {"event_shard", "command_shard"}) {
        EXPECT_EQ(whole[label].dump(), labels[label]) << line;
      }
      continue;
    }
    if (labels.contains("stage")) name += "/" + labels["stage"];
    ASSERT_TRUE(whole.contains(name)) << line;
    EXPECT_DOUBLE_EQ(number(whole[name]), std::stod(parts[3])) << line;
    whole.erase(name);
    ++compared;
  }
  // 2 shards, 2 guests, 3 devices; nothing else is told.
  EXPECT_EQ(answers.size(), 8U);
  EXPECT_GT(compared, 200U);
  for (const auto& [which, rest] : answers) {
    for (const auto& [name, value] : rest.items()) {
      EXPECT_FALSE(name.starts_with("faultline_")) << which.first << ": " << name << value;
    }
  }
  EXPECT_EQ(answer("service", "")["node"], 3);
  const json latency = client.ask("latency", "vm-a");
  EXPECT_EQ(latency.at("sync_count"), 4);
  EXPECT_EQ(latency.at("sync_max_ns"), 123'456);
  EXPECT_EQ(latency.at("publish_p999_ns"), 0);
}

TEST_F(TelemetryTest, ListsWhatThereIs) {
  tell(two_guests());
  Client client;
  EXPECT_EQ(client.ask("shards"), json::array({5, 7}));
  EXPECT_EQ(client.ask("guests"), json::array({"vm-a", "vm_b.1"}));
  EXPECT_EQ(client.ask("guests", "1"), json::array({"vm_b.1"}));
  EXPECT_EQ(client.ask("guests", "2"), json::array());
  EXPECT_EQ(client.ask("guests", "18446744073709551615"), json::array());
  EXPECT_EQ(client.ask("devices", "vm-a"), json::array({"0000:01:00.0", "a \"quoted\"\\one"}));
  EXPECT_EQ(client.ask("devices", "vm-a,1"), json::array({"a \"quoted\"\\one"}));
}

TEST_F(TelemetryTest, ListsLongerThanAnAnswerGoOn) {
  for (const std::size_t length : {4U, 64U}) {  // DPDK's limit of entries, and that of bytes
    Moment m = full_moment("vm-a");
    m.engine.guests[0].devices.clear();
    for (int i = 0; i < 1024; ++i) {
      std::string name = std::to_string(10'000 + i).substr(1);
      name.resize(length, 'x');
      m.engine.guests[0].devices.push_back({.name = name, .vsid = {}, .events = {}});
    }
    tell(m);
    Client client;
    std::size_t seen = 0;
    std::size_t answers = 0;
    for (; answers < 100; ++answers) {
      const json part = client.ask("devices", "vm-a," + std::to_string(seen));
      ASSERT_TRUE(part.is_array()) << "at " << seen;
      if (part.empty()) break;
      for (const json& name : part) EXPECT_EQ(name, m.engine.guests[0].devices.at(seen++).name);
    }
    EXPECT_EQ(seen, 1024U);
    EXPECT_GT(answers, 1U);
  }
}

TEST_F(TelemetryTest, WhatThereIsNotIsNull) {
  Moment m = two_guests();
  m.engine.guests[0].devices[0].name = std::string(128, 'x');  // DPDK's text ends before
  tell(m);
  Client client;
  EXPECT_TRUE(client.ask("devices", "vm-a").is_null()) << "not cut";
  for (const char* what : {"guest",          "guest,nobody",     "guest,vm-a ",
                           "shard",          "shard,2",          "shard,-1",
                           "shard,0x",       "shards,1",         "service,x",
                           "guests,x",       "guests,-1",        "devices",
                           "devices,vm-a,x", "devices,nobody",   "device",
                           "device,vm-a",    "device,vm-a/none", "device,nobody/0000:01:00.0",
                           "latency",        "latency,nobody"}) {
    const std::string line = std::string("/faultline/") + what;
    const json answer = client.raw(line);
    EXPECT_EQ(answer, json::object({{line.substr(0, line.find(',')), nullptr}})) << line;
  }
  telemetry_.reset();
  EXPECT_TRUE(client.ask("guests").is_null());
}

TEST_F(TelemetryTest, EachCommandSaysWhatItIs) {
  tell(two_guests());
  Client client;
  std::size_t ours = 0;
  const json all = client.raw("/");
  ASSERT_TRUE(all.contains("/"));
  for (const json& command : all["/"]) {
    const auto name = command.get<std::string>();
    if (!name.starts_with("/faultline/")) continue;
    ++ours;
    const json help = client.raw("/help," + name)["/help"][name];
    EXPECT_TRUE(help.is_string() && help.get<std::string>().ends_with('.')) << name << help;
  }
  EXPECT_EQ(ours, 8U);
}

TEST_F(TelemetryTest, IsOneAtATime) {
  tell(two_guests());
  EXPECT_FALSE(Telemetry::start([] { return Moment{}; }));
}

TEST_F(TelemetryTest, AnswersDebiansOwnClient) {
  const std::string client = "dpdk-telemetry.py";
  if (std::system(("command -v " + client + " >/dev/null").c_str()) != 0) {
    GTEST_SKIP() << "no " << client << " here (Debian: dpdk-dev)";
  }
  const Moment m = two_guests();
  tell(m);
  const std::string shell = "printf '%s\\n' /faultline/guest,vm-a /faultline/guests | timeout 60 " +
                            client + " -f " + prefix();
  FILE* pipe = ::popen(shell.c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  std::string said;
  char part[4096];
  while (std::fgets(part, sizeof part, pipe) != nullptr) said += part;
  EXPECT_EQ(::pclose(pipe), 0) << said;
  std::istringstream lines(said);
  std::string line;
  ASSERT_TRUE(std::getline(lines, line));
  const json guest = json::parse(line, nullptr, false);
  ASSERT_TRUE(guest.is_object()) << said;
  EXPECT_EQ(guest.at("/faultline/guest").at("faultline_command_commands_total"),
            m.engine.guests[0].commands.commands);
  EXPECT_EQ(guest.at("/faultline/guest"), Client().ask("guest", "vm-a"));
  ASSERT_TRUE(std::getline(lines, line)) << said;
  EXPECT_EQ(json::parse(line, nullptr, false),
            json::object({{"/faultline/guests", json::array({"vm-a", "vm_b.1"})}}));
}

}  // namespace
}  // namespace faultline::metrics
