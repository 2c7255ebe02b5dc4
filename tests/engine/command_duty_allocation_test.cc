// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include "tests/engine/command_duty_world.h"
#include "tests/support/allocations.h"

namespace faultline::engine::command_world {
namespace {

template <class Policy>
std::uint64_t allocations_in_a_million_rounds() {
  World world;
  Engine<Policy> engine(world);
  world.write_ste(0, 5);
  EXPECT_TRUE(engine.probe());
  world.kernel.record = false;
  constexpr std::uint64_t kWarmUp = 1000;  // in which the test's own hook allocates
#ifdef FAULTLINE_TSAN
  constexpr std::uint64_t kRounds = 10'000;  // operator new is the sanitizer's: nothing is counted
#else
  constexpr std::uint64_t kRounds = 1'000'000;
#endif
  std::uint64_t before = 0;
  const std::uint64_t syncs = engine.duty().counters().syncs_completed;
  for (std::uint64_t i = 0; i < kRounds + kWarmUp; ++i) {
    if (i == kWarmUp) before = testing_support::allocations();
    if (world.used() == 0) {
      world.queue({tlbi_va(i << 12U), tlbi_va(i << 13U), cfgi_cd(World::sid(0)), sync(),
                   sync_msi(World::kRam, 1), prefetch(), cfgi_ste(World::sid(0)), sync()});
    }
    world.now += 100;
    engine.duty().round(world.now);
  }
  EXPECT_GT(engine.duty().counters().syncs_completed, syncs + kRounds / 10);
  return testing_support::allocations() - before;
}

TEST(CommandDutyAllocation, ThereIsNoneInAMillionRounds) {
  EXPECT_EQ(allocations_in_a_million_rounds<merge::BatchUntilSync>(), 0U);
  EXPECT_EQ(allocations_in_a_million_rounds<merge::ForwardEach>(), 0U);
  EXPECT_EQ(allocations_in_a_million_rounds<merge::Merge>(), 0U);
}

}  // namespace
}  // namespace faultline::engine::command_world
