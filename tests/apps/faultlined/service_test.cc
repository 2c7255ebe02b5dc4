// SPDX-License-Identifier: BSD-3-Clause
// The real program, as a child.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "apps/metrics/table.h"
#include "apps/session/fd.h"
#include "config/keys.h"
#include "config/parse.h"
#include "tests/apps/faultlined/fake_manager.h"
#include "tests/apps/faultlined/service_process.h"

namespace faultline::daemon {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kProgram = "faultlined";

struct Ran {
  int status = -1;
  std::string said;
};
Ran run(const std::vector<std::string>& arguments) {
  Program program(kProgram, arguments);
  const int status = program.wait();
  return {status, program.said()};
}

std::string line_of(const std::string& path, const std::string& key) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    if (line.rfind(key, 0) == 0) return line.substr(key.size());
  }
  return {};
}

TEST(Faultlined, ChecksAndPrintsItsConfiguration) {
  const TestFolder folder;
  Ran r = run({"--check", "--config", folder.config()});
  EXPECT_EQ(r.status, 0) << r.said;
  EXPECT_EQ(r.said, folder.config() + ": ok\n");
  r = run({"--print-config", "--config", folder.config(), "--node", "3"});
  EXPECT_EQ(r.status, 0);
  config::Options expected = config::parse_file(folder.config()).options;
  expected.node = 3;
  EXPECT_EQ(config::parse(r.said, "printed").options, expected);
  EXPECT_EQ(run({"--print-config"}).said, config::to_toml({}));
  EXPECT_EQ(run({"--print-keys"}).said, config::to_markdown());
  EXPECT_EQ(run({"--print-metrics"}).said, metrics::metrics_markdown());
}

TEST(Faultlined, WhatIsWrongIsOneLineEach) {
  const TestFolder folder;
  folder.write("[merge]\ncapp = 2\nlinger = \"\"\n");
  for (const char* how : {"--check", "--print-config"}) {
    const Ran r = run({how, "--config", folder.config()});
    EXPECT_EQ(r.status, 2);
    EXPECT_THAT(r.said, HasSubstr("faultlined: error: " + folder.config() + ":"));
    EXPECT_THAT(r.said, HasSubstr("unknown key 'capp' in [merge]: did you mean 'cap'?\n"));
    EXPECT_EQ(std::count(r.said.begin(), r.said.end(), '\n'), 2) << r.said;
  }
  Ran r = run({"--nod", "0"});
  EXPECT_EQ(r.status, 2);
  EXPECT_EQ(std::count(r.said.begin(), r.said.end(), '\n'), 1) << r.said;
  folder.write();
  r = run({"--node", "1023", "--config", folder.config()});
  EXPECT_EQ(r.status, 1);
  EXPECT_THAT(r.said, HasSubstr("1023"));
  EXPECT_EQ(std::count(r.said.begin(), r.said.end(), '\n'), 1) << r.said;
  folder.write("", "user = \"no-such-user\"\n");
  r = run({"--config", folder.config()});
  EXPECT_EQ(r.status, 1);
  EXPECT_THAT(r.said, HasSubstr("service.user: user 'no-such-user': not known"));
}

TEST(Faultlined, ACheckLooksBeyondTheFile) {
  const TestFolder folder;
  const auto wrong = [&](const std::string& service, const std::string& metrics) {
    folder.write("", service, "telemetry = false\n" + metrics);
    const Ran r = run({"--check", "--config", folder.config()});
    EXPECT_EQ(r.status, 2) << r.said;
    return r.said;
  };
  EXPECT_THAT(wrong("", "listen = \"nonsense\"\n"), HasSubstr("metrics.listen: nonsense: is no"));
  EXPECT_THAT(wrong("", "listen = \"nonsense\"\n"), HasSubstr(" or unix:/PATH"));
  EXPECT_THAT(wrong("", "listen = \"127.0.0.1:99999\"\n"), HasSubstr("127.0.0.1:99999: is no"));
  EXPECT_THAT(wrong("", "listen = \"0.0.0.0:9460\"\n"), HasSubstr("allow it (metrics.remote)"));
  EXPECT_THAT(wrong("user = \"root\"\n", ""), HasSubstr("service.user: it must not stay root"));
  EXPECT_THAT(wrong("user = \"nobody\"\ngroup = \"no-such-group\"\n", ""),
              HasSubstr("service.user: group 'no-such-group': not known"));
  const std::string all = wrong("user = \"no-such\"\nsocket-owner = \"no-such-owner\"\n",
                                "listen = \"0.0.0.0:9460\"\n");
  EXPECT_THAT(all, HasSubstr("service.user: user 'no-such': not known"));
  EXPECT_THAT(all, HasSubstr("service.socket-owner: user 'no-such-owner': not known"));
  EXPECT_THAT(all, HasSubstr("metrics.listen: 0.0.0.0:9460: is not loopback"));
  EXPECT_EQ(std::count(all.begin(), all.end(), '\n'), 3) << all;
}

TEST(Faultlined, AStartSaysAllThatIsWrong) {
  const TestFolder folder;
  folder.write("[placement]\nshards = 64\nstrict-cores = true\n", "socket-owner = \"no-such\"\n",
               "telemetry = false\nlisten = \"0.0.0.0:9460\"\n");
  const Ran r = run({"--config", folder.config()});
  EXPECT_EQ(r.status, 1);
  EXPECT_THAT(r.said, HasSubstr("service.socket-owner: user 'no-such': not known"));
  EXPECT_THAT(r.said, HasSubstr("metrics.listen: 0.0.0.0:9460: is not loopback"));
  EXPECT_THAT(r.said, HasSubstr("; set placement.shards = "));
  EXPECT_THAT(r.said, HasSubstr(" or placement.strict-cores = false\n"));
  EXPECT_EQ(std::count(r.said.begin(), r.said.end(), '\n'), 3) << r.said;
}

TEST(Faultlined, AFolderThatIsNotThereIsToBeMade) {
  const TestFolder folder;
  std::ofstream(folder.config()) << "[service]\nsocket = \"" << folder.path()
                                 << "/none/s.sock\"\n[metrics]\nlisten = \"\"\n";
  const Ran r = run({"--config", folder.config(), "--node", "0"});
  EXPECT_EQ(r.status, 1);
  EXPECT_THAT(r.said, HasSubstr("/none/s.sock: its folder is not there: create it"));
}

TEST(Faultlined, LevelsAreForTheJournalOnly) {
  const TestFolder folder;
  // Of another stream: a child of a unit whose stderr leads elsewhere.
  ::setenv("JOURNAL_STREAM", "8:1", 1);
  const Ran r = run({"--node", "1023", "--config", folder.config()});
  EXPECT_THAT(r.said, ::testing::StartsWith("faultlined: error: "));
  ::unsetenv("JOURNAL_STREAM");
  const auto self = std::filesystem::read_symlink("/proc/self/exe");
  const std::string program = (self.parent_path().parent_path() / "apps" / kProgram).string();
  const std::string command = "exec 2>&1; JOURNAL_STREAM=$(stat -L -c %d:%i /proc/$$/fd/2) exec " +
                              program + " --node 1023 --config " + folder.config();
  std::FILE* const journal = ::popen(command.c_str(), "re");
  ASSERT_NE(journal, nullptr);
  std::array<char, 4> head{};
  EXPECT_NE(std::fgets(head.data(), head.size(), journal), nullptr);
  EXPECT_STREQ(head.data(), "<3>");
  while (std::fgetc(journal) != EOF) {
  }
  ::pclose(journal);
}

TEST(Faultlined, ServesANodeOnce) {
  const TestFolder folder;
  Program first(kProgram, {"--node", "0", "--config", folder.config()});
  ASSERT_TRUE(first.says("serving node 0 on core")) << first.said();
  ASSERT_TRUE(first.says("VMMs attach at " + folder.socket())) << first.said();
  const Ran second = run({"--node", "0", "--config", folder.config()});
  EXPECT_EQ(second.status, 1);
  EXPECT_THAT(second.said,
              HasSubstr("node 0 is served already by process " + std::to_string(first.pid())));
  EXPECT_EQ(std::count(second.said.begin(), second.said.end(), '\n'), 1) << second.said;
  struct stat s {};
  ASSERT_EQ(::stat(folder.socket().c_str(), &s), 0) << "the second one must leave it alone";
  EXPECT_EQ(s.st_mode & 0777U, 0660U);
  first.kill(SIGTERM);
  EXPECT_EQ(first.wait(), 0) << first.said();
  EXPECT_THAT(first.said(), HasSubstr("drained: 0 guests at rest"));
  EXPECT_NE(::stat(folder.socket().c_str(), &s), 0) << "its socket is left behind";
}

TEST(Faultlined, AKilledServiceLeavesNothingInTheWay) {
  const TestFolder folder;
  for (int life = 0; life < 2; ++life) {
    Program service(kProgram, {"--config", folder.config()});
    ASSERT_TRUE(service.says("VMMs attach at")) << service.said();
    service.kill(life == 0 ? SIGKILL : SIGINT);
    EXPECT_EQ(service.wait(), life == 0 ? 128 + SIGKILL : 0) << service.said();
  }
}

TEST(Faultlined, ReloadsWhatCanChange) {
  const TestFolder folder;
  Program service(kProgram, {"--config", folder.config()});
  ASSERT_TRUE(service.says("VMMs attach at")) << service.said();
  folder.write("[sessions]\nuids = [1]\n[merge]\ncap = 3.0\n");
  service.kill(SIGHUP);
  ASSERT_TRUE(service.says(
      "faultlined: warning: merge.cap stays as it was until the service starts again\n"))
      << service.said();
  ASSERT_TRUE(service.says("read " + folder.config() + " again")) << service.said();
  EXPECT_THAT(service.said(), Not(HasSubstr("sessions.uids")));

  folder.write("[sessions]\nuids = 1\n");
  service.kill(SIGHUP);
  ASSERT_TRUE(service.says("sessions.uids is a list of whole numbers")) << service.said();
  ASSERT_TRUE(service.says("faultlined: error: SIGHUP: nothing is changed\n")) << service.said();
  service.kill(SIGTERM);
  EXPECT_EQ(service.wait(), 0) << service.said();
}

TEST(Faultlined, TellsItsManagerHowItIs) {
  FakeManager manager;
  ASSERT_TRUE(manager.bound());
  ::setenv("WATCHDOG_USEC", "200000", 1);
  const TestFolder folder;
  Program service(kProgram, {"--config", folder.config()});
  ASSERT_TRUE(service.says("VMMs attach at")) << service.said();
  bool ready = false;
  int beats = 0;
  while (beats < 3) {
    if (!manager.turn()) {
      ::usleep(1000);
      continue;
    }
    ready |= manager.value("READY") == "1" &&
             manager.value("STATUS").rfind("serving node 0 on core", 0) == 0;
    if (manager.value("WATCHDOG") == "1") ++beats;
  }
  EXPECT_TRUE(ready) << "before the first beat";
  ::unsetenv("WATCHDOG_USEC");
  service.kill(SIGHUP);
  ASSERT_TRUE(service.says("again")) << service.said();
  service.kill(SIGTERM);
  EXPECT_EQ(service.wait(), 0) << service.said();
  std::vector<std::string> states;
  while (manager.turn()) {
    if (manager.value("RELOADING") == "1") states.emplace_back("reloading");
    if (manager.value("READY") == "1") states.emplace_back("ready");
    if (manager.value("STOPPING") == "1") states.emplace_back("stopping");
  }
  EXPECT_THAT(states, testing::ElementsAre("reloading", "ready", "stopping"));
}

TEST(Faultlined, TakesThePassedSocket) {
  const TestFolder folder;
  const session::Fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, folder.socket().c_str(), sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(socket.get(), 8), 0);
  Program service(kProgram, {"--config", folder.config()}, {{"session", socket.get()}});
  ASSERT_TRUE(service.says("VMMs attach at the socket that was passed")) << service.said();
  service.kill(SIGTERM);
  EXPECT_EQ(service.wait(), 0) << service.said();
  struct stat s {};
  EXPECT_EQ(::stat(folder.socket().c_str(), &s), 0)
      << "a socket of systemd's is not ours to remove";
}

TEST(Faultlined, LocksItselfDown) {
  const TestFolder folder;
  const bool root = ::geteuid() == 0;
  if (root) folder.write("", "user = \"nobody\"\nsocket-owner = \"nobody\"\n");
  Program service(kProgram, {"--config", folder.config()});
  ASSERT_TRUE(service.says("VMMs attach at")) << service.said();
  const std::string status = "/proc/" + std::to_string(service.pid()) + "/status";
  EXPECT_THAT(line_of(status, "NoNewPrivs:"), HasSubstr("1"));
  EXPECT_THAT(line_of(status, "CapEff:"), HasSubstr("0000000000000000"));
  EXPECT_THAT(line_of(status, "Uid:"), Not(HasSubstr("\t0\t")));
  if (!config::parse_file(folder.config()).options.seccomp) {
    EXPECT_THAT(line_of(status, "Seccomp:"), HasSubstr("0"));
  } else {
    EXPECT_THAT(line_of(status, "Seccomp:"), HasSubstr("2"));
  }
  service.kill(SIGTERM);
  EXPECT_EQ(service.wait(), 0) << service.said();
}

}  // namespace
}  // namespace faultline::daemon
