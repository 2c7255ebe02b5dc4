// SPDX-License-Identifier: BSD-3-Clause
// As many guests as a dense node has: 64 of 16 devices each.
#include <gtest/gtest.h>

#include "tests/apps/session/soft_vmm.h"

namespace faultline::session {
namespace {

using namespace testing_vmm;

constexpr unsigned kKernels = 16;
constexpr unsigned kGuests = 4;  // of each
constexpr unsigned kDevices = 16;

TEST(ManyGuests, SixtyFourOfSixteenDevicesAreServedAndLeaveNothing) {
  RunOptions options;
  options.rate = "recorded";
  std::vector<std::unique_ptr<SoftVmm>> vmms;
  for (unsigned k = 0; k < kKernels; ++k) {
    const std::string prefix = "k" + std::to_string(k) + "-";
    vmms.push_back(std::make_unique<SoftVmm>(kGuests, kDevices, options, 1, prefix));
  }
  Service service;
  const std::size_t before = open_descriptors();
  for (auto& vmm : vmms) {
    for (unsigned g = 0; g < kGuests; ++g) {
      const auto added = service.host->add(vmm->request(g));
      ASSERT_TRUE(added) << added.error().message();
    }
    vmm->session().start();
  }
  EXPECT_EQ(service.host->snapshot().guests.size(), kKernels * kGuests);
  for (auto& vmm : vmms) ASSERT_TRUE(vmm->session().wait_ready(120'000'000'000));
  const auto all_had_faults = [&] {
    for (const engine::GuestSnapshot& g : service.host->snapshot().guests) {
      if (g.sum(&engine::EventDeviceCounters::delivered) == 0) return false;
      EXPECT_EQ(g.devices.size(), kDevices);
    }
    return true;
  };
  while (!all_had_faults()) {
    for (auto& vmm : vmms) vmm->turns(1);
  }
  for (auto& vmm : vmms) {
    const RunResult result = vmm->session().finish();
    for (const std::string& finding : result.verdict.findings) ADD_FAILURE() << finding;
    EXPECT_EQ(result.verdict.faults.lost_silent, 0U);
  }
  for (auto& vmm : vmms) {
    for (const HostGuest& host : vmm->hosts()) EXPECT_TRUE(service.host->remove(host.name));
  }
  EXPECT_TRUE(service.host->snapshot().guests.empty());
  EXPECT_EQ(open_descriptors(), before);
}

}  // namespace
}  // namespace faultline::session
