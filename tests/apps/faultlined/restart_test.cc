// SPDX-License-Identifier: BSD-3-Clause
// Guests of the example VMM through the ends of their service: its audit says what was lost.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/apps/faultlined/fake_manager.h"
#include "tests/apps/faultlined/service_process.h"

namespace faultline::daemon {
namespace {

using ::testing::HasSubstr;

constexpr const char* kProgram = "faultlined";

std::vector<std::string> vmm_arguments(const TestFolder& folder, unsigned seconds) {
  return {"--socket",  folder.socket(),        "--guests", "2", "--devices", "2",
          "--seconds", std::to_string(seconds)};
}

/// Take what the service tells its manager until it has stored this many descriptors.
void await_stored(FakeManager& manager, std::size_t fds) {
  const Nanos until = monotonic_ns() + Nanos{60} * 1'000'000'000;
  while (manager.store.size() < fds && monotonic_ns() < until) {
    if (!manager.turn()) ::usleep(1000);
  }
  // What is on its way still.
  for (int quiet = 0; quiet < 200; ++quiet) {
    if (manager.turn()) quiet = 0;
    ::usleep(1000);
  }
}

TEST(FaultlinedGuests, AreServedAndLetGo) {
  const TestFolder folder;
  Program service(kProgram, {"--config", folder.config()});
  ASSERT_TRUE(service.says("VMMs attach at")) << service.said();
  Program vmm("faultline-vmm", vmm_arguments(folder, 2));
  EXPECT_EQ(vmm.wait(), 0) << vmm.said() << service.said();
  service.kill(SIGTERM);
  EXPECT_EQ(service.wait(), 0) << service.said();
  EXPECT_THAT(service.said(), HasSubstr("drained: 0 guests at rest"));
}

/// One life ends by `signal` with guests attached, the next one is handed what it kept.
void next_life_takes_over(int signal, int status) {
  FakeManager manager;
  ASSERT_TRUE(manager.bound());
  const TestFolder folder;
  auto service =
      std::make_unique<Program>(kProgram, std::vector<std::string>{"--config", folder.config()});
  ASSERT_TRUE(service->says("VMMs attach at")) << service->said();
  Program vmm("faultline-vmm", vmm_arguments(folder, 10));
  // Of two guests: memory, journal, four interrupts' eventfds at least, three files of each device.
  await_stored(manager, 16);
  EXPECT_GE(manager.store.size(), 16U);
  service->kill(signal);
  EXPECT_EQ(service->wait(), status) << service->said();
  if (signal == SIGTERM) {
    EXPECT_THAT(service->said(), HasSubstr("drained: 2 guests at rest"));
  }
  manager.turn_all();
  std::vector<session::KeptFd> kept = manager.hand_over();
  service = std::make_unique<Program>(kProgram,
                                      std::vector<std::string>{"--config", folder.config()}, kept);
  for (const session::KeptFd& k : kept) ::close(k.fd);
  EXPECT_TRUE(service->says("serves 2 guests of its last life again")) << service->said();
  // The manager goes on taking what is told it.
  const Nanos until = monotonic_ns() + Nanos{60} * 1'000'000'000;
  while (vmm.running() && monotonic_ns() < until) {
    manager.turn_all();
    ::usleep(1000);
  }
  EXPECT_EQ(vmm.wait(), 0) << vmm.said() << service->said();
  service->kill(SIGTERM);
  EXPECT_EQ(service->wait(), 0) << service->said();
}

TEST(FaultlinedGuests, LoseNothingWhenTheirServiceIsDrained) {
  next_life_takes_over(SIGTERM, 0);
}

TEST(FaultlinedGuests, LoseNothingWhenTheirServiceIsKilled) {
  next_life_takes_over(SIGKILL, 128 + SIGKILL);
}

TEST(FaultlinedGuests, ComeBackByThemselvesWhereNobodyKeptThem) {
  const TestFolder folder;
  auto service =
      std::make_unique<Program>(kProgram, std::vector<std::string>{"--config", folder.config()});
  ASSERT_TRUE(service->says("VMMs attach at")) << service->said();
  Program vmm("faultline-vmm", vmm_arguments(folder, 6));
  ::usleep(2'000'000);
  service->kill(SIGKILL);
  EXPECT_EQ(service->wait(), 128 + SIGKILL) << service->said();
  service =
      std::make_unique<Program>(kProgram, std::vector<std::string>{"--config", folder.config()});
  ASSERT_TRUE(service->says("VMMs attach at")) << service->said();
  EXPECT_EQ(vmm.wait(), 0) << vmm.said() << service->said();
  service->kill(SIGTERM);
  EXPECT_EQ(service->wait(), 0) << service->said();
}

}  // namespace
}  // namespace faultline::daemon
