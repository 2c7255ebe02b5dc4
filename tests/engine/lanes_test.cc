// SPDX-License-Identifier: BSD-3-Clause
// EAL can be started once in a process and the cold lane must come before it, so both are tested
// together, in one test of an executable of its own.
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "engine/cold_lane.h"
#include "engine/lcore.h"
#include "engine/placement.h"
#include "engine/topology.h"

namespace faultline::engine {
namespace {

/// Every thread of the process but this one waits for something.
bool others_wait() {
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    if (task.path().filename() == std::to_string(gettid())) continue;
    std::ifstream file(task.path() / "stat");
    const std::string stat(std::istreambuf_iterator<char>(file), {});
    const std::size_t name_end = stat.rfind(')');  // 1234 (name) S …
    if (name_end != std::string::npos && stat.substr(name_end + 2, 1) == "R") return false;
  }
  return true;
}

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
  std::atomic<bool> rest{false};
  std::vector<std::function<void()>> loops;
  for (std::size_t i = 0; i < options.cpus.size(); ++i) {
    loops.emplace_back([&, i] {
      while (!stop.load(std::memory_order_acquire)) {  // pairs with the release below
        {
          const std::lock_guard lock(mutex);
          ran[i].insert(sched_getcpu());
        }
        rest.load() ? ::usleep(5000) : sched_yield();
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

  // Who waits for the loops does not take a core for it.
  rest.store(true);
  bool waited = false;
  for (int tries = 0; tries < 20'000 && !waited; ++tries) {
    waited = others_wait();
    ::usleep(500);
  }
  EXPECT_TRUE(waited) << "a thread beside the loops polls";

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
