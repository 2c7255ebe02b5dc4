// SPDX-License-Identifier: BSD-3-Clause
// What invalidations cost in calls. Counts mean something here; times do so only as ratios, since
// both the machine and its SMMU are emulated.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "apps/guest/player.h"
#include "apps/guest/trace.h"
#include "kernel/base/histogram.h"
#include "tests/vm/tampering_sys.h"
#include "tests/vm/vm_engine.h"

namespace faultline::vm {
namespace {

struct Cost {
  std::uint64_t commands = 0;
  std::uint64_t ioctls = 0;
  std::uint64_t host_syncs = 0;
  std::uint64_t seen = 0;  ///< ioctls that the seam saw
  std::uint64_t entries = 0;
  std::uint32_t largest = 0;
};

/// The first doorbells of a recorded trace, up to so many commands.
guest::Trace head_of_trace(const std::string& name, std::size_t commands) {
  const char* root = std::getenv("FAULTLINE_SOURCE_ROOT");  // NOLINT(concurrency-mt-unsafe)
  auto trace =
      guest::read_trace(std::string(root != nullptr ? root : ".") + "/tests/data/traces/" + name);
  if (!trace) std::abort();
  while (!trace->doorbells.empty() &&
         trace->doorbells.back().first + trace->doorbells.back().count > commands) {
    trace->doorbells.pop_back();
  }
  const guest::Doorbell& last = trace->doorbells.back();
  trace->commands.resize(last.first + last.count);
  return std::move(*trace);
}

template <class Policy>
Cost cost_of(const guest::Trace& trace) {
  World<TamperingSys, Policy> world;
  EXPECT_EQ(world.error(), "");
  Cost cost;
  if (!world.error().empty()) return cost;
  const auto before = world.engine->counters();
  const std::uint64_t seen = world.host.sys.invalidations;
  const std::uint64_t entries = world.host.sys.entries;
  Histogram latency;
  guest::Player::Options play;
  play.loops = 1;
  guest::Player player(trace, world.host.driver->commands(), latency, play);
  while (!player.finished() || !world.host.driver->commands().empty()) {
    world.host.driver->commands().poll();
    player.step(monotonic_ns(), true);
    world.engine->round();
  }
  const auto after = world.engine->counters();
  cost.commands = after.commands - before.commands;
  cost.ioctls = after.ioctls - before.ioctls;
  cost.host_syncs = after.host_syncs - before.host_syncs;
  cost.seen = world.host.sys.invalidations - seen;
  cost.entries = world.host.sys.entries - entries;
  cost.largest = world.host.sys.largest;
  EXPECT_EQ(after.failed_submissions, 0U);
  EXPECT_EQ(world.host.driver->commands().violations(), 0U);
  return cost;
}

void show(const char* policy, const Cost& c) {
  const auto per_1000 = [&](std::uint64_t n) {
    return 1000.0 * static_cast<double>(n) / static_cast<double>(c.commands);
  };
  std::printf("| %-16s | %8llu | %12.1f | %17.1f | %13llu |\n", policy,
              static_cast<unsigned long long>(c.commands), per_1000(c.ioctls),
              per_1000(c.host_syncs), static_cast<unsigned long long>(c.largest));
}

TEST(IommufdCost, OfARecordedTraceFallsFromPolicyToPolicy) {
  for (const char* name : {"mixed-strict-8", "nvme-lazy-4"}) {
    const guest::Trace trace = head_of_trace(name, 3000);
    const Cost each = cost_of<merge::ForwardEach>(trace);
    const Cost batch = cost_of<merge::BatchUntilSync>(trace);
    const Cost merged = cost_of<merge::Merge>(trace);
    std::printf("| trace %s, %u vCPUs\n", name, trace.vcpus);
    std::printf(
        "| policy           | commands | ioctls/1,000 | host syncs/1,000 | largest array |\n");
    show("forward-each", each);
    show("batch-until-sync", batch);
    show("merge", merged);
    for (const Cost& c : {each, batch, merged}) {
      EXPECT_EQ(c.seen, c.ioctls) << "the engine counts what the kernel gets";
      EXPECT_EQ(c.commands, each.commands);
    }
    EXPECT_LE(batch.ioctls, each.ioctls);
    EXPECT_LT(merged.ioctls, each.ioctls);
    EXPECT_LE(merged.ioctls, batch.ioctls);
  }
}

TEST(IommufdCost, OneArrayOf64CostsOneCallWhere64CallsCost64) {
  World<TamperingSys, merge::Merge> world;
  ASSERT_EQ(world.error(), "");
  TamperingSys& sys = world.host.sys;
  std::array<uapi::iommu_viommu_arm_smmuv3_invalidate, 64> commands;
  for (std::size_t i = 0; i < commands.size(); ++i) {
    const auto c = guest::tlbi_va(0x77, Iova{0x7000'0000 + 0x2000 * i});
    commands[i] = {{c.word[0], c.word[1]}};
  }
  const auto submit = [&](std::size_t from, std::size_t n) {
    uapi::iommu_hwpt_invalidate i{};
    i.size = sizeof i;
    i.hwpt_id = world.host.iommu->viommu();
    i.data_uptr = reinterpret_cast<std::uintptr_t>(&commands[from]);
    i.data_type = uapi::kIommuViommuInvalidateDataArmSmmuv3;
    i.entry_len = sizeof commands[0];
    i.entry_num = static_cast<std::uint32_t>(n);
    ASSERT_EQ(sys.ioctl(world.host.iommu->iommufd(), uapi::kIommuHwptInvalidate, &i), 0);
    ASSERT_EQ(i.entry_num, n);
  };
  constexpr std::size_t kTimes = 31;
  std::vector<double> ratios;
  const std::uint64_t before = sys.invalidations;
  for (std::size_t t = 0; t < kTimes; ++t) {
    const Nanos start = monotonic_ns();
    submit(0, 64);
    const Nanos between = monotonic_ns();
    for (std::size_t i = 0; i < 64; ++i) submit(i, 1);
    const Nanos end = monotonic_ns();
    ratios.push_back(static_cast<double>(end - between) / static_cast<double>(between - start));
  }
  EXPECT_EQ(sys.invalidations - before, kTimes * 65);
  std::sort(ratios.begin(), ratios.end());
  std::printf(
      "| 64 ioctls of one command take %.1f times as long as one ioctl of 64 (median of %zu)\n",
      ratios[kTimes / 2], kTimes);
}

}  // namespace
}  // namespace faultline::vm
