// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <memory>
#include <vector>

#include "apps/guest/trace.h"
#include "apps/live/command_tap.h"
#include "apps/live/event_tap.h"
#include "kernel/base/shared.h"

namespace faultline::live {
namespace {

constexpr std::uint64_t kBase = 0x4000'0000;
constexpr std::size_t kBytes = 4U << 20;
constexpr std::uint64_t kQueue = kBase + 0x10000;
constexpr unsigned kLog2 = 4;

class Taps : public testing::Test {
 protected:
  Taps() : bytes_(new std::uint64_t[kBytes / 8]()) {}

  GuestView view() {
    return {reinterpret_cast<std::byte*>(bytes_.get()), kBytes, Gpa{kBase},
            Gpa{kBase + kBytes - guest::reg::kPageBytes}};
  }
  void reg32(std::size_t at, std::uint32_t value) {
    std::memcpy(view().at(view().registers.value + at, 4), &value, 4);
  }
  void reg64(std::size_t at, std::uint64_t value) {
    std::memcpy(view().at(view().registers.value + at, 8), &value, 8);
  }
  void enable() {
    reg64(guest::reg::kCmdqBase, kQueue | kLog2);
    reg64(guest::reg::kEvtqBase, (kQueue + 0x10000) | kLog2);
    reg32(guest::reg::kCr0Ack, guest::reg::kCr0CmdqEn | guest::reg::kCr0EvtqEn);
  }
  void command(unsigned slot, guest::Command c) {
    std::memcpy(view().at(kQueue + 16 * slot, 16), c.word, 16);
  }
  void event(unsigned slot, std::uint64_t iova) {
    const std::uint64_t words[4] = {0x10 | 0x18ULL << 32, 0, iova, 0};
    std::memcpy(view().at(kQueue + 0x10000 + 32 * slot, 32), words, 32);
  }

 private:
  std::unique_ptr<std::uint64_t[]> bytes_;
};

TEST_F(Taps, ASyncWhoseMsiOverwroteItIsStillASync) {
  CommandTap tap(view(), true);
  EXPECT_EQ(tap.poll(1), 0U) << "the queue is off";
  enable();
  command(0, guest::tlbi_asid(7));
  command(1, {{0, kQueue + 16}});  // its first word is gone, its address is its own slot's
  reg32(guest::reg::kCmdqProd, 2);
  EXPECT_EQ(tap.poll(2), 2U);
  EXPECT_EQ(tap.counts().invalidations, 1U);
  EXPECT_EQ(tap.counts().syncs, 1U);
  EXPECT_EQ(tap.counts().syncs_completed, 0U);
  EXPECT_EQ(tap.trace().commands[1].opcode(), guest::op::kSync);
  reg32(guest::reg::kCmdqCons, 2);
  tap.poll(3);
  EXPECT_EQ(tap.counts().syncs_completed, 1U);
}

TEST_F(Taps, EveryCommandIsCountedOnceOverManyLaps) {
  CommandTap tap(view(), false);
  enable();
  std::uint32_t index = 0;
  for (unsigned n = 0; n < 200; ++n) {
    for (unsigned i = 0; i < 3; ++i, ++index) {
      command(index % 16, i == 2 ? guest::Command{{guest::op::kSync, 0}} : guest::tlbi_asid(1));
    }
    reg32(guest::reg::kCmdqProd, index % 32);
    tap.poll(n);
    reg32(guest::reg::kCmdqCons, index % 32);
    tap.poll(n);
  }
  EXPECT_EQ(tap.counts().commands, 600U);
  EXPECT_EQ(tap.counts().syncs, 200U);
  EXPECT_EQ(tap.counts().syncs_completed, 200U);
}

TEST_F(Taps, WhatWasRecordedIsReadBackAsItWas) {
  CommandTap tap(view(), true);
  enable();
  command(0, guest::tlbi_asid(3));
  command(1, {{guest::op::kSync, 0}});
  reg32(guest::reg::kCmdqProd, 2);
  tap.poll(100);
  command(2, {{guest::op::kIllegal, 0}});
  reg32(guest::reg::kCmdqProd, 3);
  tap.poll(150);
  const std::string path = testing::TempDir() + "live-tap";
  ASSERT_TRUE(guest::write_trace(path, tap.trace()).has_value());
  const auto read = guest::read_trace(path);
  ASSERT_TRUE(read.has_value()) << read.error().message();
  ASSERT_EQ(read->commands.size(), 3U);
  EXPECT_EQ(read->commands[0], guest::tlbi_asid(3));
  EXPECT_EQ(read->commands[2].opcode(), guest::op::kSync) << "as the driver replaces it";
  ASSERT_EQ(read->doorbells.size(), 2U);
  EXPECT_EQ(read->doorbells[1].at, 50U);
  for (const char* end : {".cmdq", ".db", ".json"}) std::filesystem::remove(path + end);
}

TEST_F(Taps, AQueueOutsideOfMemoryIsLeftAlone) {
  CommandTap tap(view(), false);
  enable();
  reg64(guest::reg::kCmdqBase, 0x9000'0000 | kLog2);
  reg32(guest::reg::kCmdqProd, 5);
  EXPECT_EQ(tap.poll(1), 0U);
  EXPECT_FALSE(tap.spoil(0));
}

class EventTaps : public Taps {
 protected:
  static constexpr std::uint32_t kEntries = 64;
  EventTaps() : ledger_(new std::byte[soft::kLedgerEntriesAt + kEntries * 80]()) {
    soft::ledger_header(ledger_.get()).entries = kEntries;
  }
  void produced(std::uint64_t iova) {
    soft::LedgerHeader& header = soft::ledger_header(ledger_.get());
    soft::LedgerEntry e;
    e.index = header.prod;
    e.event[0] = 0x10 | 0x4008ULL << 32;
    e.event[2] = iova;
    e.outcome = soft::LedgerOutcome::kProduced;
    e.abi = 2;
    soft::ledger_entries(ledger_.get())[header.prod % kEntries] = e;
    ++header.prod;
  }
  struct Free {
    void operator()(std::byte* p) const { delete[] p; }
  };
  std::unique_ptr<std::byte, Free> ledger_;
};

TEST_F(EventTaps, AnEventIsDeliveredWhenTheDriverHasPassedIt) {
  EventTap tap(view(), {StreamId{0x18}}, {ledger_.get()});
  enable();
  tap.poll(1);
  produced(0x1000);
  event(0, 0x1000);
  reg32(guest::reg::kEvtqProd, 1);
  tap.poll(2);
  EXPECT_EQ(tap.counts().delivered, 0U);
  EXPECT_EQ(tap.pending(), 1U);
  reg32(guest::reg::kEvtqCons, 1);
  tap.poll(3);
  EXPECT_EQ(tap.counts().produced, 1U);
  EXPECT_EQ(tap.counts().delivered, 1U);
}

TEST_F(EventTaps, AnEventThatNeverComesIsLostInSilence) {
  EventTap tap(view(), {StreamId{0x18}}, {ledger_.get()});
  enable();
  tap.poll(1);
  produced(0x1000);
  tap.poll(2);
  tap.finish();
  EXPECT_EQ(tap.counts().lost_silent, 1U);
}

TEST_F(EventTaps, WhatAResetLeftUnreadIsVoidAndNotLost) {
  EventTap tap(view(), {StreamId{0x18}}, {ledger_.get()});
  enable();
  tap.poll(1);
  produced(0x1000);
  event(0, 0x1000);
  reg32(guest::reg::kEvtqProd, 1);
  tap.poll(2);
  tap.restart();
  EXPECT_EQ(tap.voided(), 1U);
  EXPECT_EQ(tap.counts().produced, 1U);
  EXPECT_EQ(tap.counts().delivered, 0U);
  EXPECT_EQ(tap.counts().lost_silent, 0U);
}

}  // namespace
}  // namespace faultline::live
