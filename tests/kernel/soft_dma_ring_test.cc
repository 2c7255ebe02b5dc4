// SPDX-License-Identifier: BSD-3-Clause
// The device's half of the BAR against a driver that writes what it likes.
#include "kernel/soft/dma_ring.h"

#include <gtest/gtest.h>

#include <vector>

namespace faultline::soft {
namespace {

class DmaRingTest : public testing::Test {
 protected:
  DmaRingTest() { ring.reset(); }

  alignas(4096) std::byte bar[kDmaBarSize] = {};
  DmaRing ring{bar};
  DmaBarHeader& header{dma_header(bar)};
  DmaRequest request;
};

TEST_F(DmaRingTest, ResetMakesABarThatTheDriverKnows) {
  DmaClient client(bar);
  EXPECT_TRUE(client.usable());
  EXPECT_FALSE(ring.take(request));
  EXPECT_TRUE(ring.room());
}

TEST_F(DmaRingTest, CarriesRequestsAndCompletionsRoundAndRound) {
  DmaClient client(bar);
  for (std::uint64_t i = 0; i < 3 * kDmaRingEntries; ++i) {
    ASSERT_TRUE(client.submit({.iova = i, .cookie = i}));
    client.ring();
    ASSERT_TRUE(ring.take(request));
    EXPECT_EQ(request.iova, i);
    ring.complete({.cookie = request.cookie, .status = DmaStatus::kOk});
    DmaCompletion c;
    ASSERT_EQ(client.complete({&c, 1}), 1U);
    EXPECT_EQ(c.cookie, i);
  }
}

TEST_F(DmaRingTest, TheDriverCannotOverfillTheRing) {
  DmaClient client(bar);
  for (std::uint32_t i = 0; i < kDmaRingEntries; ++i) ASSERT_TRUE(client.submit({}));
  EXPECT_FALSE(client.submit({}));
  EXPECT_EQ(client.in_flight(), kDmaRingEntries);
}

TEST_F(DmaRingTest, WaitsForRoomForCompletions) {
  for (std::uint32_t i = 0; i < kDmaRingEntries; ++i) {
    ASSERT_TRUE(ring.room());
    ring.complete({.cookie = i, .status = DmaStatus::kOk});
  }
  EXPECT_FALSE(ring.room());
  DmaClient client(bar);
  DmaCompletion c;
  EXPECT_EQ(client.complete({&c, 1}), 1U);
  EXPECT_TRUE(ring.room());
}

TEST_F(DmaRingTest, ImpossibleIndicesCountAsNothing) {
  for (const std::uint64_t bad :
       {std::uint64_t{kDmaRingEntries} + 1, std::uint64_t{5000}, std::uint64_t{1} << 63U}) {
    store_release(header.request_head, bad);
    EXPECT_FALSE(ring.take(request));
    store_release(header.completion_tail, bad);
    EXPECT_FALSE(ring.room());
  }
  EXPECT_EQ(ring.bad_index(), 3U);
  store_release(header.request_head, std::uint64_t{1});
  store_release(header.completion_tail, std::uint64_t{0});
  EXPECT_TRUE(ring.take(request));
  EXPECT_TRUE(ring.room());
}

TEST_F(DmaRingTest, TheDriversCopyOfTheDevicesIndicesIsNotBelieved) {
  DmaClient client(bar);
  client.submit({.cookie = 1});
  client.ring();
  store_release(header.request_tail, std::uint64_t{77});
  store_release(header.completion_head, std::uint64_t{77});
  EXPECT_TRUE(ring.take(request));
  ring.complete({.cookie = request.cookie, .status = DmaStatus::kOk});
  EXPECT_EQ(load_acquire(header.request_tail), 1U);
  EXPECT_EQ(load_acquire(header.completion_head), 1U);
}

TEST_F(DmaRingTest, ANewDriverGoesOnWhereTheLastOneStopped) {
  {
    DmaClient first(bar);
    first.submit({.cookie = 1});
    first.ring();
  }
  ASSERT_TRUE(ring.take(request));
  ring.complete({.cookie = 1, .status = DmaStatus::kOk});
  DmaClient second(bar);
  EXPECT_EQ(second.in_flight(), 1U);
  DmaCompletion c;
  EXPECT_EQ(second.complete({&c, 1}), 1U);
  EXPECT_TRUE(second.submit({.cookie = 2}));
  second.ring();
  EXPECT_TRUE(ring.take(request));
  EXPECT_EQ(request.cookie, 2U);
}

TEST_F(DmaRingTest, DoesNotSleepWhileThereIsWorkOrAStop) {
  std::uint32_t stop = 0;
  DmaClient client(bar);
  client.submit({});
  client.ring();
  ring.sleep(3'600'000'000'000, stop);  // would be an hour
  stop = 1;
  ASSERT_TRUE(ring.take(request));
  ring.sleep(3'600'000'000'000, stop);
  EXPECT_EQ(load_acquire(header.device_sleeps), 0U);
}

}  // namespace
}  // namespace faultline::soft
