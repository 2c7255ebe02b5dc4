// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/vfio/fault_region1.h"

#include <gmock/gmock.h>

#include "tests/kernel/vfio_fixture.h"

namespace faultline::testing {
namespace {

constexpr auto kEntries = FakeVfio::kEntries1;
constexpr Nanos kPeriod = vfio::FaultOptions{}.backstop_period;

struct VfioFaultRegion1 : VfioFixture {
  void SetUp() override {
    ASSERT_EQ(open_regions(), "");
    EXPECT_TRUE(poll().empty());  // the pread at start
    sys.forget_counts();
  }
  const vfio::FaultStats& stats() { return regions->stats(0); }

  /// Produce and consume n records, so that the ring's slots hold them.
  void run(std::uint32_t n, std::uint64_t first_tag) {
    for (std::uint32_t i = 0; i < n; ++i) {
      ASSERT_TRUE(kernel.produce1(first_tag + i));
      ASSERT_EQ(poll().size(), 1U);
      ASSERT_EQ(regions->commit(0), 0);
    }
  }
  void run_same(std::uint32_t n, std::uint64_t tag, Nanos& now) {
    for (std::uint32_t i = 0; i < n; ++i) {
      ASSERT_TRUE(kernel.produce1(tag));
      regions->housekeeping(now += kPeriod);
      ASSERT_EQ(poll().size(), 1U);
      ASSERT_EQ(regions->commit(0), 0);
    }
  }
};

TEST_F(VfioFaultRegion1, AsksNothingOfTheKernelWhileIdle) {
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(poll().size(), 0U);
  EXPECT_EQ(sys.count(Call::kPread), 0);
  EXPECT_EQ(regions->commit(0), 0);
  EXPECT_EQ(sys.count(Call::kPwrite), 0);
}

TEST_F(VfioFaultRegion1, ReadsABurstWithOnePreadAndGivesItBackWithOnePwrite) {
  for (std::uint64_t i = 0; i < 20; ++i) ASSERT_TRUE(kernel.produce1(i));
  const auto records = poll();
  ASSERT_EQ(records.size(), 20U);
  for (std::uint64_t i = 0; i < 20; ++i) {
    EXPECT_EQ(records[i].form, FaultRecord::Form::kReason);
    EXPECT_EQ(records[i].reason, FaultReason::kPteFetch);
    EXPECT_EQ(records[i].addr, i);
    EXPECT_EQ(records[i].perm, FaultRecord::kWrite);
    EXPECT_EQ(records[i].lost_before, 0U);
  }
  EXPECT_EQ(kernel.cons1, 0U);
  EXPECT_EQ(regions->position(0).next, 20U);
  EXPECT_EQ(regions->commit(0), 0);
  EXPECT_EQ(kernel.cons1, 20U);
  EXPECT_EQ(sys.count(Call::kPread), 1);
  EXPECT_EQ(sys.count(Call::kPwrite), 1);
}

TEST_F(VfioFaultRegion1, WrapsAtTheQueueSizeAndNotAtAPowerOfTwo) {
  run(3 * kEntries + 7, 1);
  EXPECT_EQ(kernel.cons1, 7U);
  EXPECT_EQ(stats().bad_prod, 0U);
  EXPECT_EQ(stats().possible_loss, 0U);
}

TEST_F(VfioFaultRegion1, FindsARecordEqualToTheOneOfALapAgoByTheBackstop) {
  Nanos now = 0;
  run_same(kEntries, 0xabc, now);
  const auto finds = stats().backstop_finds;
  ASSERT_TRUE(kernel.produce1(0xabc));
  for (int i = 0; i < 100; ++i) ASSERT_EQ(poll().size(), 0U);  // no byte of the slot changed
  EXPECT_EQ(regions->housekeeping(now + kPeriod - 1), 0U);     // not due
  EXPECT_EQ(poll().size(), 0U);
  EXPECT_EQ(regions->housekeeping(now + kPeriod), 1U);
  EXPECT_EQ(poll().size(), 1U);  // and so within one period and one poll
  EXPECT_EQ(stats().backstop_finds, finds + 1);
}

TEST_F(VfioFaultRegion1, FindsSeveralEqualRecordsByOneSignal) {
  Nanos now = 0;
  run_same(kEntries, 0xabc, now);
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(kernel.produce1(0xabc));
  EXPECT_EQ(poll().size(), 0U);
  regions->housekeeping(now + kPeriod);
  EXPECT_EQ(poll().size(), 10U);
}

TEST_F(VfioFaultRegion1, FindsEqualRecordsTogetherWithALaterDifferentOneOnlyInOrder) {
  Nanos now = 0;
  run_same(kEntries, 0xabc, now);
  ASSERT_TRUE(kernel.produce1(0xabc));
  ASSERT_TRUE(kernel.produce1(0xdef));  // its slot is not watched yet
  EXPECT_EQ(poll().size(), 0U);
  regions->housekeeping(now + kPeriod);
  const auto records = poll();
  ASSERT_EQ(records.size(), 2U);
  EXPECT_EQ(records[0].addr, 0xabcU);
  EXPECT_EQ(records[1].addr, 0xdefU);
}

TEST_F(VfioFaultRegion1, DecodesNothingOfASlotThatChangedLongBeforeProd) {
  kernel.write_slot1(FakeVfio::fault(1));
  for (int i = 0; i < 50; ++i) {
    sys.forget_counts();
    EXPECT_EQ(poll().size(), 0U);
    EXPECT_LE(sys.count(Call::kPread), 4);  // bounded, and it looks again each time
    EXPECT_GE(sys.count(Call::kPread), 1);
  }
  EXPECT_EQ(stats().early_slot, 50U);
  kernel.write_slot1(FakeVfio::fault(2));  // it was not finished
  kernel.publish1(false);
  const auto records = poll();
  ASSERT_EQ(records.size(), 1U);
  EXPECT_EQ(records[0].addr, 2U);
}

TEST_F(VfioFaultRegion1, SeesProdMoveBetweenItsOwnReads) {
  kernel.write_slot1(FakeVfio::fault(1));
  int reads = 0;
  const auto pread = sys.on_pread;
  sys.on_pread = [&](int fd, void* out, std::size_t n, std::uint64_t at) {
    if (++reads == 3) kernel.publish1();
    return pread(fd, out, n, at);
  };
  EXPECT_EQ(poll().size(), 1U);
  EXPECT_EQ(reads, 3);
}

TEST_F(VfioFaultRegion1, NeverGivesBackPastConfirmedProd) {
  ASSERT_TRUE(kernel.produce1(1));
  kernel.write_slot1(FakeVfio::fault(2));  // in flight
  EXPECT_EQ(poll().size(), 1U);
  EXPECT_EQ(regions->commit(0), 0);
  EXPECT_EQ(kernel.cons1, 1U);
  EXPECT_EQ(kernel.prod1, 1U);
}

TEST_F(VfioFaultRegion1, IgnoresAProdOutsideOfTheRing) {
  kernel.write_slot1(FakeVfio::fault(1));
  for (const std::uint32_t prod : {kEntries, kEntries + 1, 0x80000000U, 0xffffffffU}) {
    kernel.header_override = {0xffffffffU, kEntries, 48, 4096, prod};
    EXPECT_EQ(poll().size(), 0U);
  }
  EXPECT_EQ(stats().bad_prod, 16U);  // four reads each: the slot differs
  kernel.header_override.reset();
  kernel.publish1();
  EXPECT_EQ(poll().size(), 1U);
}

TEST_F(VfioFaultRegion1, IgnoresAProdPastWhatConsAllows) {
  for (std::uint64_t i = 0; i < 40; ++i) ASSERT_TRUE(kernel.produce1(i));
  ASSERT_EQ(poll(64).size(), 40U);
  kernel.write_slot1(FakeVfio::fault(40));
  kernel.header_override = {0xffffffffU, kEntries, 48, 4096, 39};  // 84 further, cons still 0
  EXPECT_EQ(poll().size(), 0U);
  EXPECT_GT(stats().bad_prod, 0U);
  kernel.header_override.reset();
  kernel.publish1();
  EXPECT_EQ(poll().size(), 1U);
}

TEST_F(VfioFaultRegion1, KeepsACommitThatFailedAndRepeatsIt) {
  ASSERT_TRUE(kernel.produce1(1));
  ASSERT_EQ(poll().size(), 1U);
  sys.inject(Call::kPwrite, 1, -EINTR);
  EXPECT_EQ(regions->commit(0), -EINTR);
  EXPECT_EQ(kernel.cons1, 0U);
  EXPECT_EQ(regions->commit(0), 0);
  EXPECT_EQ(kernel.cons1, 1U);
  EXPECT_EQ(regions->commit(0), 0);
  EXPECT_EQ(sys.count(Call::kPwrite), 2);
  EXPECT_EQ(stats().commit_failed, 1U);
}

TEST_F(VfioFaultRegion1, KeepsACommitThatCameShortAndRepeatsItInHousekeeping) {
  ASSERT_TRUE(kernel.produce1(1));
  ASSERT_EQ(poll().size(), 1U);
  sys.inject(Call::kPwrite, 1, 4);
  EXPECT_EQ(regions->commit(0), -EIO);
  EXPECT_EQ(stats().commit_short, 1U);
  regions->housekeeping(kPeriod);
  EXPECT_EQ(kernel.cons1, 1U);
}

TEST_F(VfioFaultRegion1, TriesAFailedReadOfProdAgain) {
  ASSERT_TRUE(kernel.produce1(1));
  for (int i = 0; i < 4; ++i) sys.inject(Call::kPread, 1, i % 2 == 0 ? -EIO : 2);
  EXPECT_EQ(poll().size(), 0U);
  EXPECT_EQ(stats().prod_read_failed, 2U);
  EXPECT_EQ(stats().prod_read_short, 2U);
  EXPECT_EQ(poll().size(), 1U);
}

TEST_F(VfioFaultRegion1, FindsWhatWasThereBeforeItStarted) {
  for (std::uint64_t i = 0; i < 5; ++i) ASSERT_TRUE(kernel.produce1(i));
  const SourcePosition start{};
  ASSERT_EQ(reopen_regions({start}), "");
  EXPECT_EQ(poll().size(), 5U);
}

TEST_F(VfioFaultRegion1, ResumesWhereTheJournalSays) {
  for (std::uint64_t i = 0; i < 30; ++i) ASSERT_TRUE(kernel.produce1(i));
  ASSERT_EQ(poll(10).size(), 10U);
  const auto journalled = regions->position(0);
  ASSERT_EQ(reopen_regions({journalled}), "");  // killed before the commit
  EXPECT_EQ(kernel.cons1, 0U);
  EXPECT_EQ(regions->commit(0), 0);  // idempotent, and due
  EXPECT_EQ(kernel.cons1, 10U);
  const auto records = poll(64);
  ASSERT_EQ(records.size(), 20U);
  EXPECT_EQ(records[0].addr, 10U);
  EXPECT_EQ(records[0].lost_before, 0U);
  EXPECT_EQ(regions->take_loss(0).possible, 0U);
}

// Each life ends before it commits, so which cons the kernel has stays unknown over all of them;
// and the one that the journal names is a lap old by then.
TEST_F(VfioFaultRegion1, RemembersOverRestartsThatItDoesNotKnowCons) {
  for (std::uint64_t i = 0; i < 20; ++i) ASSERT_TRUE(kernel.produce1(i));
  ASSERT_EQ(poll(64).size(), 20U);
  SourcePosition journalled = regions->position(0);
  EXPECT_EQ(regions->commit(0), 0);  // not journalled any more
  ASSERT_EQ(reopen_regions({journalled}), "");
  for (std::uint64_t i = 20; i < kEntries; ++i) ASSERT_TRUE(kernel.produce1(i));
  EXPECT_EQ(poll(128).size(), kEntries - 20);
  journalled = regions->position(0);
  for (int life = 0; life < 3; ++life) {
    ASSERT_EQ(reopen_regions({journalled}), "");
    EXPECT_EQ(poll().size(), 0U);
    (void)regions->take_loss(0);
    journalled = regions->position(0);
  }
  ASSERT_EQ(reopen_regions({journalled}), "");
  std::uint64_t more = 0;
  while (kernel.produce1(100 + more)) ++more;
  ASSERT_EQ(regions->commit(0), 0);
  ASSERT_TRUE(kernel.produce1(999));  // behind the one that was dropped
  const auto records = poll(128);
  ASSERT_EQ(records.size(), more + 1);
  EXPECT_EQ(records.back().addr, 999U);
  EXPECT_EQ(records.back().lost_before, 1U);
}

// Two commits that are said to have failed: then any of three cons values may be the kernel's.
TEST_F(VfioFaultRegion1, MissesNoLossUnderACommitThatFailedAndTookEffect) {
  const auto fail_to_commit = [&](bool takes_effect) {
    sys.inject(Call::kPwrite, 1, -EINTR);
    EXPECT_LT(regions->commit(0), 0);
    if (takes_effect) kernel.cons1 = static_cast<std::uint32_t>(regions->position(0).next);
  };
  for (std::uint64_t i = 0; i < 20; ++i) ASSERT_TRUE(kernel.produce1(i));
  ASSERT_EQ(poll(64).size(), 20U);
  fail_to_commit(true);
  for (std::uint64_t i = 20; i < 30; ++i) ASSERT_TRUE(kernel.produce1(i));
  ASSERT_EQ(poll(64).size(), 10U);
  fail_to_commit(false);
  ASSERT_TRUE(kernel.produce1(30));
  ASSERT_EQ(poll().size(), 1U);
  std::uint64_t more = 0;
  while (kernel.produce1(100 + more)) ++more;
  ASSERT_EQ(poll(128).size(), more);
  fail_to_commit(true);
  ASSERT_TRUE(kernel.produce1(999));
  const auto records = poll();
  ASSERT_EQ(records.size(), 1U);
  EXPECT_EQ(records[0].lost_before, 1U);
}

TEST_F(VfioFaultRegion1, TakesAJournalOutsideOfTheRingForALoss) {
  for (std::uint64_t i = 0; i < 30; ++i) ASSERT_TRUE(kernel.produce1(i));
  ASSERT_EQ(reopen_regions({SourcePosition{.next = 85}}), "");
  EXPECT_EQ(poll().size(), 0U);
  EXPECT_EQ(regions->take_loss(0).possible, 1U);
  EXPECT_EQ(regions->commit(0), 0);
  EXPECT_EQ(kernel.cons1, 30U);
}

TEST_F(VfioFaultRegion1, StartsAtProdWithALossWhenNobodyKnowsWhereItWas) {
  for (std::uint64_t i = 0; i < 30; ++i) ASSERT_TRUE(kernel.produce1(i));
  ASSERT_EQ(reopen_regions(), "");
  EXPECT_EQ(regions->commit(0), 0);
  EXPECT_EQ(kernel.cons1, 0U);  // nothing is known yet, so nothing is given back
  EXPECT_EQ(poll().size(), 0U);
  EXPECT_EQ(regions->take_loss(0).possible, 1U);
  EXPECT_EQ(regions->commit(0), 0);
  EXPECT_EQ(kernel.cons1, 30U);
}

TEST_F(VfioFaultRegion1, ReportsAFullRingAsPossibleLossAtTheCommit) {
  std::uint64_t produced = 0;
  while (kernel.produce1(produced)) ++produced;
  EXPECT_EQ(kernel.dropped, 1U);
  EXPECT_EQ(produced, 84U);
  ASSERT_EQ(poll(100).size(), 84U);
  EXPECT_EQ(regions->take_loss(0).possible, 0U);  // it may not have dropped anything so far
  EXPECT_EQ(regions->commit(0), 0);
  EXPECT_EQ(regions->take_loss(0).possible, 1U);  // without waiting for another record
  EXPECT_EQ(regions->take_loss(0).possible, 0U);
  ASSERT_TRUE(kernel.produce1(1));
  const auto records = poll();
  ASSERT_EQ(records.size(), 1U);
  EXPECT_EQ(records[0].lost_before, 0U);  // told once
}

TEST_F(VfioFaultRegion1, PutsAnInferredLossInFrontOfTheRecordBehindIt) {
  std::uint64_t produced = 0;
  while (kernel.produce1(produced)) ++produced;
  ASSERT_EQ(poll(40).size(), 40U);
  EXPECT_EQ(regions->commit(0), 0);
  EXPECT_EQ(regions->take_loss(0).possible, 0U);  // 44 records come before the loss
  ASSERT_TRUE(kernel.produce1(999));
  auto records = poll(100);
  ASSERT_EQ(records.size(), 44U);
  for (const auto& r : records) EXPECT_EQ(r.lost_before, 0U);
  records = poll(100);
  ASSERT_EQ(records.size(), 1U);
  EXPECT_EQ(records[0].addr, 999U);
  EXPECT_EQ(records[0].lost_before, 1U);
  EXPECT_TRUE(records[0].lost_before_is_guess);
}

TEST_F(VfioFaultRegion1, CountsTheZeroReasonOfV7AsGuessedAndUndoesItsShift) {
  ASSERT_EQ(
      reopen_regions({SourcePosition{}}, vfio::AbiChoice::kAuto, {.fetch_addr_shifted = true}), "");
  auto fault = FakeVfio::fault(0x1000);
  fault.event.reason = 0;
  fault.event.flags |= uapi::kIommuFaultUnrecovFetchAddrValid;
  fault.event.fetch_addr = 0x8000 >> 3U;
  ASSERT_TRUE(kernel.produce1(fault));
  const auto records = poll();
  ASSERT_EQ(records.size(), 1U);
  EXPECT_EQ(records[0].reason, FaultReason::kUnknown);
  EXPECT_EQ(records[0].fetch_addr, 0x8000U);
  EXPECT_EQ(stats().guessed, 1U);
}

TEST_F(VfioFaultRegion1, KeepsAMalformedRecordInItsPlace) {
  std::vector<uapi::iommu_fault> bad(5, FakeVfio::fault(1));
  bad[0].type = 3;
  bad[1].event.reason = 9;
  bad[2].event.flags = 0x10;
  bad[3].event.perm = 8;
  bad[4].event.flags |= uapi::kIommuFaultUnrecovPasidValid;
  bad[4].event.pasid = 1U << 20U;
  for (const auto& f : bad) ASSERT_TRUE(kernel.produce1(f));
  ASSERT_TRUE(kernel.produce1(77));
  const auto records = poll();
  ASSERT_EQ(records.size(), 6U);
  for (std::size_t i = 0; i < 5; ++i) EXPECT_EQ(records[i].form, FaultRecord::Form::kMalformed);
  EXPECT_EQ(records[5].addr, 77U);
  EXPECT_EQ(stats().malformed, 5U);
}

TEST_F(VfioFaultRegion1, DecodesPageRequests) {
  uapi::iommu_fault f{};
  f.type = uapi::kIommuFaultPageReq;
  f.prm.flags = uapi::kIommuFaultPageRequestPasidValid | uapi::kIommuFaultPageRequestLastPage;
  f.prm.pasid = 5;
  f.prm.grpid = 6;
  f.prm.perm = uapi::kIommuFaultPermExec;
  f.prm.addr = 0x7000;
  ASSERT_TRUE(kernel.produce1(f));
  const auto records = poll();
  ASSERT_EQ(records.size(), 1U);
  EXPECT_EQ(records[0].form, FaultRecord::Form::kPageRequest);
  EXPECT_EQ(records[0].pasid, 5U);
  EXPECT_EQ(records[0].group, 6U);
  EXPECT_TRUE(records[0].last_page);
  EXPECT_EQ(records[0].perm, FaultRecord::kExec);
  EXPECT_EQ(records[0].addr, 0x7000U);
}

}  // namespace
}  // namespace faultline::testing
