// SPDX-License-Identifier: BSD-3-Clause
#include "engine/hugepages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace faultline::engine {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

class HugepagesTest : public testing::Test {
 protected:
  HugepagesTest() : sys_(fs::path(testing::TempDir()) / "hugepages-sysfs") { fs::remove_all(sys_); }
  ~HugepagesTest() override { fs::remove_all(sys_); }

  void put(const std::string& folder, const std::string& size, int reserved, int free) {
    const fs::path at = sys_ / folder / ("hugepages-" + size);
    fs::create_directories(at);
    std::ofstream(at / "nr_hugepages") << reserved << '\n';
    std::ofstream(at / "free_hugepages") << free << '\n';
  }

  fs::path sys_;
};

TEST_F(HugepagesTest, AreCountedOfTheNodeAlone) {
  put("devices/system/node/node0/hugepages", "2048kB", 100, 100);
  put("devices/system/node/node1/hugepages", "2048kB", 8, 3);
  put("devices/system/node/node1/hugepages", "1048576kB", 2, 1);
  const Hugepages pages = hugepages_of(1, sys_.string());
  EXPECT_EQ(pages.reserved, (std::size_t{8} << 21U) + (std::size_t{2} << 30U));
  EXPECT_EQ(pages.free, (std::size_t{3} << 21U) + (std::size_t{1} << 30U));
}

TEST_F(HugepagesTest, AreInOnePlaceWhereTheKernelKnowsNoNodes) {
  put("kernel/mm/hugepages", "2048kB", 7, 5);
  EXPECT_EQ(hugepages_of(0, sys_.string()).free, std::size_t{5} << 21U);
}

TEST_F(HugepagesTest, ThatAreTooFewAreRefusedInOneLineThatSaysWhatToDo) {
  put("devices/system/node/node0/hugepages", "2048kB", 20, 7);
  const auto r = check_hugepages(0, sys_.string());
  ASSERT_FALSE(r);
  EXPECT_THAT(r.error().message(), HasSubstr("node 0 has 14 MiB free of 40 MiB"));
  EXPECT_THAT(r.error().message(), HasSubstr("sysctl vm.nr_hugepages"));
  EXPECT_EQ(r.error().message().find('\n'), std::string::npos);
}

TEST_F(HugepagesTest, AreNoneWhereSysfsIsMissingOrForeign) {
  EXPECT_EQ(hugepages_of(0, "/nonexistent").reserved, 0U);
  put("kernel/mm/hugepages", "manykB", 7, 5);
  fs::create_directories(sys_ / "kernel/mm/hugepages/hugepages-2048kB");
  EXPECT_EQ(hugepages_of(0, sys_.string()).reserved, 0U);
}

}  // namespace
}  // namespace faultline::engine
