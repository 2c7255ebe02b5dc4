// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/probe.h"

#include <gmock/gmock.h>

#include "tests/kernel/vfio_fake.h"

namespace faultline::testing {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

struct VfioProbe : ::testing::Test {
  ScriptedSys sys;
  FakeVfio kernel{sys};
};

TEST_F(VfioProbe, FindsTheSeedsNestingAndLeavesNothingOpen) {
  const auto report = probe_kernel(sys);
  EXPECT_TRUE(report.seed_possible());
  EXPECT_EQ(report.iommufd_error, ENOENT);
  EXPECT_EQ(sys.leaks(), 0U);
  EXPECT_THAT(describe(report), Contains(HasSubstr("nested stages: offered")));
  EXPECT_THAT(describe(report), Contains(HasSubstr("CONFIG_IOMMUFD")));
}

TEST_F(VfioProbe, SaysWhatIsMissing) {
  kernel.nesting = 0;
  EXPECT_FALSE(probe_kernel(sys).seed_possible());
  EXPECT_THAT(describe(probe_kernel(sys)), Contains(HasSubstr("--kernel soft")));
  kernel.api_version = 3;
  EXPECT_THAT(describe(probe_kernel(sys)), Contains(HasSubstr("API version 3")));
  sys.inject(Call::kOpen, 1, -ENOENT);
  EXPECT_THAT(describe(probe_kernel(sys)), Contains(HasSubstr("modprobe vfio-pci")));
  sys.inject(Call::kOpen, 1, -EACCES);
  EXPECT_THAT(describe(probe_kernel(sys)), Contains(HasSubstr("run as root")));
}

TEST_F(VfioProbe, AsksTheRealKernelWithoutHarm) {
  LinuxSys real;
  EXPECT_FALSE(describe(probe_kernel(real)).empty());
}

}  // namespace
}  // namespace faultline::testing
