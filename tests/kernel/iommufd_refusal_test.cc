// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/iommufd/refusal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <tuple>

#include "kernel/iommufd/cdev_path.h"
#include "kernel/iommufd/msi_window.h"

namespace faultline::iommufd {
namespace {

using ::testing::HasSubstr;

TEST(IommufdRefusal, IsOneLineWithTheCallTheCauseAndTheErrno) {
  EXPECT_EQ(refused(Request::kVeventq, ENOTTY, "0000:01:00.0").value().message(),
            "0000:01:00.0: IOMMU_VEVENTQ_ALLOC refused (event queues need Linux 6.15): "
            "Inappropriate ioctl for device (errno 25)");
  EXPECT_EQ(refused(Request::kViommu, EPROTO, "x").value().message(),
            "x: IOMMU_VIOMMU_ALLOC refused: Protocol error (errno 71)");
}

TEST(IommufdRefusal, EveryRequestHasANameOfItsOwnAndEveryCauseIsOneLine) {
  std::set<std::string_view> names;
  std::size_t causes = 0;
  for (std::size_t r = 0; r < kRequests; ++r) {
    const auto request = static_cast<Request>(r);
    EXPECT_FALSE(name_of(request).empty());
    names.insert(name_of(request));
    for (int code = 1; code < 134; ++code) {
      const std::string_view cause = likely_cause(request, code);
      EXPECT_EQ(cause.find('\n'), std::string_view::npos);
      EXPECT_EQ(cause.empty(),
                refused(request, code, "x").value().what.find('(') == std::string::npos);
      causes += cause.empty() ? 0 : 1;
    }
  }
  EXPECT_EQ(names.size(), kRequests);
  EXPECT_GT(causes, kRequests);
}

struct WhyPeopleFail {
  Request request;
  int code;
  const char* what;
};

TEST(IommufdRefusal, WhatOperatorsMeetIsExplained) {
  for (const WhyPeopleFail& w : {
           WhyPeopleFail{Request::kOpenIommu, ENOENT, "CONFIG_IOMMUFD"},
           WhyPeopleFail{Request::kOpenIommu, EACCES, "root"},
           WhyPeopleFail{Request::kOpenDevice, ENOENT, "vfio-pci"},
           WhyPeopleFail{Request::kBind, EBUSY, "not viable"},
           WhyPeopleFail{Request::kBind, ENODEV, "no IOMMU"},
           WhyPeopleFail{Request::kMap, ENOMEM, "ulimit -l"},
           WhyPeopleFail{Request::kNestParent, EOPNOTSUPP, "one stage"},
           WhyPeopleFail{Request::kViommu, EOPNOTSUPP, "CANWBS"},
           WhyPeopleFail{Request::kViommu, EOPNOTSUPP, "S2FWB"},
           WhyPeopleFail{Request::kViommu, ENOTTY, "6.13"},
           WhyPeopleFail{Request::kAttach, EOPNOTSUPP, "page requests"},
           WhyPeopleFail{Request::kBind, EMFILE, "ulimit -n"},
       }) {
    EXPECT_THAT(std::string(likely_cause(w.request, w.code)), HasSubstr(w.what));
  }
}

class Sysfs : public ::testing::Test {
 protected:
  Sysfs()
      : root_(std::filesystem::path(::testing::TempDir()) /
              ("iommufd-sysfs-" + std::to_string(::getpid()))) {
    std::filesystem::remove_all(root_);
    std::filesystem::create_directories(device());
  }
  ~Sysfs() override { std::filesystem::remove_all(root_); }
  [[nodiscard]] std::filesystem::path device() const {
    return root_ / "bus/pci/devices/0000:01:00.0";
  }
  void bind_to(const std::string& driver) {
    std::filesystem::create_directories(root_ / "drivers" / driver);
    std::filesystem::create_symlink(root_ / "drivers" / driver, device() / "driver");
  }
  [[nodiscard]] std::string path_of(const std::string& name) const {
    auto path = cdev_path(name, root_.string());
    return path ? *path : path.error().message();
  }

  std::filesystem::path root_;
};

TEST_F(Sysfs, ADeviceFileIsFoundByThePciAddress) {
  bind_to("vfio-pci");
  EXPECT_THAT(path_of("0000:01:00.0"), HasSubstr("CONFIG_VFIO_DEVICE_CDEV"));
  std::filesystem::create_directories(device() / "vfio-dev/vfio3");
  EXPECT_EQ(path_of("0000:01:00.0"), "/dev/vfio/devices/vfio3");
  EXPECT_EQ(path_of("/dev/vfio/devices/vfio9"), "/dev/vfio/devices/vfio9");
}

TEST_F(Sysfs, WhatIsNotThereOrNotBoundIsSaid) {
  EXPECT_THAT(path_of("0000:02:00.0"), HasSubstr("is no PCI device of this host"));
  EXPECT_THAT(path_of("../devices/0000:01:00.0"), HasSubstr("is no PCI device"));
  EXPECT_THAT(path_of(""), HasSubstr("PCI address"));
  EXPECT_THAT(path_of("0000:01:00.0"), HasSubstr("bound to no driver, not to vfio-pci"));
  bind_to("nvme");
  EXPECT_THAT(path_of("0000:01:00.0"), HasSubstr("bound to nvme, not to vfio-pci"));
}

TEST(IommufdMsiWindow, BindingsAreCheckedAgainstTheWindowAndRecorded) {
  MsiWindow w;
  ASSERT_TRUE(w.bind(Iova{0x8000040}, Gpa{0x8000040}, 0x1000));
  ASSERT_EQ(w.bindings().size(), 1U);
  EXPECT_EQ(w.bindings()[0].iova.value, 0x8000000U) << "rounded down, as the seed does";
  EXPECT_TRUE(w.bind(Iova{0x8000000}, Gpa{0x8000000}, 0x1000)) << "once more is fine";
  EXPECT_EQ(w.bindings().size(), 1U);
  ASSERT_TRUE(w.bind(Iova{0x80ff000}, Gpa{0x80ff000}, 0x1000));
  for (const auto& [iova, gpa, size] :
       {std::tuple{0x8100000ULL, 0x8100000ULL, 0x1000ULL},
        std::tuple{0x7fff000ULL, 0x7fff000ULL, 0x1000ULL}, std::tuple{0ULL, 0ULL, 0x10000000ULL}}) {
    auto r = w.bind(Iova{iova}, Gpa{gpa}, size);
    ASSERT_FALSE(r);
    EXPECT_THAT(r.error().message(), HasSubstr("outside the window at 0x8000000"));
  }
  EXPECT_THAT(w.bind(Iova{0x8001000}, Gpa{0x9001000}, 0x1000).error().message(),
              HasSubstr("one to one"));
  EXPECT_THAT(w.bind(Iova{0x8001000}, Gpa{0x8001000}, 0x1800).error().message(),
              HasSubstr("no power of two"));
  EXPECT_TRUE(w.unbind(Iova{0x8000fff}));
  EXPECT_FALSE(w.unbind(Iova{0x8000000}));
  for (std::uint64_t i = 1; i < 64; ++i) {
    ASSERT_TRUE(w.bind(Iova{0x8000000 + i * 0x1000}, Gpa{0x8000000 + i * 0x1000}, 0x1000));
  }
  EXPECT_THAT(w.bind(Iova{0x8000000}, Gpa{0x8000000}, 0x1000).error().message(),
              HasSubstr("one too many"));
}

}  // namespace
}  // namespace faultline::iommufd
