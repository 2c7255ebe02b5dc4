// SPDX-License-Identifier: BSD-3-Clause
#include "engine/cold_lane.h"

#include <pthread.h>
#include <sched.h>
#include <tbb/global_control.h>
#include <tbb/task_arena.h>
#include <tbb/task_group.h>
#include <tbb/task_scheduler_observer.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <new>
#include <utility>

namespace faultline::engine {

#if defined(FAULTLINE_TSAN)

struct ColdLane::State {};
ColdLane::ColdLane(std::vector<unsigned>) : state_(std::make_unique<State>()) {}
ColdLane::~ColdLane() = default;
void ColdLane::submit(std::function<void()> task) {
  task();
}
void ColdLane::wait() {}
unsigned ColdLane::concurrency() const {
  return 1;
}

#else

namespace {

/// oneTBB's workers, ended before the lane is gone: a worker that still leaves the arena holds
/// memory of oneTBB, which the leak sanitizer rightly reports.
class Workers final {
 public:
  Workers() = default;
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;
  // Another lane may be alive; then the last of them ends the workers.
  ~Workers() { tbb::finalize(handle_, std::nothrow); }

 private:
  tbb::task_scheduler_handle handle_{tbb::attach{}};
};

/// Binds every worker that enters the arena; a thread that leaves gets its affinity back.
class Pin final : public tbb::task_scheduler_observer {
 public:
  Pin(tbb::task_arena& arena, const std::vector<unsigned>& cpus)
      : tbb::task_scheduler_observer(arena) {
    CPU_ZERO(&cpus_);
    for (const unsigned cpu : cpus) {
      if (cpu < CPU_SETSIZE) CPU_SET(cpu, &cpus_);
    }
    observe(true);
  }
  ~Pin() override { observe(false); }

  void on_scheduler_entry(bool is_worker) override {
    if (is_worker) pthread_setaffinity_np(pthread_self(), sizeof cpus_, &cpus_);
  }

 private:
  cpu_set_t cpus_{};
};

}  // namespace

struct ColdLane::State {
  explicit State(const std::vector<unsigned>& cpus)
      : width(static_cast<unsigned>(std::max<std::size_t>(1, cpus.size()))),
        // One more than the workers asked: oneTBB counts the calling thread in.
        parallelism(tbb::global_control::max_allowed_parallelism, width + 1),
        arena(static_cast<int>(width), /*reserved_for_masters=*/0),
        pin(arena, cpus) {
    arena.initialize();
  }

  unsigned width;
  Workers workers;  // constructed before, and so destroyed after, what uses them
  tbb::global_control parallelism;
  tbb::task_arena arena;
  Pin pin;
  std::mutex mutex;
  std::condition_variable idle;
  std::size_t open = 0;
};

ColdLane::ColdLane(std::vector<unsigned> housekeeping)
    : state_(std::make_unique<State>(housekeeping)) {}

ColdLane::~ColdLane() {
  wait();
}

void ColdLane::submit(std::function<void()> task) {
  State& state = *state_;
  {
    const std::lock_guard lock(state.mutex);
    ++state.open;
  }
  state.arena.enqueue([&state, task = std::move(task)] {
    task();
    const std::lock_guard lock(state.mutex);
    if (--state.open == 0) state.idle.notify_all();
  });
}

void ColdLane::wait() {
  std::unique_lock lock(state_->mutex);
  state_->idle.wait(lock, [this] { return state_->open == 0; });
}

unsigned ColdLane::concurrency() const {
  return state_->width;
}

#endif

}  // namespace faultline::engine
