// SPDX-License-Identifier: BSD-3-Clause
#include "apps/metrics/endpoint.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>

#include "apps/metrics/moment_json.h"
#include "apps/metrics/table.h"

namespace faultline::metrics {
namespace {

Moment one_guest() {
  Moment m;
  m.uptime_ns = 1'500'000'000;
  m.sessions.lost_vmms = 2;
  m.now = 2'000'000'000;
  m.engine.shards.push_back({.cpu = 5, .shared = false, .counters = {}});
  m.engine.shards[0].counters.beat = 1'750'000'000;
  engine::GuestSnapshot& g = m.engine.guests.emplace_back();
  g.name = "a\"b\n";
  g.events.overflows = 7;
  g.evtq_depth = 3;
  g.commands.ioctls = 3;
  g.commands.syncs_completed = 2;
  g.event_stages.poll = 11;
  for (const std::uint64_t v : {100U, 300U, 300U}) g.sync_ns.record(v);
  g.devices.push_back({.name = "d", .vsid = StreamId{1}, .events = {}});
  g.devices[0].events.delivered = 9;
  return m;
}

/// What the service says to these bytes, to the end of the connection.
std::string say(int port, const std::string& bytes) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<std::uint16_t>(port));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::string answer;
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0) {
    (void)::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    // Who asks to be told the end and hangs up before it may get no answer.
    if (bytes.find("Connection: close") == std::string::npos) ::shutdown(fd, SHUT_WR);
    char part[4096];
    for (ssize_t n; (n = ::read(fd, part, sizeof part)) > 0;) {
      answer.append(part, static_cast<std::size_t>(n));
    }
  }
  ::close(fd);
  return answer;
}

std::string get(const std::string& path) {
  return "GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
}

TEST(MetricTable, HasProperNamesOnceEach) {
  std::set<std::string> names;
  for (const Metric& m : metric_table()) {
    EXPECT_TRUE(names.insert(m.name).second) << m.name;
    EXPECT_TRUE(std::regex_match(m.name, std::regex("faultline_[a-z0-9_]+"))) << m.name;
    EXPECT_EQ(m.name.ends_with("_total"), m.type == MetricType::kCounter) << m.name;
    EXPECT_TRUE(m.help.ends_with('.')) << m.name;
    EXPECT_EQ(m.help.find_first_of("|\n"), std::string::npos) << m.name;
    for (const Sample& s : m.read(one_guest())) EXPECT_EQ(s.labels.size(), m.labels.size());
  }
}

TEST(MetricTable, BecomesPrometheusText) {
  const std::string text = to_prometheus(one_guest());
  for (const char* line : {
           R"(faultline_event_overflows_total{guest="a\"b\n"} 7)",
           R"(faultline_evtq_depth{guest="a\"b\n"} 3)",
           R"(faultline_ioctls_per_sync{guest="a\"b\n"} 1.5)",
           R"(faultline_event_stage_cycles_total{guest="a\"b\n",stage="poll"} 11)",
           R"(faultline_device_delivered_total{guest="a\"b\n",device="d"} 9)",
           R"(faultline_sync_seconds_count{guest="a\"b\n"} 3)",
           R"(faultline_sync_seconds_bucket{guest="a\"b\n",le="2.56e-07"} 1)",
           R"(faultline_sync_seconds_bucket{guest="a\"b\n",le="+Inf"} 3)",
           "faultline_session_lost_vmms_total 2",
           "faultline_uptime_seconds 1.5",
           R"(faultline_shard_beat_age_seconds{shard="0",cpu="5"} 0.25)",
           (R"(faultline_guest_info{guest="a\"b\n",policy="merge",mode="exitless",)"
            R"(event_shard="0",command_shard="0"} 1)"),
       }) {
    EXPECT_NE(text.find(std::string(line) + "\n"), std::string::npos) << line << "\n" << text;
  }
}

TEST(MetricTable, AgeOfABeatIsNeverNegative) {
  Moment m = one_guest();
  const auto age = [&] {
    for (const Metric& metric : metric_table()) {
      if (metric.name == "faultline_shard_beat_age_seconds") return metric.read(m).at(0).value;
    }
    return -1.0;
  };
  m.engine.shards[0].counters.beat = static_cast<std::uint64_t>(m.now) + 1;
  EXPECT_EQ(age(), 0);
  m.engine.shards[0].counters.beat = 0;
  EXPECT_EQ(age(), 1.5) << "it has not begun since the service started";
}

TEST(MetricTable, IsThePageAboutIt) {
  const char* root = std::getenv("FAULTLINE_SOURCE_ROOT");
  std::ifstream in(std::string(root == nullptr ? "." : root) + "/doc/metrics.md");
  const std::string page{std::istreambuf_iterator<char>(in), {}};
  EXPECT_NE(page.find(metrics_markdown()), std::string::npos)
      << "it is what `faultlined --print-metrics` says";
  for (const Metric& m : metric_table()) {
    EXPECT_NE(metrics_markdown().find("| `" + m.name + "` |"), std::string::npos) << m.name;
  }
}

TEST(MetricsEndpoint, AnswersTwoPathsAndNoOthers) {
  auto endpoint = MetricsEndpoint::start({.listen = "127.0.0.1:0"}, one_guest);
  ASSERT_TRUE(endpoint) << endpoint.error().message();
  const int port = (*endpoint)->port();
  EXPECT_NE(say(port, get("/metrics")).find(to_prometheus(one_guest())), std::string::npos);
  EXPECT_NE(say(port, get("/moment.json")).find(to_json(one_guest())), std::string::npos);
  EXPECT_TRUE(say(port, get("/")).starts_with("HTTP/1.1 404"));
  EXPECT_TRUE(say(port, get("/../../etc/passwd")).starts_with("HTTP/1.1 404"));
}

TEST(MetricsEndpoint, SurvivesHostileRequests) {
  auto endpoint = MetricsEndpoint::start({.listen = "127.0.0.1:0"}, one_guest);
  ASSERT_TRUE(endpoint) << endpoint.error().message();
  const int port = (*endpoint)->port();
  const std::string line = "GET /metrics HTTP/1.1\r\n";
  for (const std::string& bytes : {
           std::string("\0\xff\x01\r\n\r\n", 7),
           std::string("GET"),
           std::string("GET /metrics HTTP/9.9\r\n\r\n"),
           "GET /" + std::string(100'000, 'a') + " HTTP/1.1\r\n\r\n",
           line + "X: " + std::string(100'000, 'a') + "\r\n\r\n",
           line + "Range: bytes=99999999999999999999-\r\n\r\n",
           std::string("POST /metrics HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\nabc"),
           std::string("PUT /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n"),
           std::string("DELETE /moment.json HTTP/1.1\r\n\r\n"),
       }) {
    EXPECT_FALSE(say(port, bytes).starts_with("HTTP/1.1 200")) << bytes.substr(0, 80);
  }
  EXPECT_TRUE(say(port, get("/metrics")).starts_with("HTTP/1.1 200"));
}

TEST(MetricsEndpoint, ListensOnlyOnThisMachine) {
  for (const char* address : {"0.0.0.0:0", "192.0.2.1:9", "[::]:0", "localhost:1", "127.0.0.1",
                              "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:-1", "", "::1:5"}) {
    const auto endpoint = MetricsEndpoint::start({.listen = address}, one_guest);
    ASSERT_FALSE(endpoint) << address;
    EXPECT_EQ(endpoint.error().message().find('\n'), std::string::npos);
  }
  EXPECT_TRUE(MetricsEndpoint::start({.listen = "0.0.0.0:0", .allow_remote = true}, one_guest));
}

TEST(MetricsEndpoint, SaysWhyItCannotListen) {
  const auto code = [](const std::string& listen) {
    auto endpoint = MetricsEndpoint::start({.listen = listen, .allow_remote = true}, one_guest);
    return endpoint ? 0 : endpoint.error().code;
  };
  auto first = MetricsEndpoint::start({.listen = "127.0.0.1:0"}, one_guest);
  ASSERT_TRUE(first) << first.error().message();
  EXPECT_EQ(code("127.0.0.1:" + std::to_string((*first)->port())), EADDRINUSE);
  EXPECT_EQ(code("192.0.2.1:9"), EADDRNOTAVAIL);  // set apart for documents: nobody has it
  EXPECT_EQ(code("/nonexistent/metrics"), ENOENT);
  EXPECT_EQ(code("/proc/self/status"), EADDRINUSE);
}

TEST(MetricsEndpoint, ListensOnAUnixSocket) {
  const std::string path = testing::TempDir() + "metrics" + std::to_string(::getpid());
  {
    auto endpoint = MetricsEndpoint::start({.listen = path}, one_guest);
    ASSERT_TRUE(endpoint) << endpoint.error().message();
    EXPECT_FALSE(MetricsEndpoint::start({.listen = path}, one_guest)) << "taken";
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un to{};
    to.sun_family = AF_UNIX;
    path.copy(to.sun_path, sizeof to.sun_path - 1);
    ASSERT_EQ(::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to), 0);
    const std::string request = get("/metrics");
    (void)::send(fd, request.data(), request.size(), MSG_NOSIGNAL);
    char start[15];
    ASSERT_EQ(::recv(fd, start, sizeof start, MSG_WAITALL), 15);
    EXPECT_EQ(std::string(start, sizeof start), "HTTP/1.1 200 OK");
    ::close(fd);
  }
  EXPECT_NE(::access(path.c_str(), F_OK), 0);
}

}  // namespace
}  // namespace faultline::metrics
