// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/model/fl_ring2.h"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <thread>
#include <vector>

#include "kernel/base/shared.h"
#include "kernel/uapi/fault_abi2.h"

namespace faultline::test {
namespace {

// The model's idea of the layout is the header's.
static_assert(FL_RING2_RECORD_SIZE == sizeof(uapi::vfio_fault_record2));
static_assert(std::size_t{FL_RING2_RECORD_SIZE} == std::size_t{uapi::kFaultAbi2RecordSize});
static_assert(FL_RING2_PROD_OFFSET == offsetof(uapi::vfio_region_fault_prod2, prod));
static_assert(FL_RING2_LOST_OFFSET == offsetof(uapi::vfio_region_fault_prod2, lost));
static_assert(FL_RING2_CONS_OFFSET == offsetof(uapi::vfio_region_fault_cons2, cons));

class ModelRing2 : public ::testing::Test {
 protected:
  static constexpr std::uint32_t kEntries = 8;
  ModelRing2() {
    ring.prod = &prod;
    ring.lost = &lost;
    ring.cons = &cons;
    ring.queue = reinterpret_cast<std::uint64_t*>(records.data());
    ring.nb = kEntries;
  }

  int push(std::uint64_t tag) {
    const fl_event e{{0x10, tag, tag + 1, tag + 2}};
    return fl_ring2_push(&ring, &e, 1000 + tag);
  }

  std::uint64_t prod = 0, lost = 0, cons = 0;
  alignas(64) std::array<uapi::vfio_fault_record2, kEntries> records{};
  fl_ring2 ring{};
};

TEST_F(ModelRing2, WritesTheRawEventWithSequenceAndTime) {
  records[0].flags = 99;
  records[0].reserved1 = 99;
  ASSERT_EQ(0, push(7));
  EXPECT_EQ(1U, prod);
  EXPECT_EQ(0U, records[0].sequence);
  EXPECT_EQ(1007U, records[0].timestamp_ns);
  EXPECT_EQ(0x10U, records[0].event[0]);
  EXPECT_EQ(9U, records[0].event[3]);
  EXPECT_EQ(0U, records[0].flags);
  EXPECT_EQ(0U, records[0].reserved1);
}

TEST_F(ModelRing2, UsesEverySlotAndTellsLossBySequence) {
  for (unsigned i = 0; i < kEntries; ++i) ASSERT_EQ(0, push(i));
  EXPECT_EQ(-FL_ENOSPC, push(100));
  EXPECT_EQ(-FL_ENOSPC, push(101));
  EXPECT_EQ(kEntries, prod);
  EXPECT_EQ(2U, lost);
  EXPECT_EQ(0U, records[0].sequence) << "a full ring is not written";
  cons = 1;
  ASSERT_EQ(0, push(102));
  EXPECT_EQ(kEntries + 2, records[0].sequence);
  EXPECT_EQ(kEntries + 1, prod);
}

TEST_F(ModelRing2, IgnoresImpossibleConsumerIndices) {
  for (unsigned i = 0; i < kEntries; ++i) ASSERT_EQ(0, push(i));
  cons = 3;
  ASSERT_EQ(0, push(0));
  for (const std::uint64_t bad : {10ULL, ~0ULL, 0ULL, 1ULL << 63U}) {
    cons = bad;
    EXPECT_EQ(0, push(0)) << "the last good index still leaves room";
    prod = --ring.next;  // take it back
  }
  EXPECT_EQ(4U, ring.bad_cons);
  EXPECT_EQ(3U, ring.good_cons);
}

TEST_F(ModelRing2, IndicesRunOverTheEndOfSixtyFourBits) {
  ring.next = prod = cons = ring.good_cons = ~0ULL - 3;
  for (unsigned i = 0; i < 3 * kEntries; ++i) {
    ASSERT_EQ(0, push(i));
    ASSERT_EQ(ring.next, prod);
    EXPECT_EQ(1000U + i, records.at((prod - 1) % kEntries).timestamp_ns);
    cons = prod;
  }
  EXPECT_EQ(0U, ring.bad_cons);
}

TEST_F(ModelRing2, ToldAreStageOneFaultsAndGuestConfigurationErrors) {
  for (unsigned id = 0; id < 0x40; ++id) {
    const bool config = id == 0x06 || (id >= 0x08 && id <= 0x0a);
    const bool access = id == 0x0b || (id >= 0x10 && id <= 0x13);
    const fl_event s1{{id, 0, 0, 0}};
    const fl_event s2{{id, 1ULL << 39U, 0, 0}};
    EXPECT_EQ(config || access, fl_ring2_due(&s1)) << id;
    EXPECT_EQ(config, fl_ring2_due(&s2)) << id;
  }
}

TEST_F(ModelRing2, APollingReaderSeesEveryRecordOrItsLoss) {
  constexpr std::uint64_t kFaults = 20000;
  std::uint64_t seen = 0, gaps = 0;
  std::thread reader([&] {
    std::uint64_t next = 0, sequence = 0;
    while (seen + gaps < kFaults) {
      const std::uint64_t end = load_acquire(prod);
      if (next == end) {
        // Loss after the last record shows only in the counter.
        if (load_acquire(lost) + end == kFaults) gaps = load_acquire(lost);
        std::this_thread::yield();
        continue;
      }
      for (; next != end; ++next) {
        uapi::vfio_fault_record2 r{};
        copy_from_shared(&r, &records.at(next % kEntries), sizeof r);
        if (r.event[1] != r.sequence || r.event[3] != r.sequence + 2) std::abort();
        if (r.sequence < sequence) std::abort();
        gaps += r.sequence - sequence;
        sequence = r.sequence + 1;
        ++seen;
      }
      store_release(cons, next);
    }
  });
  std::uint64_t pushed = 0;
  for (std::uint64_t i = 0; i < kFaults; ++i) {
    pushed += push(i) == 0 ? 1 : 0;
    if (i % 16 == 0) std::this_thread::yield();
  }
  reader.join();
  EXPECT_EQ(pushed, seen);
  EXPECT_EQ(kFaults - pushed, gaps);
}

}  // namespace
}  // namespace faultline::test
