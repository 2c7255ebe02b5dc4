// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/model/fl_ring1.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <span>
#include <vector>

#include "kernel/model/fl_fault.h"
#include "kernel/uapi/vfio_nested.h"

namespace faultline::test {
namespace {

static_assert(sizeof(fl_record1) == sizeof(uapi::iommu_fault));
static_assert(FL_RING1_RECORD_SIZE == sizeof(uapi::iommu_fault));

fl_event make_event(std::uint8_t id, std::uint8_t access = 0, bool ssv = false,
                    std::uint32_t ssid = 0, bool s2 = false, std::uint64_t addr2 = 0) {
  const fl_origin origin{
      .iova = 0x0000'1122'3344'5566, .sid = 0x42, .ssid = ssid, .ssv = ssv, .access = access};
  const fl_fault fault{.id = id, .class_ = FL_CLASS_IN, .s2 = s2, .addr2 = addr2};
  fl_event e{};
  fl_event_fill(&origin, &fault, &e);
  return e;
}

// ---- records
// -------------------------------------------------------------------------------------------

/// The record's bytes as a reader of the mapped queue finds them.
std::array<std::uint8_t, 48> bytes_of(const fl_event& event, std::uint32_t quirks) {
  std::uint32_t prod = 0;
  std::array<std::uint64_t, 85 * 6> queue{};
  const fl_ring1 ring{.prod = &prod, .queue = queue.data(), .nb = 85, .quirks = quirks};
  fl_record1 record{};
  EXPECT_TRUE(fl_record1_from_event(&event, quirks, &record));
  EXPECT_EQ(0, fl_ring1_push(&ring, 0, &record));
  std::array<std::uint8_t, 48> bytes{};
  std::memcpy(bytes.data(), queue.data(), bytes.size());
  return bytes;
}

TEST(ModelRecord1, TranslationFaultHasTheSeedsBytes) {
  const auto event = make_event(0x10, FL_ACCESS_WRITE | FL_ACCESS_PRIV, true, 0x54321);
  std::array<std::uint8_t, 48> golden = {
      1,    0,    0,    0,    0,    0,    0, 0,  // type DMA_UNRECOV
      5,    0,    0,    0,    7,    0,    0, 0,  // PTE_FETCH; PASID, PERM, ADDR valid
      0x21, 0x43, 5,    0,    5,    0,    0, 0,  // pasid; WRITE, PRIV
      0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
  };
  EXPECT_EQ(golden, bytes_of(event, 0));
  golden[8] = 0;  // v7 never stored the reason
  EXPECT_EQ(golden, bytes_of(event, FL_QUIRKS_V7));
}

TEST(ModelRecord1, WalkAbortHasTheFetchAddress) {
  const auto event = make_event(0x0b, FL_ACCESS_EXEC, false, 0, false, 0x0000'00ab'cdef'0128);
  std::
      array<std::uint8_t, 48>
          golden =
              {
                  1,    0,    0,    0,    0,    0,    0, 0, 4,    0,    0,    0,
                  0xe,  0,    0,    0,  // WALK_EABT; PERM, ADDR, FETCH_ADDR valid
                  0,    0,    0,    0,    2,    0,    0, 0,  // EXEC
                  0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0, 0, 0x28, 0x01, 0xef, 0xcd,
                  0xab, 0,    0,    0,    0,    0,    0, 0, 0,    0,    0,    0,
              };
  EXPECT_EQ(golden, bytes_of(event, 0));
  golden[8] = 0;
  const std::uint64_t shifted = 0x0000'00ab'cdef'0128 >> 3U;
  std::memcpy(&golden[32], &shifted, 8);
  EXPECT_EQ(golden, bytes_of(event, FL_QUIRKS_V7));
}

TEST(ModelRecord1, BadSubstreamKeepsItsPasidUnlessV7LosesIt) {
  const auto event = make_event(0x08, 0, true, 0x77);
  EXPECT_FALSE(fl_event_ssv(&event));  // this kind has no qualifier
  std::array<std::uint8_t, 48> golden{};
  golden[0] = 1;
  golden[8] = 3;
  golden[12] = 1;
  golden[16] = 0x77;
  EXPECT_EQ(golden, bytes_of(event, 0));
  golden[8] = golden[12] = golden[16] = 0;
  EXPECT_EQ(golden, bytes_of(event, FL_QUIRKS_V7));
}

TEST(ModelRecord1, EachReasonIsTheOneOfItsEvent) {
  const std::pair<std::uint8_t, std::uint32_t> reasons[] = {
      {0x08, 3}, {0x09, 1}, {0x0a, 2}, {0x0b, 4}, {0x10, 5}, {0x11, 8}, {0x12, 7}, {0x13, 6}};
  for (const auto& [id, reason] : reasons) {
    const auto event = make_event(id);
    fl_record1 record{};
    ASSERT_TRUE(fl_record1_from_event(&event, 0, &record)) << +id;
    EXPECT_EQ(reason, record.reason) << +id;
    EXPECT_EQ(1U, record.type);
    ASSERT_TRUE(fl_record1_from_event(&event, FL_QUIRK_REASON_ZERO, &record));
    EXPECT_EQ(0U, record.reason);
  }
}

TEST(ModelRecord1, ConfigurationEventsCarryNeitherAddressNorRights) {
  for (const std::uint8_t id : {0x08, 0x09, 0x0a}) {
    const auto event = make_event(id, FL_ACCESS_WRITE, true, 9, false, 0x1000);
    fl_record1 record{};
    ASSERT_TRUE(fl_record1_from_event(&event, 0, &record));
    EXPECT_EQ(0U, record.flags & (FL_RECORD1_ADDR_VALID | FL_RECORD1_PERM_VALID)) << +id;
    EXPECT_EQ(0U, record.addr);
    EXPECT_EQ(0U, record.perm);
    EXPECT_EQ(9U, record.pasid);
    EXPECT_EQ(id == 0x09, (record.flags & FL_RECORD1_FETCH_ADDR_VALID) != 0);
  }
}

TEST(ModelRecord1, StageTwoFaultsAndOtherEventsAreNotTold) {
  fl_record1 record{};
  for (unsigned id = 0; id < 0x40; ++id) {
    const bool due = (id >= 0x08 && id <= 0x0b) || (id >= 0x10 && id <= 0x13);
    auto event = make_event(static_cast<std::uint8_t>(id));
    EXPECT_EQ(due, fl_record1_from_event(&event, FL_QUIRKS_V7, &record)) << id;
    event.w[1] |= 1ULL << 39U;
    EXPECT_EQ(due && id < 0x0b, fl_record1_from_event(&event, 0, &record)) << id;
  }
}

// ---- the ring's space
// ------------------------------------------------------------------------------------

/// Faults an idle consumer's ring takes before the first one is dropped.
unsigned until_first_drop(std::uint32_t start, std::uint32_t nb, bool masked) {
  std::uint32_t prod = start;
  unsigned n = 0;
  while (!fl_ring1_full(prod, start, nb, masked)) {
    prod = (prod + 1) % nb;
    ++n;
  }
  return n;
}

TEST(ModelRing1, DocumentedRuleLeavesExactlyOneSlotEmpty) {
  for (std::uint32_t start = 0; start < 85; ++start)
    EXPECT_EQ(84U, until_first_drop(start, 85, false));
}

TEST(ModelRing1, MaskedRuleIsFullTooEarlyInTheKnownStates) {
  for (const auto& [nb, states] : {std::pair<std::uint32_t, unsigned>{85, 916}, {1365, 64076}}) {
    unsigned early = 0;
    for (std::uint32_t prod = 0; prod < nb; ++prod)
      for (std::uint32_t cons = 0; cons < nb; ++cons) {
        const bool truly = fl_ring1_full(prod, cons, nb, false);
        const bool masked = fl_ring1_full(prod, cons, nb, true);
        ASSERT_TRUE(!truly || masked) << "would overwrite";
        if (!masked || truly) continue;
        ++early;
        ASSERT_LT(prod, cons);
        if (nb != 85) continue;
        const unsigned space = cons - prod - 1;
        ASSERT_TRUE((space >= 1 && space <= 3) || (space >= 8 && space <= 11) ||
                    (space >= 32 && space <= 35) || (space >= 40 && space <= 43))
            << space;
      }
    EXPECT_EQ(states, early) << nb;
  }
}

TEST(ModelRing1, MaskedRuleDropsFirstAfter41To84Faults) {
  for (const auto& [nb, least, mean] :
       {std::tuple<std::uint32_t, unsigned, double>{85, 41, 55.3}, {1365, 681, 901.0}}) {
    unsigned low = ~0U, high = 0;
    std::uint64_t sum = 0;
    for (std::uint32_t start = 0; start < nb; ++start) {
      const unsigned n = until_first_drop(start, nb, true);
      low = std::min(low, n);
      high = std::max(high, n);
      sum += n;
    }
    EXPECT_EQ(nb - 1, until_first_drop(0, nb, true));
    EXPECT_EQ(least, low);
    EXPECT_EQ(nb - 1, high);
    EXPECT_NEAR(mean, static_cast<double>(sum) / nb, 0.05);
  }
}

TEST(ModelRing1, FillsToTheLastSlotAndWrapsWithoutTouchingUnreadRecords) {
  std::uint32_t prod = 0;
  std::array<std::uint64_t, 85 * 6> queue{};
  const fl_ring1 ring{.prod = &prod, .queue = queue.data(), .nb = 85, .quirks = 0};
  std::uint32_t cons = 0;
  std::uint64_t written = 0, read = 0;
  fl_record1 record{};
  record.type = 1;
  for (int round = 0; round < 400; ++round) {
    for (int i = 0; i < round % 90; ++i) {
      record.addr = written;
      const int err = fl_ring1_push(&ring, cons, &record);
      ASSERT_EQ(written - read == 84 ? -FL_ENOSPC : 0, err);
      if (err == 0) ++written;
      ASSERT_EQ(written % 85, prod);
    }
    for (int i = 0; i < (round * 7) % 60 && read < written; ++i) {
      ASSERT_EQ(read, queue[6 * cons + 3]);
      cons = (cons + 1) % 85;
      ++read;
    }
  }
  EXPECT_GT(written, 85U * 20);
}

}  // namespace
}  // namespace faultline::test
