// SPDX-License-Identifier: BSD-3-Clause
#include "engine/viommu/transcode.h"

#include <gtest/gtest.h>

#include "kernel/model/fl_fault.h"
#include "kernel/model/fl_ring1.h"
#include "tests/engine/viommu_memory.h"

namespace faultline::viommu {
namespace {

/// The record as a version 1 consumer decodes it.
FaultRecord decode(const fl_record1& raw) {
  FaultRecord r;
  r.form = FaultRecord::Form::kReason;
  r.reason = static_cast<FaultReason>(raw.reason);
  r.perm = static_cast<std::uint8_t>(raw.perm);
  r.has_pasid = (raw.flags & 1) != 0;
  r.has_perm = (raw.flags & 2) != 0;
  r.has_addr = (raw.flags & 4) != 0;
  r.has_fetch_addr = (raw.flags & 8) != 0;
  r.pasid = raw.pasid;
  r.addr = raw.addr;
  r.fetch_addr = raw.fetch_addr;
  return r;
}

constexpr StreamId kVsid{0x77};

fl_event random_event(std::mt19937_64& random) {
  constexpr std::uint8_t kIds[] = {0x08, 0x09, 0x0a, 0x0b, 0x10, 0x11, 0x12, 0x13};
  fl_origin origin{};
  origin.iova = random();
  origin.sid = static_cast<std::uint32_t>(random());
  origin.ssid = static_cast<std::uint32_t>(random()) & 0xfffff;
  origin.ssv = random() % 2 != 0;
  origin.access = static_cast<std::uint8_t>(random() % 8);
  fl_fault fault{};
  fault.id = kIds[random() % std::size(kIds)];
  fault.class_ = fault.id == 0x0b ? FL_CLASS_TT : FL_CLASS_IN;
  if (fault.id == 0x09 || fault.id == 0x0b) fault.addr2 = random();
  fl_event event{};
  fl_event_fill(&origin, &fault, &event);
  return event;
}

TEST(ViommuTranscode, GivesBackExactlyTheEventThatADocumentedRecordWasMadeOf) {
  auto random = test::seeded(0x1e57);
  TranscodeCounts counts;
  for (int i = 0; i < 100'000; ++i) {
    const fl_event event = random_event(random);
    fl_record1 record{};
    ASSERT_TRUE(fl_record1_from_event(&event, 0, &record));
    Event got;
    ASSERT_TRUE(transcode(decode(record), kVsid, got, counts));
    Event want{{event.w[0], event.w[1], event.w[2], event.w[3]}};
    want.word[0] = (want.word[0] & 0xffff'ffff) | std::uint64_t{kVsid.value} << 32;
    ASSERT_EQ(got, want) << std::hex << event.w[0] << ' ' << event.w[1];
  }
  EXPECT_EQ(counts.guessed + counts.unknown + counts.malformed, 0U);
}

TEST(ViommuTranscode, KeepsEverythingThatAV7RecordKept) {
  auto random = test::seeded(0x0070);
  TranscodeCounts counts;
  for (int i = 0; i < 100'000; ++i) {
    const fl_event event = random_event(random);
    fl_record1 raw{};
    ASSERT_TRUE(fl_record1_from_event(&event, FL_QUIRKS_V7, &raw));
    FaultRecord record = decode(raw);
    record.fetch_addr <<= 3;  // as the backend undoes it
    Event got;
    ASSERT_TRUE(transcode(record, kVsid, got, counts));
    EXPECT_EQ(got.word[0] >> 32, kVsid.value);
    ASSERT_EQ(got.word[1], event.w[1]);
    ASSERT_EQ(got.word[2], event.w[2]);
    ASSERT_EQ(got.word[3], event.w[3]);
    const std::uint8_t id = fl_event_id(&event);
    // The id is inferred from the addresses; within a group the most frequent one is taken.
    const std::uint8_t want = id >= 0x10 ? 0x10 : id == 0x08 ? 0x0a : id;
    ASSERT_EQ(got.word[0] & 0xff, want);
    if (id != 0x08) {
      ASSERT_EQ(got.word[0] & 0xffff'f800, event.w[0] & 0xffff'f800);
    }
  }
  EXPECT_EQ(counts.guessed, 100'000U);
}

TEST(ViommuTranscode, TakesReasonZeroWithAnAddressAsATranslationFault) {
  FaultRecord r;
  r.form = FaultRecord::Form::kReason;
  r.has_addr = r.has_perm = true;
  r.addr = 0xdead'b000;
  r.perm = FaultRecord::kWrite | FaultRecord::kPriv;
  TranscodeCounts counts;
  Event e;
  ASSERT_TRUE(transcode(r, kVsid, e, counts));
  EXPECT_EQ(e.word[0], 0x0000'0077'0000'0010U);
  EXPECT_EQ(e.word[1], 0x0000'0202'0000'0000U);  // CLASS = IN, PnU; RnW clear: a write
  EXPECT_EQ(e.word[2], 0xdead'b000U);
  EXPECT_EQ(e.word[3], 0U);
  EXPECT_EQ(counts.guessed, 1U);
}

TEST(ViommuTranscode, PassesARawEventOnWithTheGuestsStreamId) {
  FaultRecord r;
  r.form = FaultRecord::Form::kRawEvent;
  const std::uint64_t words[] = {0x0000'1234'00ab'c810, 0xffff'ffff'ffff'ffff, 3, 4};
  std::copy(std::begin(words), std::end(words), r.event);
  TranscodeCounts counts;
  Event e;
  ASSERT_TRUE(transcode(r, StreamId{0xffff'fff0}, e, counts));
  EXPECT_EQ(e.word[0], 0xffff'fff0'00ab'c810U);
  for (int i = 1; i < 4; ++i) EXPECT_EQ(e.word[i], words[i]);
}

TEST(ViommuTranscode, CountsWhatBecomesNoEvent) {
  TranscodeCounts counts;
  Event e;
  FaultRecord r;
  r.form = FaultRecord::Form::kMalformed;
  EXPECT_FALSE(transcode(r, kVsid, e, counts));
  r.form = FaultRecord::Form::kPageRequest;
  EXPECT_FALSE(transcode(r, kVsid, e, counts));
  r.form = FaultRecord::Form::kReason;
  r.reason = static_cast<FaultReason>(9);
  EXPECT_FALSE(transcode(r, kVsid, e, counts));
  EXPECT_EQ(counts.malformed, 1U);
  EXPECT_EQ(counts.page_request, 1U);
  EXPECT_EQ(counts.unknown, 1U);
  EXPECT_EQ(counts.guessed, 0U);
}

}  // namespace
}  // namespace faultline::viommu
