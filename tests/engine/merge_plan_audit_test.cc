// SPDX-License-Identifier: BSD-3-Clause
#include "engine/merge/plan_audit.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "engine/merge/planted.h"
#include "tests/engine/merge_operations.h"

namespace faultline::merge {
namespace {

using namespace operations;

class PlanAuditTest : public ::testing::Test {
 protected:
  PlanAuditTest()
      : folder_(std::filesystem::temp_directory_path() /
                ("faultline-audit-" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(folder_);
  }
  ~PlanAuditTest() override { std::filesystem::remove_all(folder_); }

  PlanAudit audit(const MergeSetup& s) {
    return {s.options, s.caps, s.sole_granule, "guest", (folder_ / "t").string()};
  }
  std::filesystem::path folder_;
};

TEST_F(PlanAuditTest, SeesEachWayInWhichAPlanFallsShort) {
  const auto short_of = [](std::vector<Operation> planned, const Operation& asked) {
    return !covers(planned, asked, false);
  };
  EXPECT_TRUE(short_of({}, va(1)));
  EXPECT_TRUE(short_of({va(1, 3), va(5, 3)}, va(1, 7))) << "a page in the middle";
  EXPECT_FALSE(short_of({va(1, 3), va(4, 4)}, va(1, 7)));
  EXPECT_TRUE(short_of({va(1, 8, 2)}, va(1, 7, 1))) << "another ASID";
  EXPECT_TRUE(short_of({asid(1)}, va(1, 7, 1))) << "global entries";
  EXPECT_TRUE(covers(std::vector{asid(1)}, va(1, 7, 1), true));
  EXPECT_TRUE(short_of({va(1, 7, 1, true)}, va(1, 7, 1, false))) << "LEAF";
  EXPECT_TRUE(short_of({va(1)}, vaa(1)));
  EXPECT_FALSE(short_of({vaa(1)}, va(1)));
  EXPECT_TRUE(short_of({asid(1), asid(2)}, all()));
  EXPECT_TRUE(short_of({all()}, cd(1)));
  EXPECT_TRUE(short_of({cd(1)}, cd_all(1)));
  EXPECT_TRUE(short_of({cd(1, 2, true)}, cd(1, 2, false)));
  EXPECT_TRUE(short_of({all(), cd_all(1)}, atc(1, 0, 1)));
  EXPECT_TRUE(short_of({atc(1, 0, 1)}, atc(1, 0, 0)));
  EXPECT_FALSE(short_of({atc(1, 0, 0)}, atc(1, 8, 8)));
  Operation coarse = va(0, 16);
  coarse.granule_log2 = 16;
  EXPECT_TRUE(short_of({coarse}, va(3))) << "another granule";
  Operation hinted = va(0, 16);
  hinted.ttl = 3;
  EXPECT_TRUE(short_of({hinted}, va(3))) << "one level of all";
}

TEST_F(PlanAuditTest, LooksAtEveryNthPlanAndFindsNothingWrong) {
  MergeSetup s = setup(array_sink());
  s.options.audit_every = 3;
  PlanAudit a = audit(s);
  s.audit = &a;
  Merge policy(s);
  for (Position at = 0; at < 30; at += 2) {
    policy.add(va(at), at, 0);
    policy.add_sync(at + 1, 0);
    submit(policy);
  }
  EXPECT_EQ(policy.counters().audits, 5U);
  EXPECT_EQ(policy.counters().audit_failures, 0U);
  EXPECT_EQ(a.file(), "");
}

TEST_F(PlanAuditTest, AMismatchLeavesAFileThatRepeatsIt) {
  MergeSetup s = setup(array_sink());
  s.options.audit_every = 1;
  PlanAudit a = audit(s);
  MergeCounters counters;
  a.note(va(1, 4), 0, 1);
  a.note(va(5, 4), 1, 1);
  a.note(va(9), 2, 2);
  ::testing::internal::CaptureStderr();
  a.check(1, std::vector{va(1, 4), va(5, 3)}, counters);
  EXPECT_NE(::testing::internal::GetCapturedStderr().find(a.file()), std::string::npos);
  EXPECT_EQ(counters.audit_failures, 1U);
  std::ifstream file(a.file());
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  EXPECT_NE(text.find("asked 2 0 0 0 12 0 1 0 0 20480 4"), std::string::npos) << text;
  EXPECT_EQ(text.find("36864"), std::string::npos) << "what is of a later plan is not in it";

  const Result<bool> again = replay_audit(a.file());
  ASSERT_TRUE(again.has_value()) << again.error().message();
  EXPECT_TRUE(*again) << "the planner itself errs on nothing here";
}

TEST_F(PlanAuditTest, ADamagedFileIsAnError) {
  const std::string name = (folder_ / "damaged").string();
  EXPECT_FALSE(replay_audit(name).has_value());
  std::ofstream(name) << "faultline-merge-audit-1\n1 0 0\n";
  EXPECT_FALSE(replay_audit(name).has_value());
  std::ofstream(name)
      << "faultline-merge-audit-1\n1 0 0 1 63 1 1 1 1 0\nasked 9 0 0 0 12 0 1 0 0 0 1\n";
  EXPECT_FALSE(replay_audit(name).has_value());
}

}  // namespace
}  // namespace faultline::merge
