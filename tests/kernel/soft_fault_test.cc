// SPDX-License-Identifier: BSD-3-Clause
// Faults on their way to userspace: records, the full ring, the interrupt, the ledger.
#include <cerrno>
#include <vector>

#include "kernel/soft/ledger.h"
#include "kernel/uapi/fault_abi2.h"
#include "tests/kernel/soft_worlds.h"

namespace faultline::soft {
namespace {

constexpr std::uint64_t kNowhere = 0x5000;  // not mapped by stage 1
constexpr std::uint64_t kTranslation = 0x10;

template <class Where>
class SoftFault : public testing::Test {};
TYPED_TEST_SUITE(SoftFault, Worlds);

TYPED_TEST(SoftFault, AnUnmappedAddressBecomesARecord) {
  Rig<TypeParam> rig;
  rig.go();
  EXPECT_EQ(rig.header().prod, 0U);
  EXPECT_EQ(rig.read(kNowhere + 8).status, DmaStatus::kFaulted);
  EXPECT_EQ(rig.header().prod, 1U);
  const uapi::iommu_fault f = rig.record(0);
  EXPECT_EQ(f.type, uapi::kIommuFaultDmaUnrecov);
  EXPECT_EQ(f.event.reason, 5U);  // PTE_FETCH
  EXPECT_EQ(f.event.flags, uapi::kIommuFaultUnrecovPermValid | uapi::kIommuFaultUnrecovAddrValid);
  EXPECT_EQ(f.event.addr, kNowhere + 8);
  EXPECT_EQ(f.event.perm, 0U);
}

TYPED_TEST(SoftFault, V7NeverStoresTheReason) {
  SoftKernelConfig config = one_device();
  config.quirks_v7 = true;
  Rig<TypeParam> rig(config);
  rig.go();
  rig.write(kNowhere, 1);
  EXPECT_EQ(rig.record(0).event.reason, 0U);
  EXPECT_EQ(rig.record(0).event.perm, uapi::kIommuFaultPermWrite);
}

TYPED_TEST(SoftFault, AForbiddenWriteIsAPermissionFault) {
  Rig<TypeParam> rig;
  rig.guest->map(0x1000, rig.page_with(3), GuestTables::kReadOnly | GuestTables::kNotGlobal);
  rig.go();
  EXPECT_EQ(rig.read(0x1000).status, DmaStatus::kOk);
  EXPECT_EQ(rig.write(0x1000, 1).status, DmaStatus::kFaulted);
  EXPECT_EQ(rig.record(0).event.reason, 6U);
  EXPECT_EQ(rig.record(0).event.perm, uapi::kIommuFaultPermWrite);
}

TYPED_TEST(SoftFault, Stage2FaultsAreNotTheGuestsBusiness) {
  Rig<TypeParam> rig;
  rig.guest->map(0x1000, 0x90000000);  // not RAM
  rig.go();
  EXPECT_EQ(rig.read(0x1000).status, DmaStatus::kFaulted);
  EXPECT_EQ(rig.header().prod, 0U);
  EXPECT_EQ(rig.where.view().stats().faults, 1U);
  EXPECT_EQ(rig.where.view().stats().produced, 0U);
}

TYPED_TEST(SoftFault, FaultsBeforeAnAbiIsChosenAreDropped) {
  Rig<TypeParam> rig;
  rig.calls.attach(rig.container, rig.guest->cd());
  rig.read(kNowhere);
  EXPECT_EQ(rig.where.view().stats().dropped, 1U);
  rig.choose(1);
  EXPECT_EQ(rig.header().prod, 0U);
}

TYPED_TEST(SoftFault, OneSlotStaysEmptyAndTheRestIsDroppedInSilence) {
  Rig<TypeParam> rig;
  rig.go();
  const int fd = rig.sys.eventfd(0, EFD_NONBLOCK);
  ASSERT_EQ(rig.calls.set_eventfd(rig.device, fd), 0);
  for (std::uint64_t i = 0; i < 90; ++i) rig.read(kNowhere + 8 * i);
  EXPECT_EQ(rig.header().prod, 84U);
  EXPECT_EQ(rig.record(83).event.addr, kNowhere + 8 * 83);
  EXPECT_EQ(rig.where.view().stats().dropped, 6U);
  std::uint64_t signals = 0;
  EXPECT_EQ(rig.sys.read(fd, &signals, 8), 8);
  EXPECT_EQ(signals, 84U);  // one per record, none for what was dropped
  EXPECT_EQ(rig.consume(84), 4);
  rig.read(kNowhere);
  rig.read(kNowhere);
  EXPECT_EQ(rig.header().prod, 1U);  // 84, then wrapped to 0
  rig.sys.close(fd);
}

TYPED_TEST(SoftFault, ABadConsIsRefusedAndTheOldOneKept) {
  Rig<TypeParam> rig;
  rig.go();
  for (int i = 0; i < 84; ++i) rig.read(kNowhere);
  EXPECT_EQ(rig.consume(85), -EINVAL);
  EXPECT_EQ(rig.consume(0xffffffff), -EINVAL);
  rig.read(kNowhere);
  EXPECT_EQ(rig.header().prod, 84U);  // still full
  EXPECT_EQ(rig.consume(1), 4);
  rig.read(kNowhere);
  EXPECT_EQ(rig.header().prod, 0U);
}

TYPED_TEST(SoftFault, Abi2HasExactEventsSequencesAndLoss) {
  Rig<TypeParam> rig;
  rig.go(2);
  const auto* header = static_cast<const uapi::vfio_region_fault_prod2*>(
      rig.map(rig.device, 17 * 4096, rig.kProd, PROT_READ));
  auto* cons = static_cast<uapi::vfio_region_fault_cons2*>(
      rig.map(rig.device, 4096, rig.kCons, PROT_READ | PROT_WRITE));
  const auto record = [&](std::uint64_t n) {
    uapi::vfio_fault_record2 r{};
    copy_from_shared(&r, reinterpret_cast<const std::byte*>(header) + 4096 + (n % 1024) * 64,
                     sizeof r);
    return r;
  };
  for (std::uint64_t i = 0; i < 1030; ++i) rig.read(kNowhere);
  EXPECT_EQ(load_acquire(header->prod), 1024U);
  EXPECT_EQ(load_acquire(header->lost), 6U);
  EXPECT_EQ(record(5).sequence, 5U);
  EXPECT_EQ(record(5).event[0] & 0xffU, kTranslation);
  EXPECT_EQ(record(5).event[0] >> 32U, 0x10U);  // the host's StreamID
  EXPECT_EQ(record(5).event[2], kNowhere);
  store_release(cons->cons, std::uint64_t{5000});  // ahead of prod: not believed
  rig.read(kNowhere);
  EXPECT_EQ(load_acquire(header->lost), 7U);
  store_release(cons->cons, std::uint64_t{1});
  rig.read(kNowhere);
  EXPECT_EQ(load_acquire(header->prod), 1025U);
  EXPECT_EQ(record(1024).sequence, 1031U);
}

TYPED_TEST(SoftFault, TheLedgerHasEveryEventAndWhatBecameOfIt) {
  Rig<TypeParam> rig;
  LedgerReader ledger(rig.where.view().ledger(0));
  rig.calls.attach(rig.container, rig.guest->cd());
  rig.read(kNowhere);
  rig.choose(1);
  for (int i = 0; i < 85; ++i) rig.write(kNowhere + 8, 1);
  std::vector<LedgerEntry> entries(100);
  ASSERT_EQ(ledger.read(entries), 86U);
  EXPECT_EQ(entries[0].outcome, LedgerOutcome::kDroppedNoAbi);
  EXPECT_EQ(entries[0].abi, 0U);
  for (std::uint64_t i = 1; i < 86; ++i) {
    const LedgerEntry& e = entries[i];
    EXPECT_EQ(e.index, i);
    EXPECT_EQ(e.iova, kNowhere + 8);
    EXPECT_EQ(e.event[0] & 0xffU, kTranslation);
    EXPECT_EQ(e.access, DmaRequest::kWrite);
    EXPECT_EQ(e.abi, 1U);
    EXPECT_EQ(e.outcome, i == 85 ? LedgerOutcome::kDroppedFull : LedgerOutcome::kProduced);
    EXPECT_EQ(e.position, i - 1);
  }
}

TYPED_TEST(SoftFault, TheDeviceWaitsForTheAuditRatherThanLoseAnEntry) {
  SoftKernelConfig config = one_device();
  config.ledger_entries = 4;
  Rig<TypeParam> rig(config);
  LedgerReader ledger(rig.where.view().ledger(0));
  rig.go();
  for (std::uint64_t i = 0; i < 40; ++i) {
    ASSERT_TRUE(rig.dma->submit({.iova = kNowhere, .cookie = i}));
  }
  rig.dma->ring();
  std::uint64_t next = 0;
  for (int rounds = 0; next < 40 && rounds < 10'000; ++rounds) {
    LedgerEntry e[3];
    const std::size_t n = ledger.read(e);
    for (std::size_t i = 0; i < n; ++i) EXPECT_EQ(e[i].index, next++);
    if (n == 0) futex_wait(dma_header(rig.bar).driver_sleeps, 0, 1'000'000);
  }
  EXPECT_EQ(next, 40U);
}

TEST(SoftFault, RecordsAreStampedByTheKernelsClock) {
  SoftKernelConfig config = one_device();
  Nanos now = 77;
  config.clock = [&] { return now; };
  Rig<InProcess> rig(config);
  LedgerReader ledger(rig.where.view().ledger(0));
  rig.go(2);
  rig.read(kNowhere);
  LedgerEntry e;
  ASSERT_EQ(ledger.read({&e, 1}), 1U);
  EXPECT_EQ(e.timestamp_ns, 77U);
}

}  // namespace
}  // namespace faultline::soft
