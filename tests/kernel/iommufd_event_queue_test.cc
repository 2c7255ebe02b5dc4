// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/iommufd/event_queue.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "kernel/iommufd/sources.h"
#include "tests/kernel/iommufd_files.h"

namespace faultline::iommufd {
namespace {

using Files = faultline::testing::EventFiles;
using Sources = EventSources<Files>;

Sources sources_of(Files& files, std::vector<SourcePosition> positions = {}, bool faults = false) {
  SourceFiles setup;
  setup.devices = {{StreamId{0x10}, 7}, {StreamId{0x20}, 9}};
  setup.veventq = Files::kVeventq;
  setup.fault_queue = faults ? Files::kFaultQueue : -1;
  return *Sources::open(files, setup, WatchChoice::kAuto, positions);
}

/// Everything that there is, as an EventDuty asks for it: device:address, "lost N" before.
std::vector<std::string> drain(Sources& sources) {
  std::vector<std::string> out;
  std::array<FaultRecord, 32> records;
  for (int round = 0; round < 50; ++round) {
    (void)sources.housekeeping(round);
    for (std::size_t i = sources.next_active(0, 2); i < 2; i = sources.next_active(i + 1, 2)) {
      const std::size_t n = sources.poll(i, records);
      for (std::size_t r = 0; r < n; ++r) {
        if (records[r].lost_before != 0) {
          out.push_back("lost " + std::to_string(records[r].lost_before));
        }
        out.push_back(records[r].form == FaultRecord::Form::kMalformed
                          ? "malformed"
                          : std::to_string(i) + ":" + std::to_string(records[r].event[2]));
      }
      const SourceLoss loss = sources.take_loss(i);
      if (loss.exact != 0) out.push_back("lost " + std::to_string(loss.exact));
      if (loss.possible != 0) out.push_back("possibly lost " + std::to_string(loss.possible));
    }
  }
  return out;
}
using Lines = std::vector<std::string>;

TEST(EventSequence, CountsFromTheFirstEventOverTheWrap) {
  EventSequence sequence;
  EXPECT_EQ(sequence.take(0).missing, 0U);
  EXPECT_EQ(sequence.take(3).missing, 2U);
  EventSequence late(uapi::kIommuVeventqLastSequence);
  EXPECT_EQ(late.take(uapi::kIommuVeventqLastSequence).missing, 0U);
  EXPECT_EQ(late.take(1).missing, 1U) << "0 was lost";
  EXPECT_EQ(late.next(), EventSequence::kModulus + 2);
}

TEST(EventSequence, DistrustsNumbersThatGoBackward) {
  EventSequence sequence(10);
  EXPECT_FALSE(sequence.take(8).sane);
  EXPECT_TRUE(sequence.take(9).sane) << "it goes on from there";
  EXPECT_FALSE(sequence.take(0x8000'000a).sane) << "bit 31 does not exist";
}

TEST(EventSources, HandOutEventsInTheKernelsOrderOverAllDevices) {
  Files files;
  auto sources = sources_of(files);
  files.produce(0x10, 1);
  files.produce(0x20, 2);
  files.produce(0x20, 3);
  files.produce(0x10, 4);
  EXPECT_EQ(drain(sources), (Lines{"0:1", "1:2", "1:3", "0:4"}));
  EXPECT_EQ(sources.position(0).next, 4U);
  EXPECT_FALSE(sources.holds());
  EXPECT_EQ(sources.event_stats().reads, 1U);
}

TEST(EventSources, HoldWhatWasReadForAnotherDevice) {
  Files files;
  auto sources = sources_of(files);
  files.produce(0x20, 1);
  (void)sources.housekeeping(0);
  std::array<FaultRecord, 4> out;
  EXPECT_EQ(sources.poll(0, out), 0U);
  EXPECT_TRUE(sources.holds());
  EXPECT_EQ(sources.position(0).next, 0U) << "nothing is accounted for before it is handed out";
  EXPECT_EQ(sources.next_active(0, 2), 1U);
  EXPECT_EQ(sources.poll(1, out), 1U);
  EXPECT_FALSE(sources.holds());
}

TEST(EventSources, CountALossAtTheTailByItsHeader) {
  Files files;
  files.depth = 2;
  auto sources = sources_of(files);
  for (std::uint64_t i = 1; i <= 7; ++i) files.produce(0x10, i);
  EXPECT_EQ(drain(sources), (Lines{"0:1", "0:2", "lost 5"}));
  EXPECT_EQ(sources.position(0).next, 7U);
  EXPECT_EQ(sources.event_stats().lost_headers, 1U);
  files.produce(0x10, 8);
  EXPECT_EQ(drain(sources), Lines{"0:8"});
}

TEST(EventSources, CountALossInTheMiddleByTheGap) {
  Files files;
  files.depth = 1;
  auto sources = sources_of(files);
  for (std::uint64_t i = 1; i <= 4; ++i) files.produce(0x10, i);
  files.depth = 2;
  files.produce(0x20, 5);  // takes the header away
  EXPECT_EQ(drain(sources), (Lines{"0:1", "lost 3", "1:5"}));
  EXPECT_EQ(sources.event_stats().exact_loss, 3U);
  EXPECT_EQ(sources.event_stats().lost_headers, 0U);
}

TEST(EventSources, CountALossAcrossTheWrapOfTheSequence) {
  Files files;
  files.depth = 1;
  files.sequence = uapi::kIommuVeventqLastSequence - 1;
  const std::uint64_t before = files.sequence;
  auto sources = sources_of(files, {{before, 0}, {before - 5, 0}});
  for (std::uint64_t i = 1; i <= 5; ++i) files.produce(0x10, i);
  EXPECT_EQ(drain(sources), (Lines{"0:1", "lost 4"}));
  EXPECT_EQ(sources.position(1).next, before + 5);
  files.produce(0x20, 6);
  EXPECT_EQ(drain(sources), Lines{"1:6"});
}

TEST(EventSources, TakeWhatAShortReadLeaves) {
  Files files;
  files.most_read = 85;  // two records, and a LOST header does not fit
  files.depth = 3;
  auto sources = sources_of(files);
  for (std::uint64_t i = 1; i <= 5; ++i) files.produce(0x10, i);
  EXPECT_EQ(drain(sources), (Lines{"0:1", "0:2", "0:3", "lost 2"}));
}

TEST(EventSources, CountAfterARestartWhatAKilledReadTook) {
  Files files;
  SourcePosition at;
  {
    auto sources = sources_of(files);
    files.produce(0x10, 1);
    EXPECT_EQ(drain(sources), Lines{"0:1"});
    at = sources.position(0);
    files.produce(0x20, 2);
    files.produce(0x20, 3);
    std::array<FaultRecord, 4> out;
    (void)sources.housekeeping(1);
    (void)sources.poll(0, out);  // read, and nobody was told
  }
  auto sources = sources_of(files, {at, {}});
  files.produce(0x10, 4);
  EXPECT_EQ(drain(sources), (Lines{"lost 2", "0:4"}));
}

TEST(EventSources, MakeAStreamThatTheGuestDoesNotHaveMalformed) {
  Files files;
  auto sources = sources_of(files);
  files.produce(0x99, 1);
  files.produce(0x20, 2);
  EXPECT_EQ(drain(sources), (Lines{"malformed", "1:2"}));
  EXPECT_EQ(sources.event_stats().unknown_stream, 1U);
}

TEST(EventSources, TellASequenceThatWentBackwardAsAPossibleLoss) {
  Files files;
  auto sources = sources_of(files);
  files.produce(0x10, 1);
  files.produce(0x10, 2);
  EXPECT_EQ(drain(sources), (Lines{"0:1", "0:2"}));
  files.sequence = 0;
  files.produce(0x10, 3);
  EXPECT_EQ(drain(sources), (Lines{"0:3", "possibly lost 1"}));
  EXPECT_EQ(sources.event_stats().bad_sequence, 1U);
}

TEST(EventSources, GoOnAfterAnInterruptedRead) {
  Files files;
  files.fail_reads = 3;
  auto sources = sources_of(files);
  files.produce(0x10, 1);
  EXPECT_EQ(drain(sources), Lines{"0:1"});
}

TEST(EventSources, SayWhyTheyReadInEveryRound) {
  Files files;
  auto sources = sources_of(files);
  EXPECT_EQ(sources.watch().describe(), "1 file read in every round (this kernel has no io_uring)");
  EXPECT_FALSE(EventWatch<Files>::open(files, {1}, WatchChoice::kRing).has_value());
}

}  // namespace
}  // namespace faultline::iommufd
