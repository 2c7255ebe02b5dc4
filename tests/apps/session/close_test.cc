// SPDX-License-Identifier: BSD-3-Clause
#include "apps/session/close.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "apps/session/fd.h"
#include "apps/session/file_sort.h"
#include "apps/session/request_fds.h"
#include "apps/session/wire.h"
#include "tests/apps/session/lingering.h"

namespace faultline::session {
namespace {

using testing::Lingering;

bool is_open(int fd) {
  return ::fcntl(fd, F_GETFD) >= 0;
}

std::array<int, 2> pair() {
  std::array<int, 2> ends{-1, -1};
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()), 0);
  return ends;
}

TEST(FileSort, IsWhatTheKernelSays) {
  const auto sort = [](int fd) {
    EXPECT_GE(fd, 0);
    const FileSort found = sort_of(fd);
    ::close(fd);
    return found;
  };
  EXPECT_EQ(sort(::memfd_create("m", MFD_CLOEXEC)), FileSort::kMemory);
  EXPECT_EQ(sort(::eventfd(0, EFD_CLOEXEC)), FileSort::kEventfd);
  EXPECT_EQ(sort(::epoll_create1(EPOLL_CLOEXEC)), FileSort::kQuiet);
  EXPECT_EQ(sort(::inotify_init1(IN_CLOEXEC)), FileSort::kOther);
  EXPECT_EQ(sort(::open("/proc/self/status", O_RDONLY | O_CLOEXEC)), FileSort::kOther);
  EXPECT_EQ(sort(::open("/", O_RDONLY | O_CLOEXEC)), FileSort::kOther);
  EXPECT_EQ(sort(::open("/dev/null", O_PATH | O_CLOEXEC)), FileSort::kOther);
  EXPECT_EQ(sort(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)), FileSort::kUnixSocket);
  EXPECT_EQ(sort(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), FileSort::kOther);
  EXPECT_EQ(sort_of(-1), FileSort::kOther);
  const bool sys = ::access("/sys/dev/char", F_OK) == 0;
  EXPECT_EQ(sort(::open("/dev/null", O_RDWR | O_CLOEXEC)),
            sys ? FileSort::kCharacterDevice : FileSort::kUnknownDevice);
  const int terminal = ::open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (terminal >= 0 && sys) {
    EXPECT_EQ(sort(terminal), FileSort::kOther) << "it waits for what was written to it";
  }
}

TEST(FileSort, OnlyWhatAMethodAsksForMayBePassed) {
  for (const FileSort sort : {FileSort::kMemory, FileSort::kEventfd, FileSort::kVfioDevice,
                              FileSort::kCharacterDevice, FileSort::kUnixSocket}) {
    EXPECT_TRUE(may_be_passed(sort));
  }
  EXPECT_FALSE(may_be_passed(FileSort::kQuiet));
  EXPECT_FALSE(may_be_passed(FileSort::kOther));
}

TEST(Close, WhatCannotWaitIsClosedAtOnce) {
  wait_until_closed();
  for (const int fd : {::memfd_create("m", MFD_CLOEXEC), ::eventfd(0, EFD_CLOEXEC),
                       ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)}) {
    ASSERT_GE(fd, 0);
    close_passed(fd);
    EXPECT_FALSE(is_open(fd));
  }
  close_passed(-1);
  EXPECT_EQ(closing(), 0U);
}

TEST(Close, WhatMayWaitDoesSoSomewhereElse) {
  Lingering slow;
  close_passed(slow.release());
  EXPECT_EQ(closing(), 1U);
  // What comes behind it waits, too, and nobody else does.
  const int file = ::open("/proc/self/status", O_RDONLY | O_CLOEXEC);
  close_passed(file);
  EXPECT_EQ(closing(), 2U);
  EXPECT_TRUE(is_open(file));
  slow.end();
  EXPECT_EQ(closing(), 0U);
  EXPECT_FALSE(is_open(file));
}

TEST(Close, ASocketTakesWhatIsOnItsWayInItAlong) {
  Lingering slow;
  const auto [vmm, ours] = pair();
  slow.pass(vmm);
  close_passed(ours);
  EXPECT_EQ(closing(), 1U);
  slow.end();
  EXPECT_EQ(closing(), 0U);
  EXPECT_FALSE(is_open(ours));
  ::close(vmm);
}

TEST(Close, AnFdAndARequestNeverWait) {
  Lingering slow;
  Lingering another;
  { const Fd fd(slow.release()); }
  EXPECT_EQ(closing(), 1U);
  {
    GuestRequest request;
    request.devices.push_back({"d", StreamId{1}, 1, {another.release()}});
    const OwnedRequest owned(std::move(request));
  }
  EXPECT_EQ(closing(), 2U);
  slow.let_go();
  another.end();
}

TEST(HangUp, AnEmptyConnectionIsClosedAtOnce) {
  wait_until_closed();
  const auto [vmm, ours] = pair();
  hang_up(Fd(ours));
  EXPECT_EQ(closing(), 0U);
  EXPECT_FALSE(is_open(ours));
  ::close(vmm);
}

TEST(HangUp, APacketThatNobodyTookIsClosedElsewhere) {
  Lingering slow;
  const auto [vmm, ours] = pair();
  ASSERT_EQ(::send(vmm, "", 0, 0), 0) << "an empty packet hides nothing";
  slow.pass(vmm);
  hang_up(Fd(ours));
  EXPECT_EQ(closing(), 1U);
  // Its peer does not wait, either: an end, or a reset once the closer is at it.
  char byte = 0;
  EXPECT_FALSE(::recv(vmm, &byte, sizeof byte, MSG_DONTWAIT) < 0 && errno == EAGAIN);
  EXPECT_LT(::send(vmm, "x", 1, MSG_NOSIGNAL), 0);
  ::close(vmm);
  slow.end();
}

}  // namespace
}  // namespace faultline::session
