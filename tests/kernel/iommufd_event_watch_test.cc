// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/iommufd/event_watch.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "tests/kernel/iommufd_fake_ring.h"

namespace faultline::iommufd {
namespace {

using Ring = faultline::testing::FakeRing;

std::vector<int> files(int n) {
  std::vector<int> out(static_cast<std::size_t>(n));
  std::iota(out.begin(), out.end(), 0);
  return out;
}

template <class Sys>
std::vector<std::size_t> ready_of(const EventWatch<Sys>& watch) {
  std::vector<std::size_t> out;
  const std::size_t n = watch.size();
  for (std::size_t i = watch.next_ready(0, n); i < n; i = watch.next_ready(i + 1, n)) {
    out.push_back(i);
  }
  return out;
}
using Slots = std::vector<std::size_t>;

TEST(EventWatch, MakesNoSystemCallWhileNothingComes) {
  Ring ring;
  auto watch = *EventWatch<Ring>::open(ring, files(70));
  (void)watch.look(1);
  EXPECT_TRUE(ring.enabled);
  EXPECT_EQ(ring.armed.size(), 70U);
  const int before = ring.enters;
  for (Nanos now = 2; now < 1000; ++now) EXPECT_EQ(watch.look(now), 0U);
  EXPECT_EQ(ring.enters, before);
  EXPECT_TRUE(ready_of(watch).empty());
  EXPECT_EQ(watch.describe(), "70 files watched by io_uring, no system call while idle");
}

TEST(EventWatch, SaysWhichFilesHaveSomethingUntilAReadFoundNothing) {
  Ring ring;
  auto watch = *EventWatch<Ring>::open(ring, files(130));
  (void)watch.look(1);
  for (const int fd : {0, 63, 64, 129}) ring.announce(fd);
  EXPECT_EQ(watch.look(2), 4U);
  EXPECT_EQ(ready_of(watch), (Slots{0, 63, 64, 129}));
  EXPECT_EQ(watch.next_ready(1, 63), 63U) << "none before the end";
  EXPECT_EQ(watch.look(3), 0U);
  watch.empty(63);
  EXPECT_EQ(ready_of(watch), (Slots{0, 64, 129}));
  ring.announce(63);
  EXPECT_EQ(watch.look(4), 1U);
  EXPECT_TRUE(watch.ready(63));
}

TEST(EventWatch, ArmsAgainThePollThatTheKernelEnded) {
  Ring ring;
  auto watch = *EventWatch<Ring>::open(ring, files(3));
  (void)watch.look(1);
  ring.end(1);
  ring.announce(1);
  EXPECT_EQ(watch.look(2), 1U);
  EXPECT_EQ(watch.stats().ended, 1U);
  EXPECT_EQ(ring.armed.count(1), 1U) << "in the same look";
  ring.readable.erase(1);
  watch.empty(1);
  ring.announce(1);
  EXPECT_EQ(watch.look(3), 1U);
}

TEST(EventWatch, LosesNothingWhenTheCompletionRingOverflows) {
  Ring ring(4);
  auto watch = *EventWatch<Ring>::open(ring, files(32));
  (void)watch.look(1);
  for (int fd = 0; fd < 32; ++fd) ring.announce(fd);
  std::size_t became = 0;
  for (Nanos now = 2; now < 20; ++now) {
    became += watch.look(now);
    for (const std::size_t slot : ready_of(watch)) ring.readable.erase(static_cast<int>(slot));
  }
  EXPECT_EQ(became, 32U);
  EXPECT_EQ(ready_of(watch).size(), 32U);
  EXPECT_GT(watch.stats().overflows, 0U);
  EXPECT_EQ(ring.armed.size(), 32U) << "every poll that ended is armed again";
}

TEST(EventWatch, ReadsInEveryRoundAFileThatCannotBePolled) {
  Ring ring;
  ring.refuse_fd = 1;
  auto watch = *EventWatch<Ring>::open(ring, files(3));
  (void)watch.look(1);
  EXPECT_EQ(ready_of(watch), Slots{1});
  watch.empty(1);
  (void)watch.look(2);
  EXPECT_EQ(ready_of(watch), Slots{1});
  EXPECT_EQ(watch.stats().poll_failed, 1U);
}

TEST(EventWatch, ReadsEverythingOnceAPeriodWhateverTheRingSays) {
  Ring ring;
  auto watch = *EventWatch<Ring>::open(ring, files(2));
  (void)watch.look(1);
  (void)watch.look(1 + EventWatch<Ring>::kBackstopNs);
  EXPECT_EQ(ready_of(watch), (Slots{0, 1}));
  watch.found(0);
  watch.empty(0);
  watch.empty(1);
  EXPECT_EQ(watch.stats().backstops, 1U);
  EXPECT_EQ(watch.stats().backstop_finds, 1U);
}

TEST(EventWatch, FallsBackToReadsWhenTheRingFails) {
  Ring ring;
  auto watch = *EventWatch<Ring>::open(ring, files(2));
  (void)watch.look(1);
  ring.enter_error = -EEXIST;
  ring.announce(0);
  EXPECT_EQ(watch.look(2), 2U);
  EXPECT_FALSE(watch.uses_ring());
  EXPECT_TRUE(ring.closed);
  EXPECT_EQ(ring.mapped, 0);
  for (std::size_t i = 0; i < 2; ++i) watch.empty(i);
  (void)watch.look(3);
  EXPECT_EQ(ready_of(watch), (Slots{0, 1}));
  EXPECT_EQ(watch.describe(), "2 files read in every round (the ring belongs to another thread)");
}

TEST(EventWatch, TriesAgainWhereTheKernelIsBusy) {
  Ring ring;
  auto watch = *EventWatch<Ring>::open(ring, files(1));
  ring.enter_error = -EBUSY;
  (void)watch.look(1);
  ring.enter_error = 0;
  ring.announce(0);
  EXPECT_EQ(watch.look(2), 1U) << "the poll was not lost";
}

TEST(EventWatch, SaysWhatIsToBeDoneWhereThereIsNoRing) {
  Ring ring;
  ring.setup_error = -EPERM;
  const auto refused = EventWatch<Ring>::open(ring, files(1), WatchChoice::kRing);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().message(),
            "io_uring_setup: not allowed here (sysctl kernel.io_uring_disabled=0, or the "
            "container's seccomp profile): Operation not permitted (errno 1)");
  const auto watch = *EventWatch<Ring>::open(ring, files(1));
  EXPECT_FALSE(watch.uses_ring());
  ring.setup_error = 0;
  EXPECT_EQ(EventWatch<Ring>::open(ring, files(1), WatchChoice::kRead)->describe(),
            "1 file read in every round (asked for)");
}

TEST(EventWatch, RefusesARingThatLiesOutsideOfItsMapping) {
  Ring ring;
  ring.spoil_params = true;
  EXPECT_FALSE(EventWatch<Ring>::open(ring, files(1), WatchChoice::kRing).has_value());
  EXPECT_EQ(ring.mapped, 0);
}

/// Pipes of the real kernel.
struct Pipes {
  explicit Pipes(std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) {
      int ends[2];
      EXPECT_EQ(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
      in.push_back(ends[0]);
      out.push_back(ends[1]);
    }
  }
  ~Pipes() {
    for (const int fd : in) close(fd);
    for (const int fd : out) close(fd);
  }
  std::vector<int> in;
  std::vector<int> out;
};

TEST(EventWatch, FindsEveryWriteToRealFilesInAnyInterleaving) {
  constexpr std::size_t kFiles = 100;
  constexpr unsigned kSeed = 20261125;
  LinuxSys sys;
  Pipes pipes(kFiles);
  auto opened = EventWatch<LinuxSys>::open(sys, pipes.in, WatchChoice::kRing);
  if (!opened) GTEST_SKIP() << opened.error().message();
  // Opened here, used by another thread, as a guest's sources are.
  std::thread shard([&] {
    auto& watch = *opened;
    (void)watch.look(1);
    std::mt19937 random(kSeed);
    std::size_t written = 0;
    std::size_t seen = 0;
    for (int step = 0; step < 3000; ++step) {
      for (unsigned n = random() % 4; n > 0; --n) {
        written += write(pipes.out[random() % kFiles], "x", 1) == 1 ? 1 : 0;
      }
      (void)watch.look(2);  // the backstop is never due
      std::size_t budget = random() % 4;
      for (std::size_t i = watch.next_ready(0, kFiles); i < kFiles && budget-- > 0;
           i = watch.next_ready(i + 1, kFiles)) {
        char bytes[2];
        const ssize_t got = read(pipes.in[i], bytes, sizeof bytes);
        if (got > 0) seen += static_cast<std::size_t>(got);
        if (got <= 0) watch.empty(i);
      }
    }
    for (int turn = 0; turn < 3; ++turn) {
      (void)watch.look(2);
      for (std::size_t i = watch.next_ready(0, kFiles); i < kFiles;
           i = watch.next_ready(i + 1, kFiles)) {
        char byte;
        while (read(pipes.in[i], &byte, 1) == 1) ++seen;
        watch.empty(i);
      }
    }
    EXPECT_EQ(seen, written) << "seed " << kSeed;
    const auto enters = watch.stats().enters;
    for (int i = 0; i < 100; ++i) (void)watch.look(2);
    EXPECT_EQ(watch.stats().enters, enters) << "idle";
  });
  shard.join();
}

}  // namespace
}  // namespace faultline::iommufd
