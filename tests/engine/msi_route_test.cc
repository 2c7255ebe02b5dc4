// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>

#include "engine/interrupt.h"
#include "tests/engine/event_world.h"

namespace faultline::engine {
namespace {

using testing_world::GuestRam;

std::uint64_t signals(int fd) {
  std::uint64_t n = 0;
  return ::read(fd, &n, sizeof n) == sizeof n ? n : 0;
}

TEST(MsiRoute, AnMsiToNoMemorySignalsItsEventfdAndNoOther) {
  const GuestRam ram;
  const int wire = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  const int its = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  const Gpa doorbell{0x7'0000'0040};
  const std::array<MsiRoute, 2> routes = {MsiRoute{doorbell, 6, wire}, MsiRoute{doorbell, 7, its}};
  EXPECT_EQ(route_of(routes, doorbell, 8), -1);
  EXPECT_EQ(route_of(routes, doorbell + 4, 7), -1);
  EXPECT_EQ(route_of({}, doorbell, 7), -1);

  Interrupt interrupt(wire);
  interrupt.program(doorbell, 7, route_of(routes, doorbell, 7));
  EXPECT_TRUE(interrupt.raise(ram.memory()));
  EXPECT_EQ(signals(its), 1U);
  EXPECT_EQ(signals(wire), 0U);
  // Programmed anew without a route: the VMM's own is told.
  interrupt.program(doorbell, 9, route_of(routes, doorbell, 9));
  EXPECT_TRUE(interrupt.raise(ram.memory()));
  EXPECT_EQ(signals(its), 0U);
  EXPECT_EQ(signals(wire), 1U);
  EXPECT_EQ(interrupt.unheard(), 0U);
  ::close(wire);
  ::close(its);
}

}  // namespace
}  // namespace faultline::engine
