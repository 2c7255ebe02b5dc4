// SPDX-License-Identifier: BSD-3-Clause
// Faults of real devices behind the real arm-smmu-v3 driver, as a guest reads them.
#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "tests/vm/vm_engine.h"

namespace faultline::vm {
namespace {

using TestWorld = World<LinuxSys, merge::Merge>;

#define NEEDS_WORLD(world) ASSERT_EQ((world).error(), "")

constexpr std::uint64_t kWriteIn = 2ULL << 40U;  // CLASS = input address, RnW = 0
constexpr std::uint64_t kReadIn = kWriteIn | 1ULL << 35U;

constexpr std::uint64_t type_and_sid(std::uint64_t type, StreamId sid) {
  return type | std::uint64_t{sid.value} << 32U;
}

using Words = std::vector<std::uint64_t>;
Words words(const guest::Observation& o) {
  return {o.words[0], o.words[1], o.words[2], o.words[3]};
}

/// The guest's events of each device, in their order.
std::map<std::uint64_t, std::vector<Words>> by_device(const TestWorld& world) {
  std::map<std::uint64_t, std::vector<Words>> out;
  for (const auto& o : world.host.events) out[o.words[0] >> 32U].push_back(words(o));
  return out;
}

TEST(IommufdFaults, MappedPagesAreReachedAndNoEventComes) {
  TestWorld world;
  NEEDS_WORLD(world);
  world.dma_all();
  world.settle();
  for (const GuestDevice& d : world.host.devices) EXPECT_TRUE(world.host.written(d.page));
  EXPECT_TRUE(world.host.events.empty());
  EXPECT_EQ(world.host.overflows, 0U);
}

TEST(IommufdFaults, EachKindArrivesAsTheExactEventOfTheArchitecture) {
  TestWorld world;
  NEEDS_WORLD(world);
  auto& d = world.host.devices;
  constexpr Iova kNothing{0x2222'0000};
  d[2].table->map(Iova{0x3000'0000}, d[2].other, guest::Leaf::kReadOnly);
  d[3].table->map(Iova{0x3000'0000}, d[3].other, guest::Leaf::kNotAccessed);
  // A context descriptor that is not valid.
  store_release(world.host.memory().word(d[4].context), std::uint64_t{0});
  world.run({guest::cfgi_cd(d[4].sid)});
  for (const GuestDevice& x : d) world.host.clean(x.other);
  world.dma({{.device = 0, .iova = kNothing + 0x40},
             {.device = 1, .iova = kNothing + 0x80, .write = false},
             {.device = 2, .iova = Iova{0x3000'0000}},
             {.device = 3, .iova = Iova{0x3000'0010}, .write = false},
             {.device = 4},
             {.device = 5}});
  world.await_events(5);

  const auto events = by_device(world);
  ASSERT_EQ(world.host.events.size(), 5U);
  const auto of = [&](std::size_t i) { return events.at(d[i].sid.value).at(0); };
  EXPECT_EQ(of(0), (Words{type_and_sid(0x10, d[0].sid), kWriteIn, 0x2222'0040, 0}));
  EXPECT_EQ(of(1), (Words{type_and_sid(0x10, d[1].sid), kReadIn, 0x2222'0080, 0}));
  EXPECT_EQ(of(2), (Words{type_and_sid(0x13, d[2].sid), kWriteIn, 0x3000'0000, 0}));
  EXPECT_EQ(of(3), (Words{type_and_sid(0x12, d[3].sid), kReadIn, 0x3000'0010, 0}));
  EXPECT_EQ(of(4), (Words{type_and_sid(0x0a, d[4].sid), 0, 0, 0}));
  EXPECT_FALSE(world.host.written(d[2].other));
  EXPECT_TRUE(world.host.written(d[5].page)) << "the device beside them works on";
  EXPECT_EQ(world.host.overflows, 0U);
}

TEST(IommufdFaults, BurstsOfAllDevicesShareOneQueueAndEachEventComesOnce) {
  TestWorld world;
  NEEDS_WORLD(world);
  // 64 bytes that do not translate are 16 faults.
  std::vector<TestWorld::Dma> requests;
  for (std::size_t i = 0; i < kDevices; ++i) {
    requests.push_back({.device = i, .iova = Iova{0x5000'0000 + 0x10000 * i}, .bytes = 64});
  }
  world.dma(requests);
  world.await_events(16 * kDevices);
  ASSERT_EQ(world.host.events.size(), 16 * kDevices);
  const auto events = by_device(world);
  for (std::size_t i = 0; i < kDevices; ++i) {
    const StreamId sid = world.host.devices[i].sid;
    std::vector<Words> expected;
    for (std::uint64_t n = 0; n < 16; ++n) {
      expected.push_back({type_and_sid(0x10, sid), kWriteIn, requests[i].iova.value + 4 * n, 0});
    }
    EXPECT_EQ(events.at(sid.value), expected) << "in the device's order";
  }
  EXPECT_EQ(world.engine->sources().event_stats().exact_loss, 0U);
  EXPECT_EQ(world.host.overflows, 0U);
}

TEST(IommufdFaults, AFullGuestQueueIsShownAndWhatFoundNoRoomIsCounted) {
  TestWorld world({.evtq_log2 = 2});
  NEEDS_WORLD(world);
  world.dma({{.device = 0, .iova = Iova{0x5000'0000}, .bytes = 64}});
  auto& counters = world.engine->events().device_counters(0);
  while (counters.delivered + counters.dropped_full < 16) world.engine->round();
  world.settle();
  EXPECT_EQ(counters.delivered, 4U);
  EXPECT_EQ(counters.dropped_full, 12U);
  ASSERT_EQ(world.host.events.size(), 4U);
  for (std::uint64_t n = 0; n < 4; ++n) {
    EXPECT_EQ(world.host.events[n].words[2], 0x5000'0000 + 4 * n);
  }
  // The device may make its faults while they are polled: a loss behind an overflow that is not
  // acknowledged yet is told once more.
  const std::size_t first = world.host.overflows;
  EXPECT_GE(first, 1U);
  EXPECT_LE(first, 2U);
  EXPECT_EQ(first, world.engine->events().counters().overflows);

  // Acknowledged, the queue works on and the next loss is shown anew.
  world.dma({{.device = 1, .iova = Iova{0x6000'0000}, .bytes = 64}});
  auto& second = world.engine->events().device_counters(1);
  while (second.delivered + second.dropped_full < 16) world.engine->round();
  world.settle();
  EXPECT_EQ(second.delivered, 4U);
  EXPECT_EQ(second.dropped_full, 12U);
  EXPECT_EQ(world.host.events.size(), 8U);
  EXPECT_GE(world.host.overflows, first + 1);
  EXPECT_LE(world.host.overflows, first + 2);
  EXPECT_EQ(world.host.overflows, world.engine->events().counters().overflows);
}

TEST(IommufdFaults, WhatTheKernelsQueueLosesIsCountedExactlyAndShown) {
  constexpr std::uint32_t kDepth = 4;
  TestWorld world({.event_depth = kDepth});
  NEEDS_WORLD(world);
  // Nobody reads while it happens: 4 fit.
  const auto sleep = [] { usleep(1000); };
  world.host.dma({{.device = 0, .iova = Iova{0x5000'0000}, .bytes = 64}}, sleep);
  const auto& stats = world.engine->sources().event_stats();
  while (stats.exact_loss + stats.records < 16) {
    // The host's interrupt thread may still be at work: reading now would make room.
    usleep(20'000);
    world.engine->round();
    world.host.read_events();
  }
  world.settle();
  EXPECT_EQ(stats.records, world.host.events.size());
  EXPECT_EQ(stats.records + stats.exact_loss, 16U);
  EXPECT_GE(stats.records, kDepth);
  EXPECT_GT(stats.exact_loss, 0U);
  EXPECT_EQ(stats.bad_sequence, 0U);
  std::set<std::uint64_t> addresses;
  for (const auto& o : world.host.events) addresses.insert(o.words[2]);
  EXPECT_EQ(addresses.size(), world.host.events.size()) << "none twice";
  EXPECT_GE(world.host.overflows, 1U);
}

}  // namespace
}  // namespace faultline::vm
