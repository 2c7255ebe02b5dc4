// SPDX-License-Identifier: BSD-3-Clause
#include "apps/guest/guest_audit.h"

#include <gtest/gtest.h>

namespace faultline::guest {
namespace {

using soft::LedgerEntry;
using soft::LedgerOutcome;

constexpr std::uint32_t kHostSid[] = {0x11, 0x22};
constexpr std::uint32_t kGuestSid[] = {0x208, 0x210};

// Two devices, an event queue of 8; faults are told apart by their address.
class GuestAuditTest : public testing::Test {
 protected:
  static void words(std::uint64_t (&to)[4], std::uint32_t sid, std::uint64_t address) {
    to[0] = 0x10 | std::uint64_t{sid} << 32;
    to[1] = 1ULL << 35 | 2ULL << 40;
    to[2] = address;
    to[3] = 0;
  }
  void raise(std::size_t device, std::uint64_t address,
             LedgerOutcome outcome = LedgerOutcome::kProduced, std::uint16_t abi = 2) {
    LedgerEntry e;
    e.timestamp_ns = ++now;
    words(e.event, kHostSid[device], address);
    e.outcome = outcome;
    e.abi = abi;
    audit.ledger(device, e);
  }
  Observation event(std::size_t device, std::uint64_t address) {
    Observation o;
    o.consumed = consumed++;
    o.at = ++now;
    words(o.words, kGuestSid[device], address);
    return o;
  }
  void read(std::size_t device, std::uint64_t address) {
    audit.observed(event(device, address));
    audit.settle(now);
  }
  void overflow_seen() {
    Observation o;
    o.kind = Observation::Kind::kOverflowSeen;
    o.consumed = consumed;
    audit.observed(o);
  }
  void overflow_acked() {
    Observation o;
    o.kind = Observation::Kind::kOverflowAcked;
    o.consumed = consumed;
    audit.observed(o);
  }
  FaultCounts finish() {
    // Something later in both ledgers, so that nothing waits.
    audit.settle(now + 3 * GuestAudit::kGrace);
    audit.finish();
    const FaultCounts& c = audit.counts();
    EXPECT_EQ(c.produced, c.delivered + c.lost_reported + c.lost_silent);
    return c;
  }
  GuestAudit audit{{StreamId{kGuestSid[0]}, StreamId{kGuestSid[1]}}, 8};
  std::uint64_t consumed = 0;
  Nanos now = 1000;
};

TEST_F(GuestAuditTest, FindsNothingWrongWithAPerfectRun) {
  for (std::uint64_t i = 0; i < 100; ++i) raise(i % 2, i);
  for (std::uint64_t i = 0; i < 100; i += 2) read(0, i);
  for (std::uint64_t i = 1; i < 100; i += 2) read(1, i);
  const FaultCounts c = finish();
  EXPECT_EQ(c.produced, 100U);
  EXPECT_EQ(c.delivered, 100U);
  EXPECT_EQ(c.lost_reported + c.lost_silent + c.misdelivered + c.duplicated, 0U);
  EXPECT_EQ(audit.latency().count(), 100U);
}

TEST_F(GuestAuditTest, DeliversIdenticalFaultsOneByOne) {
  for (int i = 0; i < 5; ++i) raise(0, 0x1000);
  for (int i = 0; i < 5; ++i) read(0, 0x1000);
  EXPECT_EQ(finish().delivered, 5U);
}

TEST_F(GuestAuditTest, CountsALostFaultThatNobodyReported) {
  raise(0, 1);
  raise(0, 2);
  raise(0, 3);
  read(0, 1);
  read(0, 3);
  const FaultCounts c = finish();
  EXPECT_EQ(c.delivered, 2U);
  EXPECT_EQ(c.lost_silent, 1U);
}

TEST_F(GuestAuditTest, CountsWhatWasNeverReadAsLost) {
  raise(0, 1);
  raise(1, 2);
  read(0, 1);
  EXPECT_EQ(audit.pending(), 1U);
  EXPECT_EQ(finish().lost_silent, 1U);
}

TEST_F(GuestAuditTest, ExcusesALossThatTheGuestSawBeforeTheNextEvent) {
  raise(0, 1);
  raise(0, 2);
  raise(0, 3);
  read(0, 1);
  overflow_seen();
  read(0, 3);
  overflow_acked();
  const FaultCounts c = finish();
  EXPECT_EQ(c.lost_reported, 1U);
  EXPECT_EQ(c.lost_silent, 0U);
}

TEST_F(GuestAuditTest, DoesNotExcuseALossByALaterOverflow) {
  raise(0, 1);
  raise(0, 2);
  raise(0, 3);
  read(0, 1);
  read(0, 3);
  overflow_seen();
  overflow_acked();
  EXPECT_EQ(finish().lost_silent, 1U);
}

TEST_F(GuestAuditTest, DoesNotExcuseALossByAnOverflowLongAcknowledged) {
  overflow_seen();
  overflow_acked();
  for (std::uint64_t i = 0; i < 100; ++i) raise(0, i);
  for (std::uint64_t i = 0; i < 100; ++i) {
    if (i != 50) read(0, i);
  }
  EXPECT_EQ(finish().lost_silent, 1U);
}

TEST_F(GuestAuditTest, ExcusesALossWhileAnEarlierOverflowIsUnacknowledged) {
  raise(0, 1);
  raise(0, 2);
  raise(0, 3);
  overflow_seen();
  read(0, 1);
  read(0, 3);
  EXPECT_EQ(finish().lost_reported, 1U);
}

TEST_F(GuestAuditTest, ExcusesWhatTheKernelDroppedAtTheEndByAnOverflow) {
  raise(0, 1);
  raise(0, 2, LedgerOutcome::kDroppedFull);
  raise(0, 3, LedgerOutcome::kDroppedFull);
  read(0, 1);
  overflow_seen();
  const FaultCounts c = finish();
  EXPECT_EQ(c.dropped, 2U);
  EXPECT_EQ(c.lost_reported, 2U);
}

TEST_F(GuestAuditTest, HoldsTheKernelsDropsAgainstAnEngineThatDoesNotReportThem) {
  raise(0, 1);
  raise(0, 2, LedgerOutcome::kDroppedFull);
  raise(0, 3);
  read(0, 1);
  read(0, 3);
  EXPECT_EQ(finish().lost_silent, 1U);
}

TEST_F(GuestAuditTest, CountsADuplicate) {
  raise(0, 1);
  raise(0, 2);
  read(0, 1);
  read(0, 1);
  raise(0, 3);  // the ledger is past the second reading
  read(0, 2);
  read(0, 3);
  const FaultCounts c = finish();
  EXPECT_EQ(c.duplicated, 1U);
  EXPECT_EQ(c.delivered, 3U);
  EXPECT_EQ(c.lost_silent, 0U);
}

TEST_F(GuestAuditTest, CountsTwoSwappedEventsAsOneLostAndOneOutOfOrder) {
  raise(0, 1);
  raise(0, 2);
  read(0, 2);
  read(0, 1);
  raise(0, 3);
  read(0, 3);
  const FaultCounts c = finish();
  EXPECT_EQ(c.lost_silent, 1U);
  EXPECT_EQ(c.misdelivered, 1U);
  EXPECT_EQ(c.delivered, 2U);
}

TEST_F(GuestAuditTest, CountsAnEventOfAnotherGuestsDevice) {
  Observation o = event(0, 1);
  o.words[0] = 0x10 | 0x999ULL << 32;
  audit.observed(o);
  audit.settle(now);
  EXPECT_EQ(finish().misdelivered, 1U);
}

TEST_F(GuestAuditTest, CountsAnEventGivenToTheWrongDevice) {
  raise(0, 1);
  read(1, 1);
  const FaultCounts c = finish();
  EXPECT_EQ(c.misdelivered, 1U);
  EXPECT_EQ(c.lost_silent, 1U);
}

class WrongField : public GuestAuditTest, public testing::WithParamInterface<int> {};

TEST_P(WrongField, IsNoDelivery) {
  raise(0, 0x5000);
  Observation o = event(0, 0x5000);
  const int bit = GetParam();
  o.words[bit / 64] ^= 1ULL << bit % 64;
  audit.observed(o);
  const FaultCounts c = finish();
  EXPECT_EQ(c.delivered, 0U);
  EXPECT_EQ(c.misdelivered, 1U);
  EXPECT_EQ(c.lost_silent, 1U);
}
// Type, SSV, SubstreamID; STAG, PnU, InD, RnW, S2, CLASS; address; last word.
INSTANTIATE_TEST_SUITE_P(Bits, WrongField,
                         testing::Values(0, 3, 11, 12, 64, 64 + 33, 64 + 34, 64 + 35, 64 + 39,
                                         64 + 40, 128 + 3, 128 + 12, 192 + 12));

TEST_F(GuestAuditTest, HoldsVersion1OnlyToWhatItCarries) {
  raise(0, 1, LedgerOutcome::kProduced, 1);
  raise(0, 2, LedgerOutcome::kProduced, 1);
  Observation o = event(0, 1);
  o.words[1] ^= 3ULL << 40;  // CLASS
  audit.observed(o);
  o = event(0, 2);
  o.words[1] ^= 1ULL << 35;  // RnW
  audit.observed(o);
  const FaultCounts c = finish();
  EXPECT_EQ(c.delivered, 1U);
  EXPECT_EQ(c.misdelivered, 1U);
}

TEST(TypelessGuestAudit, ExpectsEveryEventAsATranslationFault) {
  GuestAudit audit({StreamId{kGuestSid[0]}}, 8, true);
  LedgerEntry e;
  e.timestamp_ns = 1;
  e.event[0] = 0x13 | std::uint64_t{kHostSid[0]} << 32;
  e.outcome = LedgerOutcome::kProduced;
  e.abi = 1;
  audit.ledger(0, e);
  Observation o;
  o.at = 2;
  o.words[0] = 0x10 | std::uint64_t{kGuestSid[0]} << 32;
  audit.observed(o);
  audit.settle(3);
  EXPECT_EQ(audit.counts().delivered, 1U);
}

TEST_F(GuestAuditTest, WaitsForALedgerEntryThatComesAfterItsEvent) {
  audit.observed(event(0, 1));
  audit.settle(now);
  EXPECT_EQ(audit.waiting(), 1U);
  LedgerEntry e;
  e.timestamp_ns = now - 1;
  words(e.event, kHostSid[0], 1);
  e.outcome = LedgerOutcome::kProduced;
  e.abi = 2;
  audit.ledger(0, e);
  audit.settle(now);
  EXPECT_EQ(audit.waiting(), 0U);
  EXPECT_EQ(finish().delivered, 1U);
}

}  // namespace
}  // namespace faultline::guest
