// SPDX-License-Identifier: BSD-3-Clause
// `faultline status` and `faultline drain` with the real service and a VMM that it serves.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "apps/metrics/moment_json.h"
#include "tests/apps/faultline/program.h"
#include "tests/apps/faultlined/service_process.h"

namespace faultline {
namespace {

using daemon::Program;
using daemon::TestFolder;
using testing::HasSubstr;
using testing::MatchesRegex;

constexpr unsigned kLimit = 60;
constexpr Nanos kPatience = Nanos{180} * 1'000'000'000;

Finished ask(const std::string& command, const TestFolder& folder,
             std::vector<std::string> more = {}, const std::vector<std::string>& prefix = {}) {
  more.insert(more.begin(), {command, "--socket", folder.socket()});
  return run_program(more, kLimit, "", prefix);
}

metrics::Moment moment_of(const TestFolder& folder) {
  const Finished f = ask("status", folder, {"--json"});
  EXPECT_EQ(f.status, 0) << f.out;
  auto moment = metrics::moment_from_json(f.out);
  EXPECT_TRUE(moment) << (moment ? "" : moment.error().message());
  return moment ? *moment : metrics::Moment{};
}

/// A service, and a VMM with two guests of two devices that plays for long.
struct World {
  World() {
    const Nanos until = monotonic_ns() + kPatience;
    if (!service.says("VMMs attach at")) return;
    vmm.emplace("faultline-vmm",
                std::vector<std::string>{"--guests", "2", "--devices", "2", "--seconds", "600",
                                         "--socket", folder.socket()});
    while (monotonic_ns() < until) {
      const auto guests = moment_of(folder).engine.guests;
      ready = guests.size() == 2 && guests[1].commands.syncs_completed > 100 &&
              guests[1].evtq_size != 0 && guests[0].evtq_size != 0;
      if (ready || !vmm->running()) return;
    }
  }
  [[nodiscard]] std::string said() const {
    return service.said() + (vmm ? vmm->said() : std::string());
  }
  TestFolder folder;
  std::optional<Program> vmm;  // its kernel outlives it as long as the service has its devices
  Program service{"faultlined", {"--node", "0", "--config", folder.config()}};
  bool ready = false;
};

TEST(StatusOfAService, TextAndJsonTellTheSame) {
  World world;
  ASSERT_TRUE(world.ready) << world.said();
  const metrics::Moment before = moment_of(world.folder);
  const Finished f = ask("status", world.folder);
  const metrics::Moment after = moment_of(world.folder);
  ASSERT_EQ(f.status, 0) << f.out;
  EXPECT_THAT(f.out, HasSubstr("service   node 0, backend soft, up "));
  EXPECT_THAT(f.out, HasSubstr("; 2 guests, 4 devices, " +
                               std::to_string(after.engine.shards.size()) + " shard"));
  EXPECT_THAT(f.out, HasSubstr("sessions  2 open, "));
  EXPECT_EQ(after.sessions.lost_vmms, 0U) << "status is no VMM that was lost";
  for (const engine::GuestSnapshot& g : after.engine.guests) {
    EXPECT_THAT(f.out, HasSubstr("/" + std::to_string(g.evtq_size) + " ")) << g.name;
    EXPECT_THAT(g.name, MatchesRegex("vmm[0-9]+-guest[01]"));
    for (const engine::DeviceSnapshot& d : g.devices) EXPECT_THAT(f.out, HasSubstr(" " + d.name));
  }
  // What counts went on between the two, and the text lies between them.
  const std::size_t at = f.out.find(after.engine.guests[0].devices[0].name);
  unsigned vsid = 0;
  double rate = 0;
  std::uint64_t delivered = 0;
  ASSERT_EQ(std::sscanf(f.out.c_str() + at, "%*s %x %lf %lu", &vsid, &rate, &delivered), 3)
      << f.out;
  EXPECT_EQ(vsid, after.engine.guests[0].devices[0].vsid.value);
  EXPECT_LE(before.engine.guests[0].devices[0].events.delivered, delivered);
  EXPECT_GE(after.engine.guests[0].devices[0].events.delivered, delivered);
}

TEST(DrainOfAService, EndsItAtRest) {
  World world;
  ASSERT_TRUE(world.ready) << world.said();
  const Finished f = ask("drain", world.folder, {"--timeout", "60"});
  EXPECT_EQ(f.status, 0) << f.out;
  EXPECT_THAT(f.out, MatchesRegex("draining 2 guests on node 0\n([0-9]+ s\n)*"
                                  "drained: the service has ended\n"));
  EXPECT_TRUE(world.service.says("a peer asked it to drain")) << world.service.said();
  const int status = world.service.wait();
  // Guests at work on a busy machine are stopped as by a kill, which is said.
  EXPECT_TRUE(status == 0 || status == 1) << world.service.said();
  EXPECT_THAT(world.service.said(), HasSubstr(status == 0 ? "drained: 2 guests at rest" : "drain"));
  const Finished again = ask("status", world.folder);
  EXPECT_EQ(again.status, 1);
  EXPECT_THAT(again.out, HasSubstr("no service listens there"));
}

TEST(DrainOfAService, IsNotForEveryUser) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become another user";
  const std::vector<std::string> nobody = {"setpriv", "--reuid=65534", "--regid=65534",
                                           "--clear-groups"};
  const Finished able = run_program({"--version"}, kLimit, "", nobody);
  if (able.status != 0) GTEST_SKIP() << "another user cannot run it here: " << able.out;
  TestFolder folder;
  folder.write("[sessions]\nuids = [65534]\n");
  Program service("faultlined", {"--config", folder.config()});
  ASSERT_TRUE(service.says("VMMs attach at")) << service.said();
  ASSERT_EQ(::chmod(folder.socket().c_str(), 0666), 0);
  EXPECT_EQ(ask("status", folder, {}, nobody).status, 0);
  const Finished f = ask("drain", folder, {}, nobody);
  EXPECT_EQ(f.status, 1);
  EXPECT_THAT(f.out, MatchesRegex("draining 0 guests on node 0\n.*: drain: only root and the "
                                  "service's own user may ask for it\n"));
  EXPECT_TRUE(service.running());
  service.kill(SIGTERM);
  EXPECT_EQ(service.wait(), 0) << service.said();
}

TEST(StatusOfAService, OneThatHangsIsSaidNotToAnswer) {
  const TestFolder folder;
  Program service("faultlined", {"--config", folder.config()});
  ASSERT_TRUE(service.says("VMMs attach at")) << service.said();
  service.kill(SIGSTOP);
  for (const char* command : {"status", "drain"}) {
    const Finished f = ask(command, folder);
    EXPECT_EQ(f.status, 1);
    EXPECT_THAT(f.out, MatchesRegex("faultline: .*: the service does not answer: .*\n"));
  }
  service.kill(SIGCONT);
  EXPECT_EQ(ask("status", folder).status, 0);
  service.kill(SIGTERM);
  EXPECT_EQ(service.wait(), 0) << service.said();
}

}  // namespace
}  // namespace faultline
