// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/vfio/fault_region2.h"

#include <gmock/gmock.h>

#include "tests/kernel/vfio_fixture.h"

namespace faultline::testing {
namespace {

struct VfioFaultRegion2 : VfioFixture {
  void SetUp() override {
    kernel.max_abi = 2;
    kernel.entries2 = 64;
    ASSERT_EQ(open_regions(), "");
    ASSERT_EQ(regions->abi(0), 2U);
    sys.forget_counts();
  }
  const vfio::FaultStats& stats() { return regions->stats(0); }
  void produce(std::uint64_t n, std::uint64_t first_tag = 0) {
    for (std::uint64_t i = 0; i < n; ++i) kernel.produce2(first_tag + i);
  }
};

TEST_F(VfioFaultRegion2, MakesNoSystemCallAtAll) {
  for (int round = 0; round < 1000; ++round) {
    produce(static_cast<std::uint64_t>(round % 5));
    poll();
    EXPECT_EQ(regions->commit(0), 0);
    regions->take_loss(0);
    regions->housekeeping(static_cast<Nanos>(round) * 1'000'000);
  }
  EXPECT_EQ(sys.count(Call::kPread) + sys.count(Call::kPwrite) + sys.count(Call::kEpollWait) +
                sys.count(Call::kIoctl),
            0);
}

TEST_F(VfioFaultRegion2, HandsOutTheRawEventsInOrder) {
  produce(20, 100);
  const auto records = poll();
  ASSERT_EQ(records.size(), 20U);
  for (std::uint64_t i = 0; i < 20; ++i) {
    EXPECT_EQ(records[i].form, FaultRecord::Form::kRawEvent);
    EXPECT_EQ(records[i].event[0], 0x10U);
    EXPECT_EQ(records[i].event[2], 100 + i);
    EXPECT_EQ(records[i].lost_before, 0U);
  }
  EXPECT_EQ(regions->position(0).next, 20U);
  EXPECT_EQ(kernel.cons2().cons, 0U);
  EXPECT_EQ(regions->commit(0), 0);
  EXPECT_EQ(kernel.cons2().cons, 20U);
}

TEST_F(VfioFaultRegion2, PutsAnExactLossInFrontOfTheRecordBehindIt) {
  produce(64 + 7);
  EXPECT_EQ(kernel.dropped, 7U);
  EXPECT_EQ(regions->take_loss(0).exact, 0U);  // 64 records come before it
  ASSERT_EQ(poll(64).size(), 64U);
  ASSERT_EQ(regions->commit(0), 0);
  produce(1, 999);
  const auto records = poll();
  ASSERT_EQ(records.size(), 1U);
  EXPECT_EQ(records[0].lost_before, 7U);
  EXPECT_FALSE(records[0].lost_before_is_guess);
  EXPECT_EQ(regions->take_loss(0).exact, 0U);
  EXPECT_EQ(stats().exact_loss, 7U);
}

TEST_F(VfioFaultRegion2, TellsALossThatNoRecordFollows) {
  produce(64 + 7);
  ASSERT_EQ(poll(64).size(), 64U);
  EXPECT_EQ(regions->take_loss(0).exact, 7U);
  EXPECT_EQ(regions->take_loss(0).exact, 0U);
  produce(2);  // still full
  EXPECT_EQ(regions->take_loss(0).exact, 2U);
  ASSERT_EQ(regions->commit(0), 0);
  produce(1);
  const auto records = poll();
  ASSERT_EQ(records.size(), 1U);
  EXPECT_EQ(records[0].lost_before, 0U);
}

TEST_F(VfioFaultRegion2, ResumesAtAnyPositionThatWasJournalled) {
  produce(30);
  ASSERT_EQ(poll(10).size(), 10U);
  const auto journalled = regions->position(0);
  ASSERT_EQ(reopen_regions({journalled}), "");
  EXPECT_EQ(regions->commit(0), 0);
  EXPECT_EQ(kernel.cons2().cons, 10U);
  const auto records = poll();
  ASSERT_EQ(records.size(), 20U);
  EXPECT_EQ(records[0].event[2], 10U);
}

TEST_F(VfioFaultRegion2, CountsALossOverTheGapOfARestartExactly) {
  produce(64 + 3);
  ASSERT_EQ(poll(64).size(), 64U);
  EXPECT_EQ(regions->take_loss(0).exact, 3U);
  const auto journalled = regions->position(0);
  produce(5);  // lost while nobody looked
  ASSERT_EQ(reopen_regions({journalled}), "");
  EXPECT_EQ(regions->commit(0), 0);
  EXPECT_EQ(regions->take_loss(0).exact, 5U);
}

TEST_F(VfioFaultRegion2, ResynchronisesWithAProdThatMakesNoSense) {
  produce(5);
  ASSERT_EQ(poll().size(), 5U);
  for (const std::uint64_t prod :
       {std::uint64_t{0}, std::uint64_t{1} << 40U, ~std::uint64_t{1000}}) {
    const auto before = stats().bad_prod;
    store_release(kernel.header2().prod, prod);
    EXPECT_EQ(poll().size(), 0U);
    EXPECT_EQ(stats().bad_prod, before + 1);
    EXPECT_EQ(regions->take_loss(0).possible, 1U);
  }
  // Back to the truth: one more loss, and then as if nothing had been.
  store_release(kernel.header2().prod, std::uint64_t{5});
  EXPECT_EQ(poll().size(), 0U);
  EXPECT_EQ(regions->take_loss(0).possible, 1U);
  ASSERT_EQ(regions->commit(0), 0);
  produce(1, 7);
  const auto records = poll();
  ASSERT_EQ(records.size(), 1U);
  EXPECT_EQ(records[0].event[2], 7U);
  EXPECT_EQ(records[0].lost_before, 0U);
}

TEST_F(VfioFaultRegion2, RefusesASequenceThatGoesBackwardAsMalformed) {
  produce(2);
  kernel.slot2(1).sequence = 0;
  produce(1);
  const auto records = poll();
  ASSERT_EQ(records.size(), 3U);
  EXPECT_EQ(records[1].form, FaultRecord::Form::kMalformed);
  EXPECT_EQ(records[1].lost_before, 1U);
  EXPECT_TRUE(records[1].lost_before_is_guess);
  EXPECT_EQ(records[2].form, FaultRecord::Form::kRawEvent);
  EXPECT_EQ(records[2].lost_before, 0U);
  EXPECT_EQ(stats().bad_sequence, 1U);
}

TEST_F(VfioFaultRegion2, SaturatesALossThatDoesNotFit) {
  produce(1);
  kernel.slot2(0).sequence = std::uint64_t{1} << 40U;
  const auto records = poll();
  ASSERT_EQ(records.size(), 1U);
  EXPECT_EQ(records[0].lost_before, 0xffffffffU);
}

TEST_F(VfioFaultRegion2, TakesALostCounterThatGoesBackwardForAPossibleLoss) {
  produce(64 + 2);
  ASSERT_EQ(poll(64).size(), 64U);
  EXPECT_EQ(regions->take_loss(0).exact, 2U);
  store_release(kernel.header2().lost, std::uint64_t{1});
  EXPECT_EQ(regions->take_loss(0).possible, 1U);
  EXPECT_EQ(stats().bad_sequence, 1U);
}

TEST_F(VfioFaultRegion2, StartsAtProdWithALossWhenNobodyKnowsWhereItWas) {
  produce(30);
  ASSERT_EQ(reopen_regions(), "");
  EXPECT_EQ(poll().size(), 0U);
  EXPECT_EQ(regions->take_loss(0).possible, 1U);
  EXPECT_EQ(regions->commit(0), 0);
  EXPECT_EQ(kernel.cons2().cons, 30U);
}

TEST_F(VfioFaultRegion2, DeliversRecordsWithUnknownFlagsAndCountsThem) {
  produce(1);
  kernel.slot2(0).flags = 4;
  EXPECT_EQ(poll().size(), 1U);
  EXPECT_EQ(stats().unknown_flags, 1U);
}

}  // namespace
}  // namespace faultline::testing
