// SPDX-License-Identifier: BSD-3-Clause
// Devices that leave a served guest and come back, with their faults and translations.
#include <gmock/gmock.h>
#include <unistd.h>

#include "tests/apps/session/soft_vmm.h"

namespace faultline::session {
namespace {

using namespace testing_vmm;

constexpr Nanos kReady = 60'000'000'000;

GuestRequest without_last(const SoftVmm& vmm) {
  GuestRequest r = vmm.request(0);
  for (const int fd : r.devices.back().fds) ::close(fd);
  r.devices.pop_back();
  return r;
}

void begin(SoftVmm& vmm, Service& service) {
  vmm.session().start();
  ASSERT_TRUE(service.host->add(vmm.request(0)));
  ASSERT_TRUE(vmm.session().wait_ready(kReady));
  vmm.run(1000);
}

/// But for the accesses of a device that is not there: they abort whatever the guest's tables say.
void expect_clean(SoftVmm& vmm) {
  const RunResult result = vmm.session().finish();
  for (const std::string& finding : result.verdict.findings) {
    if (finding.find("that no table of the guest explains") == std::string::npos) {
      ADD_FAILURE() << finding;
    }
  }
  EXPECT_GT(result.verdict.faults.produced, 0U);
}

TEST(Reshape, ADeviceThatComesBackGoesOnWhereTheKernelStands) {
  SoftVmm vmm(1, 2);
  Service service;
  ASSERT_NO_FATAL_FAILURE(begin(vmm, service));
  for (int round = 0; round < 3; ++round) {
    // While nothing is served, as a VMM does that keeps its vCPUs from noticing.
    ASSERT_TRUE(service.host->pause("guest0"));
    const auto one = service.host->replace(without_last(vmm));
    ASSERT_TRUE(one) << one.error().message();
    const auto two = service.host->replace(vmm.request(0));
    ASSERT_TRUE(two) << two.error().message();
    ASSERT_TRUE(service.host->resume("guest0"));
    vmm.run(500);
  }
  expect_clean(vmm);
}

TEST(Reshape, ADeviceThatLeftUsesNoTranslationAnyMore) {
  SoftVmm vmm(1, 2);
  Service service;
  ASSERT_NO_FATAL_FAILURE(begin(vmm, service));
  // Its DMA goes on, and its driver unmaps under it.
  const auto one = service.host->replace(without_last(vmm));
  ASSERT_TRUE(one) << one.error().message();
  vmm.run(1000);
  // The faults of the device that left are nobody's.
  const RunResult result = vmm.session().finish();
  EXPECT_EQ(result.verdict.guests.dma_stale, 0U);
}

}  // namespace
}  // namespace faultline::session
