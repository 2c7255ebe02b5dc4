// SPDX-License-Identifier: BSD-3-Clause
// Containers, groups and devices: the order in which v7 lets them be opened, joined and closed.
#include <cerrno>
#include <set>

#include "kernel/soft/files.h"
#include "tests/kernel/soft_worlds.h"

namespace faultline::soft {
namespace {

SoftKernelConfig two_groups() {
  SoftKernelConfig config;
  config.devices = {{"0000:00:01.0", 1, 0x10, 0}, {"0000:00:02.0", 2, 0x20, 0}};
  return config;
}

/// A kernel with two groups and nothing open.
template <class Where>
class SoftFiles : public testing::Test {
 protected:
  ~SoftFiles() override {
    while (!open_.empty()) close(*open_.begin());
  }
  int open(const char* path) { return kept(sys.open(path, O_RDWR)); }
  int get_device(int group, const char* name) { return kept(calls.get_device(group, name)); }
  int close(int fd) {
    open_.erase(fd);
    return sys.close(fd);
  }

  Where where{two_groups()};
  typename Where::Sys& sys{*where.sys};
  Calls<typename Where::Sys> calls{sys};

 private:
  int kept(int fd) {
    if (fd >= 0) open_.insert(fd);
    return fd;
  }
  std::set<int> open_;
};
TYPED_TEST_SUITE(SoftFiles, Worlds);

TYPED_TEST(SoftFiles, OpensContainersManyTimesAndGroupsOnce) {
  EXPECT_GE(this->open("/dev/vfio/vfio"), 0);
  EXPECT_GE(this->open("/dev/vfio/vfio"), 0);
  const int group = this->open("/dev/vfio/1");
  EXPECT_GE(group, 0);
  EXPECT_EQ(this->open("/dev/vfio/1"), -EBUSY);
  EXPECT_EQ(this->open("/dev/vfio/3"), -ENOENT);
  EXPECT_EQ(this->open("/dev/vfio/x"), -ENOENT);
  EXPECT_EQ(this->close(group), 0);
  EXPECT_GE(this->open("/dev/vfio/1"), 0);
}

TYPED_TEST(SoftFiles, LeavesEverythingElseToLinux) {
  const int fd = this->open("/dev/null");
  EXPECT_GE(fd, 0);
  EXPECT_EQ(this->sys.write(fd, "x", 1), 1);
  EXPECT_EQ(this->close(fd), 0);
  EXPECT_EQ(this->close(fd), -EBADF);
}

TYPED_TEST(SoftFiles, OffersTheTypesOfV7) {
  const int c = this->open("/dev/vfio/vfio");
  const auto extension = [&](unsigned long n) {
    return this->sys.ioctl(c, uapi::kVfioCheckExtension, reinterpret_cast<void*>(n));
  };
  EXPECT_EQ(this->sys.ioctl(c, uapi::kVfioGetApiVersion, nullptr), 0);
  EXPECT_EQ(extension(uapi::kVfioType1Iommu), 1);
  EXPECT_EQ(extension(uapi::kVfioType1v2Iommu), 1);
  EXPECT_EQ(extension(uapi::kVfioType1NestingIommu), 1);
  EXPECT_EQ(extension(99), 0);
}

TYPED_TEST(SoftFiles, WantAGroupBeforeAnIommuAndAnIommuBeforeADevice) {
  const int c = this->open("/dev/vfio/vfio");
  const int g = this->open("/dev/vfio/1");
  EXPECT_EQ(this->calls.set_iommu(c), -EINVAL);
  EXPECT_EQ(this->sys.ioctl(c, uapi::kVfioIommuDetachPasidTable, nullptr), -EINVAL);
  EXPECT_EQ(this->get_device(g, "0000:00:01.0"), -EINVAL);
  EXPECT_EQ(this->calls.set_container(g, c), 0);
  EXPECT_EQ(this->get_device(g, "0000:00:01.0"), -EINVAL);
  EXPECT_EQ(this->calls.set_iommu(c, 99), -ENODEV);
  EXPECT_EQ(this->calls.set_iommu(c), 0);
  EXPECT_EQ(this->calls.set_iommu(c), -EINVAL);
  EXPECT_EQ(this->get_device(g, "0000:00:02.0"), -ENODEV);
  EXPECT_GE(this->get_device(g, "0000:00:01.0"), 0);
}

TYPED_TEST(SoftFiles, SetContainerRefusesWhatIsNotAContainer) {
  const int c = this->open("/dev/vfio/vfio");
  const int g1 = this->open("/dev/vfio/1");
  const int g2 = this->open("/dev/vfio/2");
  const int null = this->open("/dev/null");
  EXPECT_EQ(this->calls.set_container(g1, g2), -EINVAL);
  EXPECT_EQ(this->calls.set_container(g1, null), -EINVAL);
  EXPECT_EQ(this->calls.set_container(g1, -1), -EINVAL);
  EXPECT_EQ(this->calls.set_container(g1, 1 << 22), -EBADF);
  EXPECT_EQ(this->calls.set_container(g1, c), 0);
  EXPECT_EQ(this->calls.set_container(g1, c), -EINVAL);
  this->close(null);
}

TYPED_TEST(SoftFiles, GroupStatusTellsOfTheContainer) {
  const int c = this->open("/dev/vfio/vfio");
  const int g = this->open("/dev/vfio/1");
  uapi::vfio_group_status status{sizeof status, 0};
  EXPECT_EQ(this->sys.ioctl(g, uapi::kVfioGroupGetStatus, &status), 0);
  EXPECT_EQ(status.flags, uapi::kVfioGroupFlagsViable);
  this->calls.set_container(g, c);
  EXPECT_EQ(this->sys.ioctl(g, uapi::kVfioGroupGetStatus, &status), 0);
  EXPECT_EQ(status.flags, uapi::kVfioGroupFlagsViable | uapi::kVfioGroupFlagsContainerSet);
  status.argsz = 7;
  EXPECT_EQ(this->sys.ioctl(g, uapi::kVfioGroupGetStatus, &status), -EINVAL);
}

TYPED_TEST(SoftFiles, UnsetContainerWaitsForNobody) {
  const int c = this->open("/dev/vfio/vfio");
  const int g = this->open("/dev/vfio/1");
  const auto unset = [&] { return this->sys.ioctl(g, uapi::kVfioGroupUnsetContainer, nullptr); };
  EXPECT_EQ(unset(), -EINVAL);
  this->calls.set_container(g, c);
  this->calls.set_iommu(c);
  const int d = this->get_device(g, "0000:00:01.0");
  EXPECT_EQ(unset(), -EBUSY);
  EXPECT_EQ(this->close(d), 0);
  EXPECT_EQ(unset(), 0);
  // The last group took the IOMMU along.
  EXPECT_EQ(this->sys.ioctl(c, uapi::kVfioIommuDetachPasidTable, nullptr), -EINVAL);
  EXPECT_EQ(this->calls.set_container(g, c), 0);
  EXPECT_EQ(this->calls.set_iommu(c), 0);
}

TYPED_TEST(SoftFiles, SeveralGroupsShareAContainer) {
  const int c = this->open("/dev/vfio/vfio");
  const int g1 = this->open("/dev/vfio/1");
  const int g2 = this->open("/dev/vfio/2");
  EXPECT_EQ(this->calls.set_container(g1, c), 0);
  EXPECT_EQ(this->calls.set_iommu(c), 0);
  EXPECT_EQ(this->calls.set_container(g2, c), 0);
  EXPECT_GE(this->get_device(g2, "0000:00:02.0"), 0);
  EXPECT_EQ(this->sys.ioctl(g1, uapi::kVfioGroupUnsetContainer, nullptr), 0);
  EXPECT_EQ(this->sys.ioctl(c, uapi::kVfioIommuDetachPasidTable, nullptr), 0);
}

TYPED_TEST(SoftFiles, AnOpenDeviceKeepsItsGroupBusy) {
  const int c = this->open("/dev/vfio/vfio");
  const int g = this->open("/dev/vfio/1");
  this->calls.set_container(g, c);
  this->calls.set_iommu(c);
  const int d = this->get_device(g, "0000:00:01.0");
  this->close(g);
  EXPECT_EQ(this->open("/dev/vfio/1"), -EBUSY);
  this->close(d);
  EXPECT_GE(this->open("/dev/vfio/1"), 0);
}

TYPED_TEST(SoftFiles, TheContainerOutlivesItsDescriptorWhileAGroupIsInIt) {
  Rig<TypeParam> rig;
  const std::uint64_t page = rig.page_with(42);
  rig.sys.close(rig.container);
  rig.container = -1;
  EXPECT_EQ(rig.read(page).value, 42U);
}

TYPED_TEST(SoftFiles, MapsGoWithTheLastGroup) {
  Rig<TypeParam> rig;
  const std::uint64_t page = rig.page_with(42);
  rig.sys.close(rig.device);
  rig.sys.close(rig.group);
  rig.device = rig.group = -1;
  // The BAR is still mapped here, and the reset left it working.
  DmaClient client(rig.bar);
  client.submit({.iova = page});
  client.ring();
  client.wait(10'000'000'000);
  DmaCompletion completion;
  ASSERT_EQ(client.complete({&completion, 1}), 1U);
  EXPECT_EQ(completion.status, DmaStatus::kAborted);
}

TYPED_TEST(SoftFiles, DmaMapsFollowTheRulesOfType1) {
  Rig<TypeParam> rig;
  constexpr std::uint64_t kAt = 0x80000000;
  EXPECT_EQ(rig.calls.map_dma(rig.container, rig.ram, kAt + 1, 4096), -EINVAL);
  EXPECT_EQ(rig.calls.map_dma(rig.container, rig.ram, kAt, 4095), -EINVAL);
  EXPECT_EQ(rig.calls.map_dma(rig.container, rig.ram, kAt, 0), -EINVAL);
  EXPECT_EQ(rig.calls.map_dma(rig.container, rig.ram, kAt, 4096, 0), -EINVAL);
  EXPECT_EQ(rig.calls.map_dma(rig.container, rig.ram, kAt, 4096, 8 | 3), -EINVAL);
  EXPECT_EQ(rig.calls.map_dma(rig.container, rig.ram, rig.kRam, 4096), -EEXIST);
  EXPECT_EQ(rig.calls.map_dma(rig.container, rig.ram, ~std::uint64_t{4095}, 8192), -EINVAL);
  EXPECT_EQ(rig.calls.map_dma(rig.container, nullptr, kAt, 4096), -EFAULT);
  EXPECT_EQ(rig.calls.map_dma(rig.container, rig.ram, kAt, 4096), 0);
  EXPECT_EQ(rig.calls.unmap_dma(rig.container, rig.kRam, 4096), -EINVAL);  // would cut the RAM
  EXPECT_EQ(rig.calls.unmap_dma(rig.container, 0x90000000, 4096), 0);
  EXPECT_EQ(rig.calls.unmap_dma(rig.container, kAt, 4096), 4096);
}

TYPED_TEST(SoftFiles, ReadOnlyMapsCannotBeWritten) {
  Rig<TypeParam> rig;
  constexpr std::uint64_t kAt = 0x80000000;
  ASSERT_EQ(rig.calls.map_dma(rig.container, rig.ram, kAt, 4096, uapi::kVfioDmaMapFlagRead), 0);
  EXPECT_EQ(rig.read(kAt).status, DmaStatus::kOk);
  EXPECT_EQ(rig.write(kAt, 1).status, DmaStatus::kFaulted);
}

TYPED_TEST(SoftFiles, UnmappedMemoryIsOutOfReachAtOnce) {
  Rig<TypeParam> rig;
  const std::uint64_t page = rig.page_with(1);
  rig.guest->map(0x1000, page);
  rig.go();
  EXPECT_EQ(rig.read(0x1000).status, DmaStatus::kOk);
  EXPECT_EQ(rig.calls.unmap_dma(rig.container, rig.kRam, rig.kRamSize),
            static_cast<std::int64_t>(rig.kRamSize));
  EXPECT_EQ(rig.read(0x1000).status, DmaStatus::kFaulted);
}

TYPED_TEST(SoftFiles, WithoutNestingThereIsNoStage1) {
  const int c = this->open("/dev/vfio/vfio");
  const int g = this->open("/dev/vfio/1");
  this->calls.set_container(g, c);
  EXPECT_EQ(this->calls.set_iommu(c, uapi::kVfioType1v2Iommu), 0);
  EXPECT_EQ(this->calls.attach(c, 0x40000000), -EINVAL);
  EXPECT_EQ(this->calls.detach(c), -EINVAL);
  EXPECT_EQ(this->calls.invalidate_domain(c), -EINVAL);
  EXPECT_EQ(this->calls.bind_msi(c, 0x1000, 0x2000), -EINVAL);
}

TYPED_TEST(SoftFiles, UnknownRequestsAreNotTypewriters) {
  Rig<TypeParam> rig;
  for (const int fd : {rig.container, rig.group, rig.device}) {
    EXPECT_EQ(rig.sys.ioctl(fd, uapi::vfio_io(99), nullptr), -ENOTTY);
  }
}

TYPED_TEST(SoftFiles, IommuInfoNamesThePageSizes) {
  Rig<TypeParam> rig;
  uapi::vfio_iommu_type1_info info{sizeof info, 0, 0};
  EXPECT_EQ(rig.sys.ioctl(rig.container, uapi::kVfioIommuGetInfo, &info), 0);
  EXPECT_EQ(info.flags, uapi::kVfioIommuInfoPgsizes);
  EXPECT_NE(info.iova_pgsizes & 4096U, 0U);
}

}  // namespace
}  // namespace faultline::soft
