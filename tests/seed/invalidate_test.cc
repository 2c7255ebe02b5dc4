// SPDX-License-Identifier: BSD-3-Clause
// Sentences 18 to 20 and 29: invalidation and MSI bindings. Every test first sees the stale entry:
// a kernel without caches would fail it.
#include <atomic>
#include <thread>

#include "tests/seed/rig.h"

namespace faultline::seed {
namespace {

using soft::DmaStatus;
constexpr std::uint8_t kIotlb = uapi::kIommuCacheInvTypeIotlb;

/// Map iova to page `from`, use it, point the table at page `to`: the old one is still cached.
void make_stale(Rig& rig, std::uint64_t iova, unsigned from, unsigned to, std::uint64_t flags = 0) {
  rig.page(from) = from;
  rig.page(to) = to;
  rig.map_page(iova, Rig::page_gpa(from), flags);
  ASSERT_EQ(rig.access(iova).value, from);
  rig.map_page(iova, Rig::page_gpa(to), flags);
  ASSERT_EQ(rig.access(iova).value, from) << "nothing is cached: this test could not fail";
}

TEST(Invalidate, ByAsidRemovesTheStaleTranslation) {
  Rig rig;
  rig.start_nested();
  make_stale(rig, 0x5000, 1, 2);
  make_stale(rig, 0x9000, 3, 4, Rig::kGlobal);
  ASSERT_EQ(rig.invalidate_asid(Rig::kAsid + 1), 0);
  EXPECT_EQ(rig.access(0x5000).value, 1U) << "another ASID";
  ASSERT_EQ(rig.invalidate_asid(), 0);
  EXPECT_EQ(rig.access(0x5000).value, 2U);
  EXPECT_EQ(rig.access(0x9000).value, 3U) << "by ASID leaves global entries alone";
}

TEST(Invalidate, ByAddressRemovesJustThat) {
  Rig rig;
  rig.start_nested();
  make_stale(rig, 0x5000, 1, 2);
  make_stale(rig, 0x6000, 3, 4);
  make_stale(rig, 0x7000, 5, 6);
  make_stale(rig, 0x8000, 7, 8, Rig::kGlobal);
  ASSERT_EQ(rig.invalidate(kIotlb, uapi::kIommuInvGranuAddr, Rig::kAsid, 0x5000, 2), 0);
  EXPECT_EQ(rig.access(0x5000).value, 2U);
  EXPECT_EQ(rig.access(0x6000).value, 4U) << "the second of two granules";
  EXPECT_EQ(rig.access(0x7000).value, 5U) << "beyond the range";
  ASSERT_EQ(rig.invalidate(kIotlb, uapi::kIommuInvGranuAddr, Rig::kAsid, 0x8000, 1,
                           uapi::kIommuInvAddrFlagsLeaf),
            0);
  EXPECT_EQ(rig.access(0x8000).value, 8U) << "by address removes global entries too";
}

TEST(Invalidate, OfTheDomainRemovesEverything) {
  Rig rig;
  rig.start_nested();
  make_stale(rig, 0x5000, 1, 2);
  make_stale(rig, 0x9000, 3, 4, Rig::kGlobal);
  ASSERT_EQ(rig.invalidate(kIotlb, uapi::kIommuInvGranuDomain, 0), 0);
  EXPECT_EQ(rig.access(0x5000).value, 2U);
  EXPECT_EQ(rig.access(0x9000).value, 4U);
}

TEST(Invalidate, OfThePasidCacheRemovesStaleContexts) {
  for (const std::uint8_t granularity : {uapi::kIommuInvGranuDomain, uapi::kIommuInvGranuPasid}) {
    Rig rig;
    rig.start_nested();
    rig.page(1) = 1;
    rig.map_page(0x5000, Rig::page_gpa(1));
    ASSERT_EQ(rig.access(0x5000).value, 1U);
    // Another context descriptor, under a fresh ASID, whose table maps nothing.
    rig.word(0x1000) = (rig.word(0x1000) & ~(0xffffULL << 48U)) | (9ULL << 48U);
    rig.word(0x1008) = Rig::kRamGpa + (1U << 20U);
    ASSERT_EQ(rig.access(0x5000).status, DmaStatus::kOk) << "the old context is still cached";
    ASSERT_EQ(rig.invalidate(uapi::kIommuCacheInvTypePasid, granularity, 0), 0);
    EXPECT_EQ(rig.access(0x5000).status, DmaStatus::kFaulted);
  }
}

TEST(Invalidate, OfTheDeviceTlb) {
  Rig rig({.atc_entries = 64});
  rig.start_nested();
  make_stale(rig, 0x5000, 1, 2);
  ASSERT_EQ(rig.invalidate_asid(), 0);
  ASSERT_EQ(rig.access(0x5000).value, 1U) << "the device's own cache still has it";
  ASSERT_EQ(
      rig.invalidate(uapi::kIommuCacheInvTypeDevIotlb, uapi::kIommuInvGranuAddr, 0, 0x5000, 1), 0);
  EXPECT_EQ(rig.access(0x5000).value, 2U);
}

TEST(Invalidate, RefusesWhatIsNotDocumented) {
  Rig rig;
  rig.start_nested();
  EXPECT_EQ(rig.invalidate(kIotlb, 3, Rig::kAsid), -EINVAL) << "no such granularity";
  EXPECT_EQ(rig.invalidate(0, uapi::kIommuInvGranuPasid, Rig::kAsid), -EINVAL) << "no cache";
  EXPECT_EQ(rig.invalidate(8, uapi::kIommuInvGranuPasid, Rig::kAsid), -EINVAL);
  EXPECT_EQ(rig.invalidate(uapi::kIommuCacheInvTypePasid, uapi::kIommuInvGranuAddr, 0, 0x5000, 1),
            -EINVAL)
      << "a context has no address";
  EXPECT_EQ(rig.invalidate(kIotlb, uapi::kIommuInvGranuAddr, Rig::kAsid, 0x5000, 0), -EINVAL)
      << "version 7's loop would not have ended";
}

TEST(Invalidate, ReturnsOnlyAfterAccessesInFlightEnded) {
  std::atomic<bool> hold{false};
  std::atomic<bool> inside{false};
  Rig rig({.access_hook = [&](std::size_t) {
    while (hold.load()) {
      inside = true;
      std::this_thread::yield();
    }
  }});
  rig.start_nested();
  rig.map_page(0x5000, Rig::page_gpa(1));
  ASSERT_EQ(rig.read_status(0x5000), DmaStatus::kOk);
  hold = true;
  soft::DmaRequest write;
  write.iova = 0x5000;
  write.value = 99;
  write.flags = soft::DmaRequest::kWrite;
  rig.issue(write);
  while (!inside.load()) std::this_thread::yield();
  rig.map_page(0x5000, 0);
  std::atomic<bool> returned{false};
  std::uint64_t seen_at_return = 0;
  std::thread invalidation([&] {
    EXPECT_EQ(rig.invalidate_asid(), 0);
    seen_at_return = std::uint64_t{rig.page(1)};
    returned = true;
  });
  // The access is held between translation and memory. An invalidation that did not wait would
  // be back by now and would have seen the page before the write.
  for (int i = 0; i < 200 && !returned.load(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_FALSE(returned.load());
  hold = false;
  invalidation.join();
  EXPECT_EQ(seen_at_return, 99U) << "the write that used the old entry had landed";
  EXPECT_EQ(rig.completed().status, DmaStatus::kOk);
}

TEST(Msi, ABoundDoorbellIsReachedThroughBothStages) {
  Rig rig;
  rig.start_nested();
  constexpr std::uint64_t kGiova = 0x20'0000;
  constexpr std::uint64_t kDoorbellGpa = 0x0802'0000;  // outside RAM, as a GIC frame is
  rig.map_page(kGiova, kDoorbellGpa);
  uapi::vfio_iommu_type1_bind_msi msi{.argsz = sizeof msi,
                                      .flags = 0,
                                      .iova = kGiova + 0x40,
                                      .gpa = kDoorbellGpa + 0x40,
                                      .size = 4096};
  ASSERT_EQ(rig.sys_.ioctl(rig.container_, uapi::kVfioIommuBindMsi, &msi), 0);
  const std::uint64_t before = rig.kernel_.msi_count(0);
  EXPECT_EQ(rig.access(kGiova + 0x40, true, 0x23).status, DmaStatus::kOk);
  EXPECT_EQ(rig.kernel_.msi_count(0), before + 1);
  msi.gpa = 0x0900'0000;
  EXPECT_EQ(rig.sys_.ioctl(rig.container_, uapi::kVfioIommuBindMsi, &msi), 0)
      << "a second binding of the same address is accepted and changes nothing";
  EXPECT_EQ(rig.access(kGiova + 0x40, true, 0x24).status, DmaStatus::kOk);
  EXPECT_EQ(rig.kernel_.msi_count(0), before + 2);

  uapi::vfio_iommu_type1_unbind_msi unbind{.argsz = sizeof unbind, .flags = 0, .iova = kGiova};
  ASSERT_EQ(rig.sys_.ioctl(rig.container_, uapi::kVfioIommuUnbindMsi, &unbind), 0);
  EXPECT_NE(rig.access(kGiova + 0x40, true, 0x25).status, DmaStatus::kOk);
  EXPECT_EQ(rig.kernel_.msi_count(0), before + 2);
}

TEST(Msi, AnUnboundDoorbellIsNotReached) {
  Rig rig;
  rig.start_nested();
  rig.map_page(0x20'0000, 0x0802'0000);
  EXPECT_NE(rig.access(0x20'0040, true, 1).status, DmaStatus::kOk);
  EXPECT_EQ(rig.kernel_.msi_count(0), 0U);
}

}  // namespace
}  // namespace faultline::seed
