// SPDX-License-Identifier: BSD-3-Clause
#include "engine/stage_cycles.h"

#include <gtest/gtest.h>

#include "tests/engine/command_duty_world.h"
#include "tests/engine/event_world.h"

namespace faultline::engine {
namespace {

constexpr std::uint64_t kSamples = 10;

TEST(StageCycles, SampleOneRoundInSixtyFour) {
  StageTimer timer;
  std::uint64_t stage = 0;
  unsigned on = 0;
  for (unsigned i = 0; i < kSamples * kStageEvery; ++i) {
    timer.begin();
    timer.start();
    const std::uint64_t before = stage;
    timer.mark(stage);
    on += timer.on() ? 1 : 0;
    if (!timer.on()) {
      ASSERT_EQ(stage, before);
    }
  }
  EXPECT_EQ(on, kSamples);
  while (!timer.on()) timer.begin();
  timer.stop();
  const std::uint64_t before = stage;
  timer.mark(stage);
  EXPECT_EQ(stage, before);
}

TEST(StageCycles, OfAnEventDutyCountBurstsAndRecordsOfTheSampledRounds) {
  testing_world::Bench b;
  b.start();
  for (unsigned i = 0; i < kSamples * kStageEvery; ++i) {
    b.kernel.produce(0);
    b.kernel.produce(0);
    ASSERT_GT(b.round(), 0U);
    b.guest.read_events();
  }
  const EventStageCycles& s = b.duty->stages();
  EXPECT_EQ(s.bursts, kSamples);
  EXPECT_EQ(s.records, 2 * kSamples);
  EXPECT_GT(s.poll + s.transcode + s.publish + s.commit, 0U);
  const EventStageCycles before = s;
  for (unsigned i = 0; i < kSamples * kStageEvery; ++i) ASSERT_EQ(b.round(), 0U);
  EXPECT_EQ(s.bursts, before.bursts) << "idle rounds are of no stage";
  EXPECT_EQ(s.poll, before.poll);
}

TEST(StageCycles, OfACommandDutyCountTheCommandsOfTheSampledRounds) {
  using namespace command_world;
  World world;
  Engine<merge::BatchUntilSync> engine(world);
  ASSERT_TRUE(engine.probe());
  const CommandStageCycles& s = engine.duty().stages();
  for (unsigned i = 0; i < 2000 && s.commands < 2 * kSamples; ++i) {
    world.queue({tlbi_va(0x1000), sync()});
    ASSERT_TRUE(engine.drained());
  }
  EXPECT_GE(s.commands, 2 * kSamples);
  EXPECT_LT(s.commands, engine.duty().counters().commands / 10) << "it samples";
  EXPECT_GT(s.fetch + s.merge + s.submit + s.sync, 0U);
  const CommandStageCycles before = s;
  for (unsigned i = 0; i < kSamples * kStageEvery; ++i) engine.round();
  EXPECT_EQ(s.commands, before.commands);
  EXPECT_EQ(s.fetch, before.fetch) << "idle rounds are of no stage";
  EXPECT_EQ(s.sync, before.sync);
}

}  // namespace
}  // namespace faultline::engine
