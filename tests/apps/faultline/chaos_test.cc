// SPDX-License-Identifier: BSD-3-Clause
// The engine is killed under load and started again; kernel, guests and audit live on.
#include <gtest/gtest.h>

#include "tests/apps/faultline/program.h"

namespace faultline {
namespace {

void expect_clean(const std::vector<std::string>& arguments) {
  std::vector<std::string> all = {"run"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  const Finished f = run_program(all, 240);
  EXPECT_EQ(f.status, 0) << f.out;
  EXPECT_NE(f.out.find("audit: clean"), std::string::npos) << f.out;
  EXPECT_NE(f.out.find(" kills of the engine; restart p50 "), std::string::npos) << f.out;
}

class Chaos : public testing::TestWithParam<const char*> {};

TEST_P(Chaos, AtRandomMomentsLeavesTheAuditClean) {
  expect_clean({"--chaos", "5", "--abi", GetParam(), "--guests", "2"});
}

TEST_P(Chaos, AtEveryStepOfTheJournalLeavesTheAuditClean) {
  expect_clean({"--chaos-steps", "--abi", GetParam()});
}

TEST_P(Chaos, WhileTheKernelsQueuesOverrunLeavesTheAuditClean) {
  expect_clean({"--chaos", "5", "--abi", GetParam(), "--storms", "50"});
}
INSTANTIATE_TEST_SUITE_P(Abi, Chaos, testing::Values("1", "2"));

TEST(ChaosWithQuirks, LeavesTheAuditClean) {
  expect_clean({"--chaos", "5", "--quirks", "v7"});
}

}  // namespace
}  // namespace faultline
