// SPDX-License-Identifier: BSD-3-Clause
// Where the counters of the real program can be read, locked down as it is.
#include "apps/faultlined/outlets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "apps/session/fd.h"
#include "tests/apps/faultlined/service_process.h"

namespace faultline::daemon {
namespace {

using ::testing::HasSubstr;

constexpr const char* kProgram = "faultlined";

session::Fd connect_to(const std::string& path, int type) {
  session::Fd fd(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  path.copy(to.sun_path, sizeof to.sun_path - 1);
  EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to), 0) << path;
  const timeval patience{20, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  return fd;
}

std::string http_get(const session::Fd& fd, const std::string& what) {
  const std::string request = "GET " + what + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  EXPECT_EQ(::send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(request.size()));
  std::string answer;
  std::array<char, 4096> part{};
  for (ssize_t n = 0; (n = ::read(fd.get(), part.data(), part.size())) > 0;) {
    answer.append(part.data(), static_cast<std::size_t>(n));
  }
  return answer;
}

std::string http_get(const std::string& path, const std::string& what) {
  return http_get(connect_to(path, SOCK_STREAM), what);
}

/// What DPDK's telemetry says to a command, as its own client asks.
nlohmann::json telemetry(const session::Fd& fd, const std::string& command) {
  EXPECT_EQ(::send(fd.get(), command.data(), command.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(command.size()));
  std::string answer(std::size_t{1} << 16U, '\0');
  const ssize_t n = ::recv(fd.get(), answer.data(), answer.size(), 0);
  answer.resize(n < 0 ? 0 : static_cast<std::size_t>(n));
  return nlohmann::json::parse(answer, nullptr, false);
}

std::string address(const std::string& listen, std::uint64_t node) {
  config::Options options;
  options.metrics_listen = listen;
  options.node = node;
  auto at = metrics_address(options);
  return at ? *at : "error: " + at.error().message();
}

TEST(Outlets, TheAddressIsOfTheNode) {
  EXPECT_EQ(address(config::Options().metrics_listen, 0), "127.0.0.1:9460");
  EXPECT_EQ(address(config::Options().metrics_listen, 1023), "127.0.0.1:10483");
  EXPECT_EQ(address("[::1]:9000+%N", 7), "[::1]:9007");
  EXPECT_EQ(address("127.0.0.1:80", 7), "127.0.0.1:80");
  EXPECT_EQ(address("unix:/run/node-%N.sock", 12), "/run/node-12.sock");
  EXPECT_EQ(address("unix:/run/a+b:1+2", 0), "/run/a+b:1+2");
  for (const char* bad : {"127.0.0.1:65535+1", "127.0.0.1:+1", "127.0.0.1:1+", "127.0.0.1:1+x",
                          "127.0.0.1:1+99999999999999999999", "unix:relative", "unix:"}) {
    EXPECT_THAT(address(bad, 0), testing::StartsWith("error: metrics.listen: ")) << bad;
  }
}

TEST(Outlets, AnAddressThatIsNoneIsOneLine) {
  const TestFolder folder;
  for (const char* bad : {"192.0.2.1:9", "127.0.0.1", "/no/prefix"}) {
    folder.write("", "", "telemetry = false\nlisten = \"" + std::string(bad) + "\"\n");
    Program service(kProgram, {"--config", folder.config()});
    EXPECT_EQ(service.wait(), 1) << bad << service.said();
    EXPECT_THAT(service.said(), HasSubstr("metrics.listen: " + std::string(bad) + ": "));
    EXPECT_EQ(service.said().find("error: "), service.said().rfind("error: ")) << service.said();
  }
}

TEST(Outlets, AnAddressThatSomebodyElseHasKeepsNoGuestWaiting) {
  session::Fd taken(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t bytes = sizeof at;
  ASSERT_EQ(::bind(taken.get(), reinterpret_cast<sockaddr*>(&at), bytes), 0);
  ASSERT_EQ(::listen(taken.get(), 1), 0);
  ASSERT_EQ(::getsockname(taken.get(), reinterpret_cast<sockaddr*>(&at), &bytes), 0);
  const std::string listen = "127.0.0.1:" + std::to_string(ntohs(at.sin_port));

  const TestFolder folder;
  const std::string user = ::geteuid() == 0 ? "user = \"nobody\"\nsocket-owner = \"nobody\"\n" : "";
  folder.write("", user, "telemetry = false\nlisten = \"" + listen + "\"\n");
  Program service(kProgram, {"--config", folder.config()});
  ASSERT_TRUE(service.says("VMMs attach at")) << service.said();
  EXPECT_THAT(service.said(), HasSubstr("warning: metrics.listen: " + listen + ": "));
  EXPECT_THAT(service.said(), HasSubstr("goes on without"));
  taken.reset();
  // Locked down as it is by now.
  ASSERT_TRUE(service.says(listen + ": listens there now")) << service.said();
  const session::Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&at), sizeof at), 0);
  EXPECT_THAT(http_get(fd, "/metrics"), HasSubstr("HTTP/1.1 200 OK"));
  EXPECT_EQ(service.said().find("warning: metrics"), service.said().rfind("warning: metrics"))
      << "said once";
  service.kill(SIGTERM);
  EXPECT_EQ(service.wait(), 0) << service.said();
}

TEST(Outlets, BothTellTheSameOfAServiceThatIsLockedDown) {
  const TestFolder folder;
  const std::string listen = folder.path() + "/m.sock";
  const std::string user = ::geteuid() == 0 ? "user = \"nobody\"\nsocket-owner = \"nobody\"\n" : "";
  folder.write("", user, "listen = \"unix:" + listen + "\"\n");
  ::setenv("RUNTIME_DIRECTORY", folder.path().c_str(), 1);
  Program service(kProgram, {"--config", folder.config()});
  ::unsetenv("RUNTIME_DIRECTORY");
  ASSERT_TRUE(service.says("VMMs attach at")) << service.said();
  Program vmm("faultline-vmm",
              {"--socket", folder.socket(), "--guests", "1", "--devices", "2", "--seconds", "4"});
  // Several times over: each connection is a thread of its own.
  std::string text;
  const std::string value = "faultline_command_syncs_total{guest=\"";
  for (int i = 0; i < 100 && text.find(value) == std::string::npos; ++i) {
    ::usleep(50'000);
    text = http_get(listen, "/metrics");
    ASSERT_THAT(text, HasSubstr("HTTP/1.1 200 OK"));
  }
  EXPECT_THAT(text, HasSubstr("faultline_session_open 1\n"));
  ASSERT_THAT(text, HasSubstr(value));
  EXPECT_TRUE(nlohmann::json::parse(
                  [&] {
                    const std::string whole = http_get(listen, "/moment.json");
                    return whole.substr(whole.find("\r\n\r\n") + 4);
                  }(),
                  nullptr, false)
                  .contains("guests"));

  std::string dpdk;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder.path())) {
    if (entry.path().filename() == "dpdk_telemetry.v2") dpdk = entry.path();
  }
  ASSERT_FALSE(dpdk.empty());
  EXPECT_THAT(dpdk, HasSubstr("/dpdk/faultline-0-faultlined-"));
  const session::Fd fd = connect_to(dpdk, SOCK_SEQPACKET);
  std::array<char, 1024> hello{};
  ASSERT_GT(::recv(fd.get(), hello.data(), hello.size(), 0), 0);
  const nlohmann::json names = telemetry(fd, "/faultline/guests")["/faultline/guests"];
  ASSERT_EQ(names.size(), 1U) << names;
  const std::string name = names[0];
  EXPECT_THAT(text, HasSubstr(value + name + "\""));
  nlohmann::json guest;
  for (int i = 0; i < 60; ++i) {
    guest = telemetry(fd, "/faultline/guest," + name)["/faultline/guest"];
    ASSERT_TRUE(guest.is_object()) << guest;
    if (guest["faultline_command_commands_total"] > 0) break;
    ::usleep(50'000);
  }
  EXPECT_GT(guest["faultline_command_commands_total"], 0);
  EXPECT_EQ(vmm.wait(), 0) << vmm.said();
  service.kill(SIGTERM);
  EXPECT_EQ(service.wait(), 0) << service.said();
  EXPECT_FALSE(std::filesystem::exists(listen));
}

}  // namespace
}  // namespace faultline::daemon
