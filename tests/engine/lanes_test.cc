// SPDX-License-Identifier: BSD-3-Clause
// EAL can be started once in a process and the cold lane must come before it, so both are tested
// together, in one test of an executable of its own.
#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <set>
#include <thread>

#include "engine/cold_lane.h"
#include "engine/lcore.h"
#include "engine/placement.h"
#include "engine/topology.h"

namespace faultline::engine {
namespace {

TEST(Lanes, PollingLoopsRunOnTheirCpusAndTheColdLaneStaysOffThem) {
  const auto topology = live_topology();
  ASSERT_TRUE(topology) << topology.error().message();
  const auto plan = place(*topology, {{"guest", {}, {}}}, {.shards = 2});
  ASSERT_TRUE(plan) << plan.error().message();

  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  ColdLane cold(plan->housekeeping);
  EXPECT_EQ(cold.concurrency() >= 1, true);

  LcoreOptions options;
  for (const ShardPlan& shard : plan->shards) options.cpus.push_back(shard.cpu);
  options.housekeeping_cpu = plan->housekeeping.front();
  auto lcores = Lcores::start(options);
  ASSERT_TRUE(lcores) << lcores.error().message();
  cpu_set_t after;
  ASSERT_EQ(sched_getaffinity(0, sizeof after, &after), 0);
  EXPECT_TRUE(CPU_EQUAL(&before, &after)) << "EAL must not pin the caller";

  const auto second = Lcores::start(options);
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().what.find("already started"), std::string::npos);

  std::mutex mutex;
  std::vector<std::set<int>> ran(options.cpus.size());
  std::atomic<bool> stop{false};
  std::vector<std::function<void()>> loops;
  for (std::size_t i = 0; i < options.cpus.size(); ++i) {
    loops.emplace_back([&, i] {
      while (!stop.load(std::memory_order_acquire)) {  // pairs with the release below
        {
          const std::lock_guard lock(mutex);
          ran[i].insert(sched_getcpu());
        }
        sched_yield();
      }
    });
  }
  ASSERT_TRUE((*lcores)->launch(std::move(loops)));

  std::set<int> cold_cpus;
  std::set<std::thread::id> cold_threads;
  for (int i = 0; i < 64; ++i) {
    cold.submit([&] {
      const std::lock_guard lock(mutex);
      cold_cpus.insert(sched_getcpu());
      cold_threads.insert(std::this_thread::get_id());
    });
  }
  cold.wait();

  const std::shared_ptr<void> memory = allocate_on_node(4096, 64, plan->node);
  ASSERT_NE(memory, nullptr);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory.get()) % 64, 0U);

  (*lcores)->nudge(0);  // takes a loop out of a call, not out of itself
  (*lcores)->nudge(99);
  stop.store(true, std::memory_order_release);
  (*lcores)->join();
  for (std::size_t i = 0; i < options.cpus.size(); ++i) {
    EXPECT_EQ(ran[i], (std::set<int>{static_cast<int>(options.cpus[i])}));
  }
#if !defined(FAULTLINE_TSAN)
  EXPECT_FALSE(cold_threads.contains(std::this_thread::get_id())) << "the lane must have a worker";
  for (const int cpu : cold_cpus) {
    EXPECT_NE(std::ranges::find(plan->housekeeping, static_cast<unsigned>(cpu)),
              plan->housekeeping.end());
  }
#endif
}

}  // namespace
}  // namespace faultline::engine
