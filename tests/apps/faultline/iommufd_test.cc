// SPDX-License-Identifier: BSD-3-Clause
// `run --kernel iommufd` as far as it goes on a host without an IOMMU: one clear refusal.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "apps/wiring/iommufd_wiring.h"
#include "tests/apps/faultline/program.h"

namespace faultline {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using Arguments = std::vector<std::string>;

Finished run(const Arguments& arguments) {
  Arguments all = {"run", "--seconds", "1", "--kernel", "iommufd"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  return run_program(all);
}

TEST(Iommufd, OnAHostThatCannotTheRefusalIsOneLineThatSaysWhatIsMissing) {
  // No host has this device, so one with an IOMMU and iommufd refuses as well.
  const Finished f = run({"--device", "0000:ff:1f.7"});
  EXPECT_EQ(f.status, 1) << f.out;
  const std::size_t at = f.out.find("faultline: ");
  ASSERT_NE(at, std::string::npos) << f.out;
  EXPECT_EQ(f.out.find('\n', at), f.out.size() - 1) << "one line: " << f.out;
  EXPECT_THAT(f.out, ContainsRegex("has no IOMMU|open of /dev/iommu refused|is no PCI device"));
}

TEST(Iommufd, OptionsOfTheSoftwareKernelAreRefused) {
  for (const Arguments& wrong :
       {Arguments{"--chaos", "1"}, Arguments{"--plant", "drop-tlbi"}, Arguments{"--quirks", "v7"},
        Arguments{"--storms", "10"}, Arguments{"--guests", "2"}, Arguments{"--abi", "2"},
        Arguments{"--fail-invalidations", "5"}}) {
    const Finished f = run(wrong);
    EXPECT_EQ(f.status, 2) << f.out;
    EXPECT_THAT(f.out, HasSubstr(wrong[0] + " is of the software kernel"));
  }
}

TEST(Iommufd, DevicesAreOfItAlone) {
  const Finished f = run_program({"run", "--seconds", "1", "--device", "0000:01:00.0"});
  EXPECT_EQ(f.status, 2) << f.out;
  EXPECT_THAT(f.out, HasSubstr("it goes with --kernel iommufd"));
}

TEST(Iommufd, TheGuestIsOfferedWhatTheHardwareHas) {
  iommufd::Offer offer;
  offer.sid_bits = 16;
  offer.ssid_bits = 3;
  offer.oas_bits = 44;
  offer.granule_64k = true;
  offer.ranges = false;
  offer.ats = true;
  offer.stalls = true;
  const viommu::Features f = features_of(offer);
  EXPECT_EQ(f.ssid_bits, 3U);
  EXPECT_FALSE(f.granule_4k);
  EXPECT_TRUE(f.granule_64k);
  EXPECT_FALSE(f.ranges);
  EXPECT_TRUE(f.ats);
  EXPECT_FALSE(f.pri) << "never passed on to userspace";
  EXPECT_TRUE(f.stalls);
  EXPECT_FALSE(f.coherent);
  EXPECT_TRUE(viommu::negotiate(f, {.atc = true}));
}

}  // namespace
}  // namespace faultline
