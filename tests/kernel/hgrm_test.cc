// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/base/hgrm.h"

#include <gtest/gtest.h>

#include <memory>

namespace faultline {
namespace {

constexpr const char* kHead = "       Value     Percentile TotalCount 1/(1-Percentile)\n\n";

TEST(Hgrm, FourSamplesGiveTheHandWrittenText) {
  const auto h = std::make_unique<Histogram>();
  for (const std::uint64_t v : {10, 10, 20, 30}) h->record(v);
  // Mean 17.5; squares of the distances 56.25 + 56.25 + 6.25 + 156.25 = 275, / 4 = 68.75.
  EXPECT_EQ(hgrm(*h), std::string(kHead) +
                          "      10.000 0.500000000000          2           2.00\n"
                          "      20.000 0.750000000000          3           4.00\n"
                          "      30.000 1.000000000000          4\n"
                          "#[Mean    =       17.500, StdDeviation   =        8.292]\n"
                          "#[Max     =       30.000, Total count    =            4]\n"
                          "#[Buckets =           38, SubBuckets     =           32]\n");
}

TEST(Hgrm, ScaleTurnsNanosecondsIntoMicroseconds) {
  const auto h = std::make_unique<Histogram>();
  h->record(1'500'000);
  EXPECT_NE(hgrm(*h, 1000).find("    1500.000 1.000000000000          1\n"), std::string::npos);
}

TEST(Hgrm, NothingRecordedIsAHeadAndATailOfZeros) {
  const auto h = std::make_unique<Histogram>();
  EXPECT_EQ(hgrm(*h), std::string(kHead) +
                          "#[Mean    =        0.000, StdDeviation   =        0.000]\n"
                          "#[Max     =        0.000, Total count    =            0]\n"
                          "#[Buckets =           38, SubBuckets     =           32]\n");
}

TEST(Hgrm, ThePercentileColumnAgreesWithPercentile) {
  const auto h = std::make_unique<Histogram>();
  for (std::uint64_t v = 1; v <= 1000; ++v) h->record(v * v);
  const std::string text = hgrm(*h);
  char value[32];
  std::snprintf(value, sizeof value, "%12.3f", static_cast<double>(h->percentile(0.5)));
  const auto at = text.find(value);
  ASSERT_NE(at, std::string::npos);
  EXPECT_GE(std::stod(text.substr(at + 12)), 0.5);
}

}  // namespace
}  // namespace faultline
