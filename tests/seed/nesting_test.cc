// SPDX-License-Identifier: BSD-3-Clause
// Sentences 1 to 5, 21 and 28: the container, stage 2, stage 1.
#include "tests/seed/rig.h"

namespace faultline::seed {
namespace {

using soft::DmaStatus;

TEST(Nesting, IsOfferedAndChosen) {
  Rig rig;
  EXPECT_EQ(rig.sys_.ioctl(rig.container_, uapi::kVfioGetApiVersion, nullptr),
            uapi::kVfioApiVersion);
  EXPECT_EQ(rig.sys_.ioctl(rig.container_, uapi::kVfioCheckExtension,
                           Rig::number(uapi::kVfioType1NestingIommu)),
            1);
  EXPECT_NE(rig.set_iommu(), 0) << "no group is attached yet";
  rig.attach_group();
  EXPECT_EQ(rig.set_iommu(), 0);
}

TEST(Nesting, StageTwoAloneTranslatesGuestPhysicalAddresses) {
  Rig rig;
  rig.start();
  rig.page(3) = 0x1122334455667788;
  const auto read = rig.access(Rig::page_gpa(3));
  EXPECT_EQ(read.status, DmaStatus::kOk);
  EXPECT_EQ(read.value, 0x1122334455667788U);
  EXPECT_NE(rig.read_status(Rig::kRamGpa + Rig::kRamSize), DmaStatus::kOk) << "beyond the map";

  uapi::vfio_iommu_type1_dma_unmap unmap{
      .argsz = sizeof unmap, .flags = 0, .iova = Rig::kRamGpa, .size = Rig::kRamSize};
  EXPECT_EQ(rig.sys_.ioctl(rig.container_, uapi::kVfioIommuUnmapDma, &unmap), 0);
  EXPECT_EQ(unmap.size, Rig::kRamSize);
  EXPECT_NE(rig.read_status(Rig::page_gpa(3)), DmaStatus::kOk) << "the map is gone";
}

TEST(Nesting, UnmappingStageTwoRemovesCachedTranslations) {
  Rig rig;
  rig.start_nested();
  rig.map_page(0x5000, Rig::page_gpa(3));
  ASSERT_EQ(rig.read_status(0x5000), DmaStatus::kOk);
  uapi::vfio_iommu_type1_dma_unmap unmap{
      .argsz = sizeof unmap, .flags = 0, .iova = Rig::kRamGpa, .size = Rig::kRamSize};
  ASSERT_EQ(rig.sys_.ioctl(rig.container_, uapi::kVfioIommuUnmapDma, &unmap), 0);
  EXPECT_NE(rig.read_status(0x5000), DmaStatus::kOk);
}

TEST(Stage1, NeedsAnIommuFirst) {
  Rig rig;
  rig.build_stage1();
  EXPECT_LT(rig.bind(uapi::kIommuPasidConfigTranslate), 0) << "no IOMMU chosen";
  rig.attach_group();
  ASSERT_EQ(rig.set_iommu(), 0);
  ASSERT_EQ(rig.map_ram(), 0);
  EXPECT_EQ(rig.bind(uapi::kIommuPasidConfigTranslate), 0);
}

TEST(Stage1, CombinesWithStageTwo) {
  Rig rig;
  rig.start_nested();
  rig.map_page(0x10'0000'0000, Rig::page_gpa(1));
  rig.page(1) = 77;
  const auto read = rig.access(0x10'0000'0000);
  EXPECT_EQ(read.status, DmaStatus::kOk);
  EXPECT_EQ(read.value, 77U) << "IOVA to GPA by the guest's table, GPA to memory by the DMA map";
  EXPECT_EQ(rig.access(0x10'0000'0000, true, 78).status, DmaStatus::kOk);
  EXPECT_EQ(std::uint64_t{rig.page(1)}, 78U);
  EXPECT_EQ(rig.read_status(Rig::page_gpa(1)), DmaStatus::kFaulted)
      << "a GPA is no IOVA once stage 1 translates";
}

TEST(Stage1, AbortAndBypassDoWhatTheySay) {
  Rig rig;
  rig.start_nested();
  ASSERT_EQ(rig.bind(uapi::kIommuPasidConfigBypass), 0);
  EXPECT_EQ(rig.read_status(Rig::page_gpa(0)), DmaStatus::kOk) << "bypass: stage 2 alone";
  ASSERT_EQ(rig.bind(uapi::kIommuPasidConfigAbort), 0);
  EXPECT_EQ(rig.read_status(Rig::page_gpa(0)), DmaStatus::kAborted);
}

TEST(Stage1, RefusesAForeignFormatOrVersion) {
  Rig rig;
  rig.start();
  rig.build_stage1();
  const auto refused = [&](auto change) {
    auto argument = rig.binding(uapi::kIommuPasidConfigTranslate);
    change(argument);
    return rig.sys_.ioctl(rig.container_, uapi::kVfioIommuAttachPasidTable, &argument);
  };
  EXPECT_EQ(refused([](auto& a) { a.config.format = 2; }), -EINVAL);
  EXPECT_EQ(refused([](auto& a) { a.config.version = 2; }), -EINVAL);
  EXPECT_EQ(refused([](auto& a) { a.config.smmuv3.version = 2; }), -EINVAL);
  EXPECT_EQ(refused([](auto& a) { a.config.config = 9; }), -EINVAL);
  EXPECT_EQ(refused([](auto&) {}), 0);
}

TEST(Stage1, ReplacesALiveConfiguration) {
  Rig rig;
  rig.start_nested();
  rig.map_page(0x5000, Rig::page_gpa(1));
  ASSERT_EQ(rig.read_status(0x5000), DmaStatus::kOk);
  EXPECT_EQ(rig.bind(uapi::kIommuPasidConfigTranslate), 0) << "without going through detach";
  EXPECT_EQ(rig.read_status(0x5000), DmaStatus::kOk);
}

TEST(Stage1, DetachLeavesAbort) {
  Rig rig;
  rig.start_nested();
  rig.map_page(0x5000, Rig::page_gpa(1));
  ASSERT_EQ(rig.read_status(0x5000), DmaStatus::kOk);
  ASSERT_EQ(rig.sys_.ioctl(rig.container_, uapi::kVfioIommuDetachPasidTable, nullptr), 0);
  EXPECT_EQ(rig.read_status(0x5000), DmaStatus::kAborted);
  EXPECT_EQ(rig.read_status(Rig::page_gpa(1)), DmaStatus::kAborted) << "abort, not bypass";
}

TEST(Arguments, TooSmallOrWithUnknownFlagsAreRefused) {
  Rig rig;
  rig.start_nested();
  auto bind = rig.binding(uapi::kIommuPasidConfigTranslate);
  const auto call = [&](unsigned long request, void* argument) {
    return rig.sys_.ioctl(rig.container_, request, argument);
  };
  bind.argsz = sizeof bind - 1;
  EXPECT_EQ(call(uapi::kVfioIommuAttachPasidTable, &bind), -EINVAL);
  bind.argsz = sizeof bind;
  bind.flags = 1;
  EXPECT_EQ(call(uapi::kVfioIommuAttachPasidTable, &bind), -EINVAL);

  uapi::vfio_iommu_type1_cache_invalidate inv{};
  inv.argsz = sizeof inv - 8;
  inv.info.version = 1;
  inv.info.cache = uapi::kIommuCacheInvTypeIotlb;
  inv.info.granularity = uapi::kIommuInvGranuPasid;
  EXPECT_EQ(call(uapi::kVfioIommuCacheInvalidate, &inv), -EINVAL);
  inv.argsz = sizeof inv;
  inv.flags = 4;
  EXPECT_EQ(call(uapi::kVfioIommuCacheInvalidate, &inv), -EINVAL);
  inv.flags = 0;
  inv.info.version = 7;
  EXPECT_EQ(call(uapi::kVfioIommuCacheInvalidate, &inv), -EINVAL);

  uapi::vfio_iommu_type1_bind_msi msi{
      .argsz = sizeof msi, .flags = 2, .iova = 0x8000, .gpa = 0x9000, .size = 4096};
  EXPECT_EQ(call(uapi::kVfioIommuBindMsi, &msi), -EINVAL);
  msi.flags = 0;
  msi.argsz = 8;
  EXPECT_EQ(call(uapi::kVfioIommuBindMsi, &msi), -EINVAL);
  uapi::vfio_iommu_type1_unbind_msi unbind{.argsz = 8, .flags = 0, .iova = 0x8000};
  EXPECT_EQ(call(uapi::kVfioIommuUnbindMsi, &unbind), -EINVAL);
}

}  // namespace
}  // namespace faultline::seed
