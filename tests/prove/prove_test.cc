// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include <cstdio>

#include "tests/prove/rules.h"

namespace faultline::prove {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::uint64_t kAll = 200'000;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr std::uint64_t kAll = 200'000;
#else
constexpr std::uint64_t kAll = 10'000'000;
#endif
#else
constexpr std::uint64_t kAll = 10'000'000;
#endif
constexpr std::uint64_t kForAMutant = 400'000;

std::string name_of(const testing::TestParamInfo<Rule>& info) {
  std::string name = info.param.name;
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  }
  return name;
}

class EveryPolicy : public testing::TestWithParam<Rule> {};

TEST_P(EveryPolicy, CoversInOrderAndCompletes) {
  Tally tally;
  Counterexample found;
  const std::uint64_t commands = kAll / policies().size();
  EXPECT_TRUE(prove(GetParam(), commands, 1, tally, found)) << trace_of(GetParam(), found);
  EXPECT_GT(tally.syncs, commands / 10);
  EXPECT_GT(tally.submissions, commands / 100);
  EXPECT_GT(tally.failures, commands / 2000) << "the kernel failed, too";
  EXPECT_GT(tally.errors, commands / 10'000) << "illegal commands were met";
}
INSTANTIATE_TEST_SUITE_P(Policies, EveryPolicy, testing::ValuesIn(policies()), name_of);

class EveryMutant : public testing::TestWithParam<Rule> {};

TEST_P(EveryMutant, IsSeenByTheOracle) {
  Tally tally;
  Counterexample found;
  ASSERT_FALSE(prove(GetParam(), kForAMutant, 1, tally, found)) << "the mutant survives";
  const std::string trace = trace_of(GetParam(), found);
  std::printf("%s", trace.c_str());
  // A trace that a person can read.
  EXPECT_LE(found.script.size(), 24U) << trace;
}
INSTANTIATE_TEST_SUITE_P(Mutants, EveryMutant, testing::ValuesIn(mutants()), name_of);

}  // namespace
}  // namespace faultline::prove
