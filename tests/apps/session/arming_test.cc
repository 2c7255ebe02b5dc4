// SPDX-License-Identifier: BSD-3-Clause
// A shard that would sleep asks the VMM of an exitless guest to arm, over a session as in the page.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>

#include "apps/guest/commands.h"
#include "tests/apps/session/quiet_guest.h"
#include "tests/apps/session/soft_vmm.h"

namespace faultline::session {
namespace {

using namespace testing_vmm;

constexpr int kPatience = 60'000;  // ms
constexpr std::uint64_t kOne = 1;

bool ring(int fd) {
  return ::write(fd, &kOne, sizeof kOne) == sizeof kOne;
}
bool readable(int fd, int ms = 0) {
  pollfd p{fd, POLLIN, 0};
  return ::poll(&p, 1, ms) == 1;
}
bool take(int fd) {
  std::uint64_t n = 0;
  return readable(fd, kPatience) && ::read(fd, &n, sizeof n) == sizeof n;
}
/// The engine has read what was rung.
bool taken(int fd) {
  for (int ms = 0; ms < kPatience; ++ms) {
    if (!readable(fd)) return true;
    ::usleep(1000);
  }
  return false;
}

TEST(Arming, AShardThatWouldSleepAsksAndBelievesTheAnswer) {
  SoftVmm vmm(1, 2);
  QuietGuest guest(vmm.hosts()[0]);
  Service service;
  std::array<int, 3> fds{};
  for (int& fd : fds) fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  const int doorbell = fds[0];
  const int arm = fds[1];
  const int armed = fds[2];
  GuestRequest half = vmm.request(0);
  half.arm_eventfd = duplicate(arm);
  half.armed_eventfd = duplicate(armed);
  EXPECT_FALSE(service.host->add(std::move(half))) << "without a doorbell";
  GuestRequest request = vmm.request(0);
  request.doorbell_eventfd = duplicate(doorbell);
  request.arm_eventfd = duplicate(arm);
  request.armed_eventfd = duplicate(armed);
  const auto added = service.host->add(std::move(request));
  ASSERT_TRUE(added) << added.error().message();
  // Polled as long as nobody answers.
  ASSERT_TRUE(guest.driver.probe(guest.idle));
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(take(arm)) << "it asks when it is about to sleep";
    ASSERT_TRUE(ring(armed));
    ASSERT_TRUE(taken(armed));
    EXPECT_FALSE(readable(arm)) << "it is armed";
    // The guest writes: it exits, and its VMM rings behind the write.
    ASSERT_TRUE(guest.driver.run({guest::tlbi_nsnh_all()}, [&] {
      EXPECT_TRUE(ring(doorbell));
      guest.idle();
    }));
    ASSERT_TRUE(taken(doorbell));
  }
  EXPECT_TRUE(readable(arm, kPatience)) << "and asks anew";
  EXPECT_TRUE(service.host->remove("guest0"));
  for (const int fd : fds) ::close(fd);
}

}  // namespace
}  // namespace faultline::session
