// SPDX-License-Identifier: BSD-3-Clause
// CACHE_INVALIDATE: what each cache still shows before, and no more after.
#include <cerrno>

#include "tests/kernel/soft_worlds.h"

namespace faultline::soft {
namespace {

constexpr std::uint8_t kTlb = uapi::kIommuCacheInvTypeIotlb;
constexpr std::uint8_t kAtc = uapi::kIommuCacheInvTypeDevIotlb;
constexpr std::uint8_t kConfigs = uapi::kIommuCacheInvTypePasid;

SoftKernelConfig v7() {
  SoftKernelConfig config = one_device();
  config.quirks_v7 = true;
  return config;
}

SoftKernelConfig with_ats() {
  SoftKernelConfig config = one_device();
  config.devices[0].atc_entries = 16;
  return config;
}

/// A rig whose page at 0x1000 was read as 1 and has since been mapped to one that holds 2.
template <class Where>
struct Stale : Rig<Where> {
  explicit Stale(SoftKernelConfig config = one_device(),
                 std::uint64_t attributes = GuestTables::kRw | GuestTables::kNotGlobal)
      : Rig<Where>(std::move(config)) {
    this->guest->map(0x1000, this->page_with(1), attributes);
    this->go();
    EXPECT_EQ(this->read(0x1000).value, 1U);
    this->guest->map(0x1000, this->page_with(2), attributes);
    EXPECT_EQ(value(), 1U) << "a cache that forgets hides mistakes";
  }
  std::uint64_t value() { return this->read(0x1000).value; }
};

template <class Where>
class SoftInvalidate : public testing::Test {};
TYPED_TEST_SUITE(SoftInvalidate, Worlds);

TYPED_TEST(SoftInvalidate, ByAddressShowsTheNewPage) {
  Stale<TypeParam> rig;
  EXPECT_EQ(rig.calls.invalidate_pages(rig.container, rig.kAsid, 0x2000, 1), 0);
  EXPECT_EQ(rig.value(), 1U);
  EXPECT_EQ(rig.calls.invalidate_pages(rig.container, rig.kAsid + 1, 0x1000, 1), 0);
  EXPECT_EQ(rig.value(), 1U);
  EXPECT_EQ(rig.calls.invalidate_pages(rig.container, rig.kAsid, 0, 2), 0);
  EXPECT_EQ(rig.value(), 2U);
  EXPECT_EQ(rig.where.view().stats().invalidations, 3U);
}

TYPED_TEST(SoftInvalidate, ByAddressOfAnyAsid) {
  Stale<TypeParam> rig;
  EXPECT_EQ(rig.calls.invalidate_pages(rig.container, 0, 0x1000, 1, kTlb, 4096, 0), 0);
  EXPECT_EQ(rig.value(), 2U);
}

TYPED_TEST(SoftInvalidate, ByAsid) {
  Stale<TypeParam> rig;
  EXPECT_EQ(rig.calls.invalidate_pasid(rig.container, rig.kAsid + 1), 0);
  EXPECT_EQ(rig.value(), 1U);
  EXPECT_EQ(rig.calls.invalidate_pasid(rig.container, rig.kAsid), 0);
  EXPECT_EQ(rig.value(), 2U);
}

TYPED_TEST(SoftInvalidate, ByAsidLeavesGlobalEntries) {
  Stale<TypeParam> rig(one_device(), GuestTables::kRw);
  EXPECT_EQ(rig.calls.invalidate_pasid(rig.container, rig.kAsid), 0);
  EXPECT_EQ(rig.value(), 1U);
  EXPECT_EQ(rig.calls.invalidate_pages(rig.container, rig.kAsid, 0x1000, 1), 0);
  EXPECT_EQ(rig.value(), 2U);
}

TYPED_TEST(SoftInvalidate, ByDomain) {
  Stale<TypeParam> rig(one_device(), GuestTables::kRw);
  EXPECT_EQ(rig.calls.invalidate_domain(rig.container), 0);
  EXPECT_EQ(rig.value(), 2U);
}

TYPED_TEST(SoftInvalidate, LeafOnlyLeavesTheTablesOnTheWay) {
  Rig<TypeParam> rig;
  const std::uint64_t other = rig.guest->page();
  rig.guest->map(0x1000, rig.page_with(1));
  rig.guest->map(0x1000, rig.page_with(2), GuestTables::kRw | GuestTables::kNotGlobal, other);
  rig.go();
  EXPECT_EQ(rig.read(0x1000).value, 1U);
  // Entry 0 of the root now leads to the other tables.
  const std::uint64_t root = load_relaxed(rig.guest->word(rig.guest->cd() + 8));
  store_release(rig.guest->word(root), load_relaxed(rig.guest->word(other)));
  constexpr std::uint32_t kLeaf = uapi::kIommuInvAddrFlagsPasid | uapi::kIommuInvAddrFlagsLeaf;
  EXPECT_EQ(rig.calls.invalidate_pages(rig.container, rig.kAsid, 0x1000, 1, kTlb, 4096, kLeaf), 0);
  EXPECT_EQ(rig.read(0x1000).value, 1U);
  EXPECT_EQ(rig.calls.invalidate_pages(rig.container, rig.kAsid, 0x1000, 1), 0);
  EXPECT_EQ(rig.read(0x1000).value, 2U);
}

TYPED_TEST(SoftInvalidate, TheConfigurationCacheKeepsADescriptorUntilItIsTold) {
  Rig<TypeParam> rig;
  const std::uint64_t other = rig.guest->page();
  rig.guest->map(0x1000, rig.page_with(1));
  rig.guest->map(0x1000, rig.page_with(2), GuestTables::kRw | GuestTables::kNotGlobal, other);
  rig.go();
  EXPECT_EQ(rig.read(0x1000).value, 1U);
  rig.guest->write_cd(6, other);
  EXPECT_EQ(rig.calls.invalidate_domain(rig.container), 0);  // the TLB is not what holds it
  EXPECT_EQ(rig.read(0x1000).value, 1U);
  EXPECT_EQ(rig.calls.invalidate_pasid(rig.container, 0, kConfigs), 0);
  EXPECT_EQ(rig.read(0x1000).value, 2U);
  rig.guest->write_cd(rig.kAsid);
  EXPECT_EQ(rig.read(0x1000).value, 2U);
  EXPECT_EQ(rig.calls.invalidate_domain(rig.container, kConfigs), 0);
  EXPECT_EQ(rig.read(0x1000).value, 1U);
}

TYPED_TEST(SoftInvalidate, AttachingAgainDropsTheDescriptors) {
  Rig<TypeParam> rig(v7());
  const std::uint64_t other = rig.guest->page();
  rig.guest->map(0x1000, rig.page_with(1));
  rig.guest->map(0x1000, rig.page_with(2), GuestTables::kRw | GuestTables::kNotGlobal, other);
  rig.go();
  EXPECT_EQ(rig.read(0x1000).value, 1U);
  rig.guest->write_cd(6, other);
  EXPECT_EQ(rig.read(0x1000).value, 1U);
  EXPECT_EQ(rig.calls.attach(rig.container, rig.guest->cd()), 0);
  EXPECT_EQ(rig.read(0x1000).value, 2U);
}

TYPED_TEST(SoftInvalidate, TheDevicesOwnCacheIsNotReachedByTlbCommands) {
  Stale<TypeParam> rig(with_ats());
  EXPECT_EQ(rig.calls.invalidate_domain(rig.container), 0);
  EXPECT_EQ(rig.value(), 1U);
  constexpr std::uint32_t kNoPasid = 0;
  EXPECT_EQ(rig.calls.invalidate_pages(rig.container, 0, 0x8000, 1, kAtc, 4096, kNoPasid), 0);
  EXPECT_EQ(rig.value(), 1U);
  EXPECT_EQ(rig.calls.invalidate_pages(rig.container, 0, 0x1000, 1, kAtc, 4096, kNoPasid), 0);
  EXPECT_EQ(rig.value(), 2U);
}

TYPED_TEST(SoftInvalidate, TheDevicesOwnCacheGoesByPasidToo) {
  Stale<TypeParam> rig(with_ats());
  EXPECT_EQ(rig.calls.invalidate_pasid(rig.container, rig.kAsid), 0);
  EXPECT_EQ(rig.value(), 1U);
  EXPECT_EQ(rig.calls.invalidate_pasid(rig.container, 0, kAtc), 0);
  EXPECT_EQ(rig.value(), 2U);
}

TYPED_TEST(SoftInvalidate, UndocumentedPairsAreRefused) {
  Rig<TypeParam> rig;
  EXPECT_EQ(rig.calls.invalidate_domain(rig.container, kAtc), -EINVAL);
  EXPECT_EQ(rig.calls.invalidate_pages(rig.container, 5, 0, 1, kConfigs), -EINVAL);
  EXPECT_EQ(rig.calls.invalidate_domain(rig.container, 0), -EINVAL);
  EXPECT_EQ(rig.calls.invalidate_domain(rig.container, 8), -EINVAL);
  uapi::iommu_cache_invalidate_info info{};
  info.cache = kTlb;
  info.granularity = 3;
  EXPECT_EQ(rig.calls.invalidate(rig.container, info), -EINVAL);
}

TYPED_TEST(SoftInvalidate, RangesMustBeWholeAlignedGranules) {
  Rig<TypeParam> rig;
  const auto range = [&](std::uint64_t addr, std::uint64_t n, std::uint64_t granule,
                         std::uint32_t flags = 1) {
    return rig.calls.invalidate_pages(rig.container, 5, addr, n, kTlb, granule, flags);
  };
  EXPECT_EQ(range(0x1001, 1, 4096), -EINVAL);
  EXPECT_EQ(range(0x1000, 0, 4096), -EINVAL);
  EXPECT_EQ(range(0x1000, 1, 0), -EINVAL);
  EXPECT_EQ(range(0x1000, 1, 6000), -EINVAL);
  EXPECT_EQ(range(0x1000, 1, 512), -EINVAL);
  EXPECT_EQ(range(0x1000, 1, 4096, 8), -EINVAL);
  EXPECT_EQ(range(~std::uint64_t{4095}, 2, 4096), -EINVAL);
  EXPECT_EQ(range(~std::uint64_t{4095}, 1, 4096), 0);
  EXPECT_EQ(range(0, ~std::uint64_t{0} / 4096, 4096), 0);
  EXPECT_EQ(rig.calls.invalidate_pasid(rig.container, 0x10000), -EINVAL);
}

TYPED_TEST(SoftInvalidate, V7RefusesDomainAndTheOtherCachesAfterTheTlb) {
  Stale<TypeParam> rig(v7());
  EXPECT_EQ(rig.calls.invalidate_domain(rig.container), -EINVAL);
  EXPECT_EQ(rig.value(), 1U);
  EXPECT_EQ(rig.calls.invalidate_pasid(rig.container, 0, kConfigs), -ENOENT);
  EXPECT_EQ(rig.calls.invalidate_pasid(rig.container, 0, kAtc), -ENOENT);
  EXPECT_EQ(rig.value(), 1U);
  EXPECT_EQ(rig.calls.invalidate_pasid(rig.container, rig.kAsid, kTlb | kAtc), -ENOENT);
  EXPECT_EQ(rig.value(), 2U);
}

TYPED_TEST(SoftInvalidate, WhatMadeV7RunAwayIsRefusedAndCounted) {
  Rig<TypeParam> rig(v7());
  EXPECT_EQ(rig.calls.invalidate_pages(rig.container, 5, 0, 0), -EINVAL);
  EXPECT_EQ(rig.calls.invalidate_pages(rig.container, 5, 0, 1, kTlb, 0), -EINVAL);
  EXPECT_EQ(rig.calls.invalidate_pages(rig.container, 5, 0, std::uint64_t{1} << 52U), -EINVAL);
  EXPECT_EQ(rig.where.view().stats().would_hang, 3U);
}

TYPED_TEST(SoftInvalidate, SizesFlagsAndVersionsAreChecked) {
  Rig<TypeParam> rig;
  uapi::vfio_iommu_type1_cache_invalidate inv{};
  const auto call = [&] {
    return rig.sys.ioctl(rig.container, uapi::kVfioIommuCacheInvalidate, &inv);
  };
  inv.argsz = sizeof inv;
  inv.info.version = 1;
  inv.info.cache = kTlb;
  EXPECT_EQ(call(), 0);
  inv.argsz = sizeof inv - 1;
  EXPECT_EQ(call(), -EINVAL);
  inv.argsz = sizeof inv;
  inv.flags = 1;
  EXPECT_EQ(call(), -EINVAL);
  inv.flags = 0;
  inv.info.version = 2;
  EXPECT_EQ(call(), -EINVAL);
  EXPECT_EQ(rig.sys.ioctl(rig.container, uapi::kVfioIommuCacheInvalidate, nullptr), -EFAULT);
}

}  // namespace
}  // namespace faultline::soft
