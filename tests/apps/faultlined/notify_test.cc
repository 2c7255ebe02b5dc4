// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultlined/notify.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "tests/apps/faultlined/fake_manager.h"

namespace faultline::daemon {
namespace {

TEST(Notify, TellsTheManager) {
  FakeManager manager;
  ASSERT_TRUE(manager.bound());
  Notify notify;
  notify.ready("2 guests");
  ASSERT_TRUE(manager.turn());
  EXPECT_EQ(manager.value("READY"), "1");
  EXPECT_EQ(manager.value("STATUS"), "2 guests");
  notify.reloading();
  ASSERT_TRUE(manager.turn());
  EXPECT_EQ(manager.value("RELOADING"), "1");
  EXPECT_GT(std::stoull(manager.value("MONOTONIC_USEC")), 0U);
  notify.beat();
  ASSERT_TRUE(manager.turn());
  EXPECT_EQ(manager.last, "WATCHDOG=1");
  notify.stopping("draining");
  ASSERT_TRUE(manager.turn());
  EXPECT_EQ(manager.value("STOPPING"), "1");
  EXPECT_FALSE(manager.turn());
}

TEST(Notify, AStatusIsOneLine) {
  FakeManager manager;
  Notify notify;
  notify.status("a\nMAINPID=1\x1b");
  ASSERT_TRUE(manager.turn());
  EXPECT_EQ(manager.last, "STATUS=a?MAINPID=1?");
}

TEST(Notify, DoesNothingWithoutAManager) {
  unsetenv("NOTIFY_SOCKET");
  Notify notify;
  notify.ready("");
  EXPECT_FALSE(notify.send("READY=1", {}));
}

TEST(Notify, BeatsTwiceAsOftenAsAsked) {
  setenv("WATCHDOG_USEC", "3000000", 1);
  setenv("WATCHDOG_PID", std::to_string(getpid()).c_str(), 1);
  EXPECT_EQ(Notify::beat_interval(), 1'500'000'000U);
  setenv("WATCHDOG_PID", "1", 1);
  EXPECT_EQ(Notify::beat_interval(), 0U);
  unsetenv("WATCHDOG_USEC");
  unsetenv("WATCHDOG_PID");
  EXPECT_EQ(Notify::beat_interval(), 0U);
}

}  // namespace
}  // namespace faultline::daemon
