// SPDX-License-Identifier: BSD-3-Clause
#include "engine/lcore.h"

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>

namespace faultline::engine {
namespace {

// EAL can be initialised once in the life of a process.
std::atomic<bool> g_started{false};
std::atomic<bool> g_usable{false};
std::atomic<std::size_t> g_ended{0};  // loops that returned

int run_loop_of_lcore(void* loop) {
  (*static_cast<std::function<void()>*>(loop))();
  // EAL orders this too, but in a library that the thread sanitizer cannot look into.
  g_ended.fetch_add(1, std::memory_order_release);  // pairs with the acquire in State::run()
  return 0;
}

std::vector<std::string> eal_arguments(const LcoreOptions& options) {
  // Lcore 0 is the main one; polling lcore i is number i + 1. The N@C form lets lcores share CPUs.
  std::string lcores = std::string("0@").append(std::to_string(options.housekeeping_cpu));
  for (std::size_t i = 0; i < options.cpus.size(); ++i) {
    lcores.append(",").append(std::to_string(i + 1));
    lcores.append("@").append(std::to_string(options.cpus[i]));
  }
  std::vector<std::string> arguments{
      "faultline",
      "--lcores",
      lcores,
      "--main-lcore",
      "0",
      "--no-pci",
      "--no-telemetry",
      "--log-level",
      "lib.eal:error",
      "--file-prefix",
      options.file_prefix.empty() ? "faultline-" + std::to_string(getpid()) : options.file_prefix};
  if (!options.hugepages) {
    for (const char* word : {"--no-huge", "--no-shconf", "-m", "64"}) arguments.emplace_back(word);
  }
  return arguments;
}

}  // namespace

struct Lcores::State {
  std::thread main_lcore;
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::function<void()>> loops;
  std::size_t lcores = 0;
  int eal = 0;  ///< errno of the initialisation
  bool initialised = false;
  bool launched = false;  ///< the loops were handed over
  bool running = false;   ///< ... and started
  bool done = false;      ///< ... and have all returned
  bool leave = false;

  void run(LcoreOptions options);
};

void Lcores::State::run(LcoreOptions options) {
  std::vector<std::string> arguments = eal_arguments(options);
  std::vector<char*> argv;
  argv.reserve(arguments.size());
  for (std::string& argument : arguments) argv.push_back(argument.data());
  const int rc = rte_eal_init(static_cast<int>(argv.size()), argv.data());

  std::unique_lock lock(mutex);
  eal = rc < 0 ? (rte_errno != 0 ? rte_errno : EINVAL) : 0;
  initialised = true;
  g_usable.store(rc >= 0);
  changed.notify_all();
  if (rc < 0) return;

  changed.wait(lock, [&] { return launched || leave; });
  if (launched) {
    for (std::size_t i = 0; i < loops.size(); ++i) {
      rte_eal_remote_launch(run_loop_of_lcore, &loops[i], static_cast<unsigned>(i + 1));
    }
    running = true;
    changed.notify_all();
    lock.unlock();
    rte_eal_mp_wait_lcore();
    // pairs with the release in run_loop_of_lcore(): all that the loops did is before this.
    static_cast<void>(g_ended.load(std::memory_order_acquire));
    lock.lock();
    done = true;
    changed.notify_all();
    changed.wait(lock, [&] { return leave; });
  }
  lock.unlock();
  g_usable.store(false);
  rte_eal_cleanup();
}

Result<std::unique_ptr<Lcores>> Lcores::start(const LcoreOptions& options) {
  if (options.cpus.empty()) return fail(0, "lcores: no CPU to poll on");
  if (options.cpus.size() >= RTE_MAX_LCORE) {
    return fail(0, "lcores: " + std::to_string(options.cpus.size()) + " shards, DPDK takes " +
                       std::to_string(RTE_MAX_LCORE - 1));
  }
  if (access("/sys/devices/system/cpu", R_OK) != 0) {
    return fail(errno, "lcores: DPDK finds the CPUs in /sys/devices/system/cpu");
  }
  if (g_started.exchange(true)) {
    return fail(0, "lcores: DPDK's EAL was already started in this process");
  }
  std::unique_ptr<Lcores> lcores(new Lcores);
  lcores->state_ = std::make_unique<State>();
  State& state = *lcores->state_;
  state.lcores = options.cpus.size();
  state.main_lcore = std::thread([&state, options] { state.run(options); });
  std::unique_lock lock(state.mutex);
  state.changed.wait(lock, [&] { return state.initialised; });
  if (state.eal != 0) {
    const int error = state.eal;
    lock.unlock();
    return fail(error, "lcores: DPDK's EAL does not start");
  }
  return lcores;
}

Result<void> Lcores::launch(std::vector<std::function<void()>> loops) {
  State& state = *state_;
  std::unique_lock lock(state.mutex);
  if (state.launched) return fail(0, "lcores: launched before");
  if (loops.size() > state.lcores) {
    return fail(0, "lcores: " + std::to_string(loops.size()) + " loops for " +
                       std::to_string(state.lcores) + " lcores");
  }
  state.loops = std::move(loops);
  state.launched = true;
  state.changed.notify_all();
  state.changed.wait(lock, [&] { return state.running; });
  return {};
}

void Lcores::join() {
  State& state = *state_;
  std::unique_lock lock(state.mutex);
  if (!state.launched) return;
  state.changed.wait(lock, [&] { return state.done; });
}

Lcores::~Lcores() {
  if (state_ == nullptr) return;
  if (state_->eal == 0) join();
  {
    const std::lock_guard lock(state_->mutex);
    state_->leave = true;
    state_->changed.notify_all();
  }
  if (state_->main_lcore.joinable()) state_->main_lcore.join();
}

std::shared_ptr<void> allocate_on_node(std::size_t size, std::size_t align, unsigned node) {
  if (g_usable.load()) {
    if (void* p = rte_zmalloc_socket("faultline", size, static_cast<unsigned>(align),
                                     static_cast<int>(node))) {
      // After EAL's clean-up the memory is gone with it.
      return {p, [](void* at) {
                if (g_usable.load()) rte_free(at);
              }};
    }
  }
  void* p = std::aligned_alloc(align, (size + align - 1) / align * align);
  if (p == nullptr) return nullptr;
  std::memset(p, 0, size);
  return {p, [](void* at) { std::free(at); }};
}

}  // namespace faultline::engine
