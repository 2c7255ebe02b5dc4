// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/sys.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <string>
#include <thread>

namespace faultline {
namespace {

/// Whether the kernel has this thread of ours asleep.
bool sleeps(pid_t thread) {
  std::ifstream file("/proc/self/task/" + std::to_string(thread) + "/stat");
  std::string text;
  std::getline(file, text);
  const std::size_t end = text.rfind(") ");
  return end != std::string::npos && text.substr(end + 2, 1) == "S";
}

TEST(LinuxSys, ASignalIsNoFailureOfARead) {
  static std::atomic<unsigned> taken;
  struct sigaction act {};
  struct sigaction before {};
  act.sa_handler = [](int) { ++taken; };
  ASSERT_EQ(::sigaction(SIGUSR2, &act, &before), 0);
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  LinuxSys sys;
  std::atomic<pid_t> id = 0;
  ssize_t got = 0;
  char byte = 0;
  std::thread reader([&] {
    id = ::gettid();
    got = sys.read(ends[0], &byte, 1);
  });
  for (unsigned n = 0; n < 2; ++n) {
    while (id == 0 || !sleeps(id)) ::usleep(1000);
    ASSERT_EQ(::pthread_kill(reader.native_handle(), SIGUSR2), 0);
    while (taken == n) ::usleep(1000);
  }
  EXPECT_EQ(sys.write(ends[1], "x", 1), 1);
  reader.join();
  EXPECT_EQ(got, 1);
  EXPECT_EQ(byte, 'x');
  ::close(ends[0]);
  ::close(ends[1]);
  ::sigaction(SIGUSR2, &before, nullptr);
}

TEST(LinuxSys, ACallThatSignalsEndAgainAndAgainComesBack) {
  unsigned calls = 0;
  EXPECT_EQ(despite_signals([&] { return ++calls, -EINTR; }), -EINTR);
  EXPECT_EQ(calls, 4U);
  EXPECT_EQ(despite_signals([&] { return ++calls, -EIO; }), -EIO);
  EXPECT_EQ(calls, 5U) << "another failure is one";
}

}  // namespace
}  // namespace faultline
