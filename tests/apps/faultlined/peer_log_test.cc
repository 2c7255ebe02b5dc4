// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultlined/peer_log.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace faultline::daemon {
namespace {

constexpr Nanos kSecond = 1'000'000'000;
constexpr Nanos kStart = 1'000 * kSecond;

struct Lines {
  std::vector<std::string> all;
  PeerLog log;
  explicit Lines(PeerLogOptions options)
      : log(options, [this](const std::string& line) { all.push_back(line); }) {}
};

TEST(PeerLog, SaysABurstAndThenHowMuchItKeptBack) {
  Lines lines({.lines_per_second = 2, .burst = 3});
  for (int i = 0; i < 10; ++i) lines.log.log("web", "bad command " + std::to_string(i), kStart);
  EXPECT_EQ(lines.all, (std::vector<std::string>{"web: bad command 0", "web: bad command 1",
                                                 "web: bad command 2"}));
  EXPECT_EQ(lines.log.suppressed(), 7U);
  // Half a second is one line, which the summary takes.
  lines.all.clear();
  lines.log.log("web", "bad command 10", kStart + kSecond / 2);
  EXPECT_EQ(lines.all, (std::vector<std::string>{"web: 7 lines suppressed"}));
  lines.all.clear();
  lines.log.log("web", "bad command 11", kStart + 3 * kSecond / 2);
  EXPECT_EQ(lines.all,
            (std::vector<std::string>{"web: 1 lines suppressed", "web: bad command 11"}));
}

TEST(PeerLog, SaysSoAlsoWhenNothingComesAnyMore) {
  Lines lines({.lines_per_second = 1, .burst = 1});
  lines.log.log("web", "one", kStart);
  lines.log.log("web", "two", kStart);
  lines.all.clear();
  lines.log.tick(kStart + kSecond / 2);
  EXPECT_TRUE(lines.all.empty());
  lines.log.tick(kStart + kSecond);
  EXPECT_EQ(lines.all, (std::vector<std::string>{"web: 1 lines suppressed"}));
  lines.all.clear();
  lines.log.tick(kStart + 5 * kSecond);
  EXPECT_TRUE(lines.all.empty());
}

TEST(PeerLog, OneNameTakesNothingFromAnother) {
  Lines lines({.lines_per_second = 1, .burst = 1});
  for (int i = 0; i < 1000; ++i) lines.log.log("loud", "again", kStart);
  lines.all.clear();
  lines.log.log("quiet", "hello", kStart);
  EXPECT_EQ(lines.all, (std::vector<std::string>{"quiet: hello"}));
}

TEST(PeerLog, IsBoundedUnderAnyNumberOfNames) {
  Lines lines({.lines_per_second = 1, .burst = 1, .total_lines_per_second = 20, .names = 16});
  constexpr unsigned kNames = 10'000;
  for (unsigned i = 0; i < kNames; ++i) lines.log.log("n" + std::to_string(i), "x", kStart);
  EXPECT_EQ(lines.log.names(), 16U);
  EXPECT_EQ(lines.all.size(), 17U);  // one each, and one of those that share
  EXPECT_EQ(lines.log.suppressed(), kNames - 17);
  // After a silence, others are told apart; and the rest is said.
  lines.all.clear();
  lines.log.tick(kStart + 10 * kSecond);
  EXPECT_EQ(lines.all, (std::vector<std::string>{"other peers: 9983 lines suppressed"}));
  lines.log.log("fresh", "y", kStart + 20 * kSecond);
  EXPECT_EQ(lines.all.back(), "fresh: y");
  EXPECT_EQ(lines.log.names(), 1U);
}

TEST(PeerLog, HasOneAllowanceOverAll) {
  Lines lines({.lines_per_second = 1, .burst = 1, .total_lines_per_second = 4, .names = 100});
  for (unsigned i = 0; i < 50; ++i) lines.log.log("n" + std::to_string(i), "x", kStart);
  EXPECT_EQ(lines.all.size(), 8U);
}

TEST(PeerLog, MakesWhatPeersSayHarmless) {
  Lines lines({.line_bytes = 16});
  lines.log.log("a\nb", "x\x1b[2J\r-\n<0>\xff", kStart);
  lines.log.log(std::string(1000, 'n'), std::string(1000, 'l'), kStart);
  ASSERT_EQ(lines.all.size(), 2U);
  EXPECT_EQ(lines.all[0], "a?b: x?[2J?-?<0>?");
  EXPECT_EQ(lines.all[1], std::string(64, 'n') + "...: " + std::string(16, 'l') + "...");
}

TEST(PeerLog, StandsAClockThatDoesNotMove) {
  Lines lines({.lines_per_second = 1, .burst = 1});
  lines.log.log("web", "one", kStart);
  lines.log.log("web", "two", kStart - kSecond);
  lines.log.log("web", "three", kStart);
  EXPECT_EQ(lines.all, (std::vector<std::string>{"web: one"}));
}

}  // namespace
}  // namespace faultline::daemon
