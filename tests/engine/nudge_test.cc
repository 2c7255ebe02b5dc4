// SPDX-License-Identifier: BSD-3-Clause
#include "engine/nudge.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "engine/doorbell.h"
#include "engine/interrupt.h"
#include "tests/engine/event_world.h"

namespace faultline::engine {
namespace {

/// An eventfd as a hostile VMM makes it: blocking, and full or empty.
struct Trap {
  explicit Trap(std::uint64_t count) : fd(::eventfd(0, EFD_CLOEXEC)) {
    if (count == 0) return;
    EXPECT_EQ(::write(fd, &count, sizeof count), 8);
  }
  ~Trap() { ::close(fd); }
  Trap(const Trap&) = delete;
  Trap& operator=(const Trap&) = delete;
  static constexpr std::uint64_t kFull = ~std::uint64_t{1};
  int fd;
};

/// Runs `body` in a thread that polls, and nudges it until it has returned.
template <class Body>
unsigned until_returned(Body body) {
  take_nudges();
  std::atomic<bool> done{false};
  std::thread thread([&] {
    body();
    done.store(true, std::memory_order_release);  // pairs with the acquire below
  });
  unsigned nudges = 0;
  while (!done.load(std::memory_order_acquire)) {
    ::usleep(2000);
    nudge(thread.native_handle());
    ++nudges;
  }
  thread.join();
  return nudges;
}

TEST(Nudge, AnInterruptThatBlocksIsGivenUp) {
  const Trap trap(Trap::kFull);
  const testing_world::GuestRam ram;
  Interrupt interrupt(trap.fd);
  bool told = true;
  EXPECT_GE(until_returned([&] { told = interrupt.raise(ram.memory()); }), 1U);
  EXPECT_FALSE(told);
  EXPECT_TRUE(interrupt.blocked());
  // With nobody to nudge: it would hang for ever.
  EXPECT_FALSE(interrupt.raise(ram.memory()));
  EXPECT_EQ(interrupt.raised(), 2U);
  EXPECT_EQ(interrupt.unheard(), 2U);
}

TEST(Nudge, OneThatIsOnlyFullStaysInUse) {
  const Trap trap(Trap::kFull);
  ASSERT_EQ(::fcntl(trap.fd, F_SETFL, O_NONBLOCK), 0);
  const testing_world::GuestRam ram;
  Interrupt interrupt(trap.fd);
  EXPECT_FALSE(interrupt.raise(ram.memory()));
  EXPECT_FALSE(interrupt.blocked());
  std::uint64_t count = 0;
  ASSERT_EQ(::read(trap.fd, &count, sizeof count), 8);
  EXPECT_TRUE(interrupt.raise(ram.memory()));
}

TEST(Nudge, ADoorbellThatBlocksIsGivenUp) {
  const Trap trap(0);
  GuestSpec spec;
  spec.doorbell_eventfd = trap.fd;
  spec.register_poll_ns = 5;
  Doorbell doorbell(spec);
  EXPECT_NE(doorbell.longest_sleep(), 5U);
  EXPECT_GE(until_returned([&] { doorbell.drain(); }), 1U);
  EXPECT_EQ(doorbell.longest_sleep(), 5U) << "its registers are looked at instead";
  doorbell.drain();  // does not hang
}

TEST(Nudge, ADoorbellThatCannotBeArmedAnyMoreIsPolled) {
  const Trap arm(Trap::kFull);
  const Trap rung(0), armed(0);
  for (const int fd : {rung.fd, armed.fd}) ASSERT_EQ(::fcntl(fd, F_SETFL, O_NONBLOCK), 0);
  GuestSpec spec;
  spec.doorbell_eventfd = rung.fd;
  spec.arm_eventfd = arm.fd;
  spec.armed_eventfd = armed.fd;
  spec.register_poll_ns = 5;
  Doorbell doorbell(spec);
  EXPECT_GE(until_returned([&] { doorbell.drain(); }), 1U);
  EXPECT_EQ(doorbell.longest_sleep(), 5U);
  doorbell.drain();  // does not hang
}

}  // namespace
}  // namespace faultline::engine
