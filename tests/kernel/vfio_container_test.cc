// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/vfio/container.h"

#include <gmock/gmock.h>

#include "tests/kernel/vfio_fixture.h"

namespace faultline::testing {
namespace {

using ::testing::HasSubstr;
using vfio::Invalidation;

struct VfioContainer : VfioFixture {};

TEST_F(VfioContainer, OpensAttachesAndChoosesNesting) {
  EXPECT_EQ(open_container(), "");
  EXPECT_EQ(sys.count(uapi::kVfioCheckExtension), 1);
  EXPECT_EQ(sys.count(uapi::kVfioSetIommu), 1);
}

TEST_F(VfioContainer, SaysWhatToDoWithoutTheModule) {
  sys.inject(Call::kOpen, 1, -ENOENT);
  EXPECT_THAT(open_container(), HasSubstr("modprobe vfio-pci"));
}

TEST_F(VfioContainer, RefusesAnotherApiVersion) {
  kernel.api_version = 1;
  EXPECT_THAT(open_container(), HasSubstr("version 1"));
}

TEST_F(VfioContainer, RefusesAFileThatIsNoContainer) {
  sys.inject(Call::kIoctl, 1, -ENOTTY, uapi::kVfioGetApiVersion);
  EXPECT_THAT(open_container(), HasSubstr("not a VFIO container"));
}

TEST_F(VfioContainer, RefusesAGroupThatIsInUse) {
  sys.inject(Call::kOpen, 2, -EBUSY);
  EXPECT_THAT(open_container(), HasSubstr("another process has it"));
}

TEST_F(VfioContainer, RefusesAGroupThatIsNotViable) {
  kernel.group_flags = 0;
  EXPECT_THAT(open_container(), HasSubstr("bind every device of the group"));
}

TEST_F(VfioContainer, RefusesAGroupInAnotherContainer) {
  kernel.group_flags |= uapi::kVfioGroupFlagsContainerSet;
  EXPECT_THAT(open_container(), HasSubstr("another container"));
}

TEST_F(VfioContainer, ReportsEveryCallThatFailsWhileOpening) {
  for (const unsigned long request : {uapi::kVfioGroupGetStatus, uapi::kVfioGroupSetContainer,
                                      uapi::kVfioCheckExtension, uapi::kVfioSetIommu}) {
    container.reset();
    sys.inject(Call::kIoctl, 1, -EPERM, request);
    EXPECT_THAT(open_container(), HasSubstr("errno 1)")) << request;
    EXPECT_TRUE(sys.all_injected());
  }
}

TEST_F(VfioContainer, RefusesAKernelWithoutNesting) {
  kernel.nesting = 0;
  EXPECT_THAT(open_container(), HasSubstr("no nested stages"));
}

TEST_F(VfioContainer, NeedsAGroupBeforeTheIommu) {
  auto c = Container::open(sys);
  ASSERT_TRUE(c);
  EXPECT_THAT(c->set_nesting().error().message(), HasSubstr("attach one"));
}

TEST_F(VfioContainer, TakesOneGroupOnly) {
  ASSERT_EQ(open_container(), "");
  EXPECT_THAT(container->attach_group("/dev/vfio/7").error().message(), HasSubstr("one per"));
}

TEST_F(VfioContainer, ProbesADocumentedKernel) {
  ASSERT_EQ(open_container(), "");
  const auto profile = container->probe();
  ASSERT_TRUE(profile);
  EXPECT_FALSE(profile->v7_quirks());
  EXPECT_TRUE(profile->caps().tlb_all);
  EXPECT_TRUE(profile->caps().config_caches);
  EXPECT_TRUE(profile->caps().atc);
  EXPECT_EQ(profile->caps().max_batch, 1U);
}

TEST_F(VfioContainer, ProbesV7AsItWas) {
  kernel.tlb_domain = kernel.cd_cache = kernel.dev_iotlb = false;
  ASSERT_EQ(open_container(), "");
  const auto profile = container->probe();
  ASSERT_TRUE(profile);
  EXPECT_TRUE(profile->v7_quirks());
}

TEST_F(VfioContainer, ProbesEachCacheByItself) {
  kernel.cd_cache = false;
  ASSERT_EQ(open_container(), "");
  const auto profile = container->probe();
  ASSERT_TRUE(profile);
  EXPECT_TRUE(profile->tlb_domain);
  EXPECT_FALSE(profile->cd_cache);
  EXPECT_TRUE(profile->dev_iotlb);
  EXPECT_FALSE(profile->v7_quirks());
}

TEST_F(VfioContainer, RefusesV8ByItsAnswerToAPlainAsid) {
  kernel.v8 = true;
  ASSERT_EQ(open_container(), "");
  EXPECT_THAT(container->probe().error().message(), HasSubstr("v8 or later"));
}

TEST_F(VfioContainer, RefusesAKernelWithoutInvalidation) {
  ASSERT_EQ(open_container(), "");
  sys.inject(Call::kIoctl, 1, -ENOTTY, uapi::kVfioIommuCacheInvalidate);
  EXPECT_THAT(container->probe().error().message(), HasSubstr("no CACHE_INVALIDATE"));
}

TEST_F(VfioContainer, PutsOneCacheBitInEachCall) {
  ASSERT_EQ(open_container(), "");
  ASSERT_TRUE(container->probe());
  for (const auto& i : kernel.invalidations) {
    EXPECT_EQ(i.info.cache & (i.info.cache - 1), 0);
    EXPECT_NE(i.info.cache, 0);
  }
}

TEST_F(VfioContainer, RefusesZeroGranulesWithoutACall) {
  ASSERT_EQ(open_container(), "");
  sys.forget_counts();
  const auto iotlb = uapi::kIommuCacheInvTypeIotlb;
  EXPECT_EQ(container->invalidate(Invalidation::addresses(iotlb, true, 1, 0, 4096, 0, false)),
            -EINVAL);
  EXPECT_EQ(container->invalidate(Invalidation::addresses(iotlb, true, 1, 0, 0, 1, false)),
            -EINVAL);
  EXPECT_EQ(sys.count(uapi::kVfioIommuCacheInvalidate), 0);
  EXPECT_EQ(container->invalidate(Invalidation::addresses(iotlb, true, 1, 0, 4096, 1, false)), 0);
}

TEST_F(VfioContainer, BindsEachMode) {
  ASSERT_EQ(open_container(), "");
  Stage1Config config{.mode = Stage1Config::Mode::kTranslate, .s1dss = 2, .cd_table = 0x4000};
  EXPECT_EQ(container->bind_stage1(config), 0);
  config.mode = Stage1Config::Mode::kBypass;
  EXPECT_EQ(container->bind_stage1(config), 0);
  EXPECT_EQ(container->bind_stage1({}), 0);
  ASSERT_EQ(kernel.binds.size(), 3U);
  EXPECT_EQ(kernel.binds[0].config.config, uapi::kIommuPasidConfigTranslate);
  EXPECT_EQ(kernel.binds[0].config.base_ptr, 0x4000U);
  EXPECT_EQ(kernel.binds[0].config.smmuv3.s1dss, 2);
  EXPECT_EQ(kernel.binds[1].config.config, uapi::kIommuPasidConfigBypass);
  EXPECT_EQ(kernel.binds[1].config.base_ptr, 0U);
  EXPECT_EQ(kernel.binds[2].config.config, uapi::kIommuPasidConfigAbort);
  EXPECT_EQ(container->detach_stage1(), 0);
  EXPECT_EQ(sys.count(uapi::kVfioIommuDetachPasidTable), 1);
}

TEST_F(VfioContainer, HandsOnWhatV7CannotExpress) {
  ASSERT_EQ(open_container(), "");
  EXPECT_EQ(container->bind_stage1({.mode = Stage1Config::Mode::kTranslate, .s1cdmax = 1}),
            -EINVAL);
}

TEST_F(VfioContainer, ReportsMapsAndBindingsThatAreRefused) {
  ASSERT_EQ(open_container(), "");
  char page = 0;
  EXPECT_TRUE(container->map_dma(Gpa{0x1000}, 0x1000, &page));
  EXPECT_TRUE(container->unmap_dma(Gpa{0x1000}, 0x1000));
  EXPECT_TRUE(container->bind_msi(Iova{0x8000}, Gpa{0x9000}, 0x1000));
  EXPECT_TRUE(container->unbind_msi(Iova{0x8000}));
  sys.inject(Call::kIoctl, 1, -ENOMEM, uapi::kVfioIommuMapDma);
  EXPECT_THAT(container->map_dma(Gpa{0x1000}, 0x1000, &page).error().message(),
              HasSubstr("locked-memory limit"));
  sys.inject(Call::kIoctl, 1, -EEXIST, uapi::kVfioIommuMapDma);
  EXPECT_THAT(container->map_dma(Gpa{0x1000}, 0x1000, &page).error().message(),
              HasSubstr("0x1000"));
  sys.inject(Call::kIoctl, 1, -EINVAL, uapi::kVfioIommuUnmapDma);
  EXPECT_FALSE(container->unmap_dma(Gpa{0x1000}, 0x1000));
  sys.inject(Call::kIoctl, 1, -EINVAL, uapi::kVfioIommuBindMsi);
  EXPECT_THAT(container->bind_msi(Iova{0x8000}, Gpa{0}, 1).error().message(), HasSubstr("MSI"));
  sys.inject(Call::kIoctl, 1, -EINVAL, uapi::kVfioIommuUnbindMsi);
  EXPECT_FALSE(container->unbind_msi(Iova{0x8000}));
}

TEST_F(VfioContainer, GoesOnWithAdoptedDescriptors) {
  ASSERT_EQ(open_container(), "");
  const int calls = sys.count(Call::kIoctl);
  auto again = Container::adopt(sys, sys.new_fd(), sys.new_fd(), "adopted");
  EXPECT_EQ(sys.count(Call::kIoctl), calls);
  EXPECT_EQ(again.path(), "adopted");
}

}  // namespace
}  // namespace faultline::testing
