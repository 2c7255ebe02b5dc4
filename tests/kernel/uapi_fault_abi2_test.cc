// SPDX-License-Identifier: BSD-3-Clause
// doc/fault-abi-2.md in numbers. The header is C as well, so its asserts are here.
#include "kernel/uapi/fault_abi2.h"

#include <gtest/gtest.h>

#include <cstring>

#include "kernel/model/fl_ring2.h"
#include "kernel/uapi/abi.h"
#include "kernel/uapi/vfio_nested.h"

namespace faultline::uapi {
namespace {

ABI_STRUCT(vfio_region_fault_prod2, 128);
ABI_FIELD(vfio_region_fault_prod2, version, 0, 4);
ABI_FIELD(vfio_region_fault_prod2, nb_entries, 4, 4);
ABI_FIELD(vfio_region_fault_prod2, entry_size, 8, 4);
ABI_FIELD(vfio_region_fault_prod2, offset, 12, 4);
ABI_FIELD(vfio_region_fault_prod2, prod32, 16, 4);
ABI_FIELD(vfio_region_fault_prod2, reserved0, 20, 4);
ABI_FIELD(vfio_region_fault_prod2, reserved1, 24, 40);
ABI_FIELD(vfio_region_fault_prod2, prod, 64, 8);
ABI_FIELD(vfio_region_fault_prod2, lost, 72, 8);
ABI_FIELD(vfio_region_fault_prod2, reserved2, 80, 48);

ABI_STRUCT(vfio_region_fault_cons2, 128);
ABI_FIELD(vfio_region_fault_cons2, version, 0, 4);
ABI_FIELD(vfio_region_fault_cons2, cons32, 4, 4);
ABI_FIELD(vfio_region_fault_cons2, reserved, 8, 56);
ABI_FIELD(vfio_region_fault_cons2, cons, 64, 8);
ABI_FIELD(vfio_region_fault_cons2, reserved2, 72, 56);

ABI_STRUCT(vfio_fault_record2, 64);
ABI_FIELD(vfio_fault_record2, sequence, 0, 8);
ABI_FIELD(vfio_fault_record2, timestamp_ns, 8, 8);
ABI_FIELD(vfio_fault_record2, event, 16, 32);
ABI_FIELD(vfio_fault_record2, flags, 48, 4);
ABI_FIELD(vfio_fault_record2, reserved0, 52, 4);
ABI_FIELD(vfio_fault_record2, reserved1, 56, 8);

TEST(UapiFaultAbi2, BeginsWithVersion1sHeader) {
  EXPECT_EQ(offsetof(vfio_region_fault_prod2, version), offsetof(vfio_region_fault_prod, version));
  EXPECT_EQ(offsetof(vfio_region_fault_prod2, nb_entries),
            offsetof(vfio_region_fault_prod, nb_entries));
  EXPECT_EQ(offsetof(vfio_region_fault_prod2, entry_size),
            offsetof(vfio_region_fault_prod, entry_size));
  EXPECT_EQ(offsetof(vfio_region_fault_prod2, offset), offsetof(vfio_region_fault_prod, offset));
  EXPECT_EQ(offsetof(vfio_region_fault_prod2, prod32), offsetof(vfio_region_fault_prod, prod));
  EXPECT_EQ(offsetof(vfio_region_fault_cons2, cons32), offsetof(vfio_region_fault_cons, cons));
}

TEST(UapiFaultAbi2, GivesThePolledWordsALineOfTheirOwn) {
  EXPECT_EQ(offsetof(vfio_region_fault_prod2, prod) % 64, 0U);
  EXPECT_EQ(offsetof(vfio_region_fault_prod2, lost) / 64,
            offsetof(vfio_region_fault_prod2, prod) / 64);
  EXPECT_EQ(offsetof(vfio_region_fault_cons2, cons) % 64, 0U);
  EXPECT_EQ(sizeof(vfio_fault_record2), 64U);
}

TEST(UapiFaultAbi2, IsWhatTheModelProduces) {
  alignas(64) vfio_region_fault_prod2 header{};
  alignas(64) vfio_region_fault_cons2 cons{};
  alignas(64) vfio_fault_record2 slots[2] = {};
  fl_ring2 ring{.prod = &header.prod,
                .lost = &header.lost,
                .cons = &cons.cons,
                .queue = &slots[0].sequence,
                .nb = 2,
                .next = 0,
                .nr_lost = 0,
                .good_cons = 0,
                .bad_cons = 0};
  EXPECT_EQ(FL_RING2_RECORD_SIZE, sizeof(vfio_fault_record2));
  EXPECT_EQ(FL_RING2_PROD_OFFSET, offsetof(vfio_region_fault_prod2, prod));
  EXPECT_EQ(FL_RING2_LOST_OFFSET, offsetof(vfio_region_fault_prod2, lost));
  EXPECT_EQ(FL_RING2_CONS_OFFSET, offsetof(vfio_region_fault_cons2, cons));
  const fl_event event{{0x10, 0x20, 0x30, 0x40}};
  EXPECT_EQ(fl_ring2_push(&ring, &event, 111), 0);
  EXPECT_EQ(fl_ring2_push(&ring, &event, 222), 0);  // every slot is used
  EXPECT_NE(fl_ring2_push(&ring, &event, 333), 0);
  EXPECT_EQ(header.prod, 2U);
  EXPECT_EQ(header.lost, 1U);
  cons.cons = 1;
  EXPECT_EQ(fl_ring2_push(&ring, &event, 444), 0);
  EXPECT_EQ(slots[0].sequence, 3U);  // record 2, one lost before it
  EXPECT_EQ(slots[0].timestamp_ns, 444U);
  EXPECT_EQ(slots[0].event[3], 0x40U);
  EXPECT_EQ(slots[0].flags, 0U);
}

}  // namespace
}  // namespace faultline::uapi
