// SPDX-License-Identifier: BSD-3-Clause
// The example VMM as a program of its own against a whole service in this process: engine, server
// and what outlives them.
#include <gmock/gmock.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/apps/faultline/program.h"
#include "tests/apps/session/live_service.h"

namespace faultline::session {
namespace {

using namespace testing_vmm;
using nlohmann::json;
using testing::HasSubstr;

struct Folder {
  Folder() {
    char name[] = "/tmp/faultline-vmm-XXXXXX";
    path = ::mkdtemp(name);
  }
  ~Folder() { std::filesystem::remove_all(path); }
  [[nodiscard]] std::string at(const std::string& name) const { return path + "/" + name; }
  std::string path;
};

/// The program, beside this thread.
class Vmm {
 public:
  Vmm(const Folder& folder, std::vector<std::string> more) : result_(folder.at("result.json")) {
    std::vector<std::string> arguments = {"--socket", folder.at("socket"), "--json", result_};
    arguments.insert(arguments.end(), more.begin(), more.end());
    thread_ = std::jthread(
        [this, arguments] { finished_ = run_program(arguments, 200, {}, {}, "faultline-vmm"); });
  }
  Finished wait() {
    thread_.join();
    return finished_;
  }
  [[nodiscard]] json result() const { return json::parse(std::ifstream(result_), nullptr, false); }

 private:
  std::string result_;
  Finished finished_;
  std::jthread thread_;
};

void wait_for_syncs(LiveService& service, std::size_t guests, std::uint64_t syncs) {
  for (;;) {
    const auto all = service.host().snapshot().guests;
    const bool enough = all.size() == guests && std::ranges::all_of(all, [&](const auto& g) {
                          return g.commands.syncs_completed >= syncs && !g.detached;
                        });
    if (enough) return;
    ::usleep(5000);
  }
}

void expect_served(const Vmm& vmm, std::size_t guests) {
  const json j = vmm.result();
  ASSERT_TRUE(j.is_object());
  EXPECT_EQ(j["findings"], json::array());
  ASSERT_EQ(j["guests"].size(), guests);
  for (const json& g : j["guests"]) {
    EXPECT_GT(g["faults_delivered"], 0) << g;
    EXPECT_GT(g["syncs"], 0) << g;
    EXPECT_EQ(g["lost"], 0) << g;
  }
}

TEST(ExampleVmm, ItsGuestsAreServedAndItsAuditIsClean) {
  const Folder folder;
  MapKeeper keeper;
  LiveService service(folder.at("socket"), keeper);
  Vmm vmm(folder, {"--guests", "2", "--devices", "3", "--seconds", "1"});
  const Finished finished = vmm.wait();
  EXPECT_EQ(finished.status, 0) << finished.out;
  EXPECT_THAT(finished.out, HasSubstr("faults delivered"));
  expect_served(vmm, 2);
  EXPECT_TRUE(service.host().snapshot().guests.empty()) << "it said goodbye";
  EXPECT_EQ(keeper.size(), 0U);
}

TEST(ExampleVmm, ARestartWithAKeeperLosesNothing) {
  const Folder folder;
  MapKeeper keeper;
  auto service = std::make_unique<LiveService>(folder.at("socket"), keeper);
  Vmm vmm(folder, {"--guests", "2", "--devices", "2", "--seconds", "4"});
  for (int life = 0; life < 2; ++life) {
    wait_for_syncs(*service, 2, 200);
    service.reset();
    service = std::make_unique<LiveService>(folder.at("socket"), keeper, keeper.kept());
    EXPECT_EQ(service->restored, 2U);
  }
  wait_for_syncs(*service, 2, 200);
  const Finished finished = vmm.wait();
  EXPECT_EQ(finished.status, 0) << finished.out;
  expect_served(vmm, 2);
  EXPECT_GE(vmm.result()["reattached"], 1);
}

TEST(ExampleVmm, ARestartWithoutAKeeperGoesOnFromTheJournal) {
  const Folder folder;
  NoKeeper keeper;
  auto service = std::make_unique<LiveService>(folder.at("socket"), keeper);
  Vmm vmm(folder, {"--guests", "2", "--devices", "2", "--seconds", "4"});
  wait_for_syncs(*service, 2, 200);
  service.reset();
  service = std::make_unique<LiveService>(folder.at("socket"), keeper);
  EXPECT_EQ(service->restored, 0U);
  wait_for_syncs(*service, 2, 200);
  const Finished finished = vmm.wait();
  EXPECT_EQ(finished.status, 0) << finished.out;
  expect_served(vmm, 2);
  EXPECT_GE(vmm.result()["reattached"], 1);
}

TEST(ExampleVmm, SaysWhenNobodyServes) {
  const Folder folder;
  Vmm vmm(folder, {"--guests", "1", "--seconds", "1"});
  const Finished finished = vmm.wait();
  EXPECT_EQ(finished.status, 2);
  EXPECT_THAT(finished.out, HasSubstr(folder.at("socket") + ": No such file"));
}

}  // namespace
}  // namespace faultline::session
