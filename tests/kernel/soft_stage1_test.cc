// SPDX-License-Identifier: BSD-3-Clause
// Binding of stage 1 and of MSI doorbells.
#include <cerrno>

#include "tests/kernel/soft_worlds.h"

namespace faultline::soft {
namespace {

SoftKernelConfig v7() {
  SoftKernelConfig config = one_device();
  config.quirks_v7 = true;
  return config;
}

template <class Where>
class SoftStage1 : public testing::Test {};
TYPED_TEST_SUITE(SoftStage1, Worlds);

TYPED_TEST(SoftStage1, BypassAbortAndDetachDoWhatTheySay) {
  Rig<TypeParam> rig;
  const std::uint64_t page = rig.page_with(42);
  rig.guest->map(0x1000, page);
  rig.go();
  EXPECT_EQ(rig.read(0x1000).value, 42U);
  EXPECT_EQ(rig.calls.attach(rig.container, 0, uapi::kIommuPasidConfigBypass), 0);
  EXPECT_EQ(rig.read(page).value, 42U);
  EXPECT_EQ(rig.calls.attach(rig.container, 0, uapi::kIommuPasidConfigAbort), 0);
  EXPECT_EQ(rig.read(page).status, DmaStatus::kAborted);
  EXPECT_EQ(rig.calls.attach(rig.container, rig.guest->cd()), 0);
  EXPECT_EQ(rig.read(0x1000).value, 42U);
  EXPECT_EQ(rig.calls.detach(rig.container), 0);
  EXPECT_EQ(rig.read(0x1000).status, DmaStatus::kAborted);
  EXPECT_EQ(rig.read(page).status, DmaStatus::kAborted);
  EXPECT_EQ(rig.header().prod, 0U);  // aborts leave no event
  EXPECT_EQ(rig.calls.detach(rig.container), 0);
}

TYPED_TEST(SoftStage1, ALiveTableIsReplacedInPlace) {
  Rig<TypeParam> rig;
  const std::uint64_t other = rig.guest->page();
  rig.guest->map(0x1000, rig.page_with(1));
  rig.guest->map(0x1000, rig.page_with(2), GuestTables::kRw, other);
  rig.go();
  EXPECT_EQ(rig.read(0x1000).value, 1U);
  rig.guest->write_cd(6, other, 1);
  EXPECT_EQ(rig.calls.attach(rig.container, rig.guest->cd() + 64), 0);
  EXPECT_EQ(rig.read(0x1000).value, 2U);
}

TYPED_TEST(SoftStage1, AttachChecksEveryVersionAndSize) {
  Rig<TypeParam> rig;
  const auto refused = [&](auto change) {
    auto t = rig.calls.table(rig.guest->cd());
    change(t);
    return rig.calls.attach(rig.container, t) == -EINVAL;
  };
  EXPECT_TRUE(refused([](auto& t) { t.argsz = 39; }));
  EXPECT_TRUE(refused([](auto& t) { t.flags = 1; }));
  EXPECT_TRUE(refused([](auto& t) { t.config.version = 2; }));
  EXPECT_TRUE(refused([](auto& t) { t.config.format = 2; }));
  EXPECT_TRUE(refused([](auto& t) { t.config.smmuv3.version = 0; }));
  EXPECT_TRUE(refused([](auto& t) { t.config.config = 0; }));
  EXPECT_TRUE(refused([](auto& t) { t.config.config = 4; }));
  EXPECT_TRUE(refused([](auto& t) { t.config.pasid_bits = 21; }));
  EXPECT_TRUE(refused([](auto& t) { t.config.padding[0] = 1; }));
  EXPECT_TRUE(refused([](auto& t) { t.config.base_ptr += 8; }));
  EXPECT_EQ(rig.calls.attach(rig.container, rig.guest->cd()), 0);
}

TYPED_TEST(SoftStage1, SubstreamsHaveDescriptorsOfTheirOwn) {
  Rig<TypeParam> rig;
  const std::uint64_t other = rig.guest->page();
  rig.guest->map(0x1000, rig.page_with(1));
  rig.guest->map(0x1000, rig.page_with(2), GuestTables::kRw | GuestTables::kNotGlobal, other);
  rig.guest->write_cd(6, other, 3);
  auto t = rig.calls.table(rig.guest->cd());
  t.config.pasid_bits = 2;
  t.config.smmuv3.s1dss = 2;  // without SubstreamID: descriptor 0
  ASSERT_EQ(rig.calls.attach(rig.container, t), 0);
  rig.choose(1);
  EXPECT_EQ(rig.read(0x1000).value, 1U);
  EXPECT_EQ(rig.run({.iova = 0x1000, .flags = DmaRequest::kSsid, .ssid = 3}).value, 2U);
  EXPECT_EQ(rig.run({.iova = 0x1000, .flags = DmaRequest::kSsid, .ssid = 9}).status,
            DmaStatus::kFaulted);
  EXPECT_EQ(rig.record(0).event.reason, 3U);  // PASID_INVALID
}

TYPED_TEST(SoftStage1, V7HasOneDescriptorOnly) {
  Rig<TypeParam> rig(v7());
  auto t = rig.calls.table(rig.guest->cd());
  t.config.pasid_bits = 2;
  EXPECT_EQ(rig.calls.attach(rig.container, t), -EINVAL);
}

TYPED_TEST(SoftStage1, AnMsiReachesItsDoorbellOnlyWhileItIsBound) {
  Rig<TypeParam> rig;
  constexpr std::uint64_t kIova = 0x9000, kGpa = 0x8020000;
  rig.guest->map(kIova, kGpa);
  rig.go();
  EXPECT_EQ(rig.write(kIova + 0x40, 33).status, DmaStatus::kFaulted);
  EXPECT_EQ(rig.calls.bind_msi(rig.container, kIova, kGpa), 0);
  const DmaCompletion c = rig.write(kIova + 0x40, 34);
  EXPECT_EQ(c.status, DmaStatus::kOk);
  EXPECT_EQ(c.flags, DmaCompletion::kMsi);
  EXPECT_EQ(rig.where.view().msi(0).count, 1U);
  EXPECT_EQ(rig.where.view().msi(0).data, 34U);
  EXPECT_EQ(rig.read(kIova).status, DmaStatus::kFaulted);  // a doorbell is only written
  EXPECT_EQ(rig.calls.unbind_msi(rig.container, kIova), 0);
  EXPECT_EQ(rig.write(kIova + 0x40, 35).status, DmaStatus::kFaulted);
  EXPECT_EQ(rig.where.view().msi(0).count, 1U);
}

TYPED_TEST(SoftStage1, MsiBindingsAreRoundedAndTheFirstOneStays) {
  Rig<TypeParam> rig;
  constexpr std::uint64_t kIova = 0x9000, kGpa = 0x8020000;
  rig.guest->map(kIova, kGpa);
  rig.guest->map(0xa000, 0x8030000);
  rig.go();
  EXPECT_EQ(rig.calls.bind_msi(rig.container, kIova + 0x123, kGpa + 0x40), 0);
  EXPECT_EQ(rig.write(kIova, 1).flags, DmaCompletion::kMsi);
  EXPECT_EQ(rig.calls.bind_msi(rig.container, kIova, 0x8030000), 0);  // ignored
  EXPECT_EQ(rig.write(0xa000, 1).status, DmaStatus::kFaulted);
  EXPECT_EQ(rig.calls.bind_msi(rig.container, 0xb000, 0x8040000, 0), -EINVAL);
  EXPECT_EQ(rig.calls.bind_msi(rig.container, 0xb000, 0x8040000, 12288), -EINVAL);
  EXPECT_EQ(rig.calls.bind_msi(rig.container, 0xb000, rig.kRam), -EEXIST);
  EXPECT_EQ(rig.calls.unbind_msi(rig.container, 0xdead000), 0);
}

}  // namespace
}  // namespace faultline::soft
