// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "engine/cold_lane.h"
#include "engine/guest.h"
#include "engine/idle.h"
#include "engine/journal.h"
#include "engine/lcore.h"
#include "engine/placement.h"
#include "engine/run_loop.h"
#include "engine/snapshot.h"

namespace faultline::engine {

/// Who runs the polling loops: loops[i] on the CPU of shard i of the plan.
struct Launcher {
  std::function<Result<void>(std::vector<std::function<void()>> loops)> launch;
  std::function<void()> join;                        ///< returns when every loop has returned
  std::function<void(std::size_t loop)> nudge = {};  ///< as nudge.h says; may be missing
};

/// The loops on DPDK's lcores, started for the CPUs of the plan's shards.
[[nodiscard]] Launcher on_lcores(Lcores& lcores);
/// The loops on plain threads, wherever the scheduler puts them: for tests.
[[nodiscard]] Launcher on_threads();

struct EngineOptions {
  std::optional<IdlePolicy> idle;  ///< unset: by whether the shard has its core for itself
  IdleOptions sleep;               ///< of IdlePolicy::kSleep: when and for how long
  Plant plant = Plant::kNone;
  viommu::Features features;  ///< what to offer guests, less what their sink cannot do
};

/// What a journal must be of to serve this guest: a number made of its register page and its
/// devices' StreamIDs.
[[nodiscard]] std::uint64_t identity_of(const GuestSpec& spec) noexcept;

/// A fresh journal for a guest. The supervisor keeps its descriptor.
[[nodiscard]] Result<Journal> create_journal(const GuestSpec& spec);

/// Is this a guest that can be served, and is this its journal? errors: one line for the operator
[[nodiscard]] Result<void> check_guest(const GuestSpec& spec, std::size_t sources,
                                       const Journal& journal);

/// What is said of a budget that is not valid().
inline constexpr const char* kBudgetRule =
    "a budget is 1 to 65536 commands, records and submissions, and a weight of 1 to 256";

/// Keep the calling thread off the polling CPUs. Best effort: an empty list changes nothing.
void stay_on(const std::vector<unsigned>& cpus) noexcept;

/// The engine: guests, their duties, the shards that poll them and the control thread that serves
/// the rest. Everything about a guest is in its Guest object; everything about a core in its Shard.
///
/// Sources, Sink  one of each per guest, moved in
/// Hook           copied into every duty
/// thread         one control thread calls everything here; snapshot() any thread
template <FaultSourceSet Sources, InvalidationSink Sink, StepHook Hook = NoHook>
class Engine {
 public:
  using GuestType = Guest<Sources, Sink, Hook>;
  using CoreShard = typename DutyTypes<Sources, Sink, Hook>::CoreShard;

  /// lane   made before EAL was started; outlives the engine
  explicit Engine(ColdLane& lane, EngineOptions options = {}, Hook hook = {})
      : lane_(&lane), options_(std::move(options)), hook_(std::move(hook)) {}
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  ~Engine() { (void)stop(); }

  /// Take a guest on: fresh, or where its journal says that an engine was killed (the fault sources
  /// then stand at EventJournal::resume_position()). From the return on nothing that was journalled
  /// can be lost; it is served from start() on, or at once when the engine runs.
  ///
  /// place   of a running engine: its shards; unset: those with the fewest duties. Before start()
  ///         it is the plan that says
  /// errors  a spec, memory map, journal or place that makes no sense; two guests of one name; a
  ///         shard that does not answer (ETIMEDOUT: nothing of the guest is left on it)
  Result<void> add_guest(GuestSpec spec, Sources sources, Sink sink, Journal& journal,
                         const std::optional<GuestPlan>& place = {});

  /// Let the shards of the plan run. Without guests they poll nothing until one is added.
  /// errors  a guest without a place in the plan; an idle policy that this CPU has not got;
  ///         whatever the launcher says
  Result<void> start(const Plan& plan, Launcher launcher);

  /// Take a guest off its shards. Its journal is then that of a killed engine: add_guest() resumes.
  Result<void> remove_guest(const std::string& name);

  /// Take a guest's duties off their shards and finish what the cold lane does for it. From the
  /// return to resume_guest() the engine touches neither its memory nor its kernel objects: what
  /// comes stays in the kernel's rings and the guest's queues, what was under way stays in the
  /// duties. Its journal does not beat.
  ///
  /// errors  no such guest; paused already; a shard that does not answer (it then still runs)
  Result<void> pause_guest(const std::string& name);
  /// Put its duties back; they go on where they stood.
  /// errors  no such guest; not paused; a shard that does not answer (it is then still paused)
  Result<void> resume_guest(const std::string& name);
  /// Give a guest another budget, while it is served. Relaxed stores that its duties read at the
  /// beginning of a round (Limit in budget.h): each limit is the old or the new one, whole.
  ///
  /// errors  no such guest; a budget that makes no sense
  Result<void> set_budget(const std::string& name, const Budget& budget);

  /// Names of guests whose VMM made an eventfd block a shard: with `all` those that are here, and
  /// those that were removed since the last call.
  std::vector<std::string> take_blocked(bool all) {
    std::vector<std::string> names = std::exchange(blocked_gone_, {});
    for (const auto& guest : guests_) {
      if (all && guest->blocked_eventfds() != 0) names.push_back(guest->spec().name);
    }
    return names;
  }

  /// Move duties of a running engine to the shards that a plan names for their guests. A duty that
  /// moves rests for some 100 µs; what it holds, and what stays in the kernel meanwhile, goes with
  /// it. Guests that the plan does not name stay.
  ///
  /// plan     for the shards that run: as many, on the same CPUs
  /// returns  duties moved
  /// errors   another plan's shards; a shard that does not answer. What had moved until then stays
  ///          moved, and each duty is on one shard
  Result<unsigned> rebalance(const Plan& plan);

  /// Stop polling when everything in flight is finished: no fault is lost (what has not been taken
  /// stays in the kernel's ring) and every CONS is journalled.
  ///
  /// errors  a shard did not come to rest within its time; it is stopped all the same
  Result<void> stop();

  [[nodiscard]] bool running() const noexcept { return running_; }
  [[nodiscard]] EngineSnapshot snapshot() const;

  /// When the shard began a round that has not done so for longest, by CLOCK_MONOTONIC; of an
  /// engine that does not run: now. A shard that is well is never further back than its longest
  /// sleep (EngineOptions::sleep.longest) and one round.
  /// thread  the control thread
  [[nodiscard]] Nanos oldest_beat() const noexcept;

  /// Take the shards that have not begun a round since `before` out of whatever system call blocks
  /// them (nudge.h). One that was only slow makes its call again, but for those on a guest's
  /// descriptors.
  ///
  /// before   CLOCK_MONOTONIC; further back than EngineOptions::sleep.longest
  /// returns  how many
  /// thread   the control thread
  unsigned nudge_stalled(Nanos before) noexcept;

 private:
  static constexpr Nanos kAckNs = 2'000'000'000;
  static constexpr Nanos kColdPollNs = 500'000;
  static constexpr Nanos kColdSleepNs = 8'000'000;  ///< where shards sleep and nothing comes
  static constexpr Nanos kNudgeEveryNs = 10'000'000;

  /// kEndless: for the way back after an error. A shard that never answers is for the watchdog.
  enum class Patience : std::uint8_t { kSome, kEndless };

  Result<void> place_guest(GuestType& guest, const GuestPlan& plan);
  /// errors  it did not answer within kAckNs: the message was taken back
  Result<void> tell(std::size_t shard, ShardMessage message, Patience patience);
  /// Until done(), with shards that hang in a system call taken out of it.
  template <class Done>
  void wait_for_shards(Done&& done);
  /// `at` is the duty's shard: changed when it took effect. returns  whether it had to move
  template <class D>
  Result<bool> move_duty(D& duty, std::size_t& at, std::size_t to);
  template <class D>
  Result<void> change(std::size_t shard, ShardMessage::Kind kind, D& duty,
                      Patience patience = Patience::kSome);
  Result<void> change_duties(GuestType& guest, ShardMessage::Kind kind);
  [[nodiscard]] Result<GuestType*> find_guest(const std::string& name);
  [[nodiscard]] GuestPlan least_loaded() const;
  void serve_cold_work(const std::vector<unsigned>& housekeeping);

  ColdLane* lane_;
  EngineOptions options_;
  Hook hook_;
  mutable std::mutex mutex_;  ///< of guests_; never taken by a shard
  std::vector<std::unique_ptr<GuestType>> guests_;
  std::vector<std::string> blocked_gone_;  ///< for take_blocked()
  std::uint32_t next_index_ = 0;
  std::vector<std::unique_ptr<CoreShard>> shards_;
  Plan plan_;
  Launcher launcher_;
  std::thread control_;
  std::atomic<bool> control_stop_{false};
  std::uint64_t token_ = 0;
  bool running_ = false;
  Nanos started_ = 0;
};

}  // namespace faultline::engine

#include "engine/engine_control.h"
#include "engine/engine_duties.h"
