// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <array>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <variant>

#include "engine/command_duty.h"
#include "engine/event_duty.h"
#include "engine/merge/batch_until_sync.h"
#include "engine/merge/forward_each.h"
#include "tests/fuzz/guest.h"

// Both duties of one guest between a guest, a kernel and a cold lane that may do anything.

namespace faultline::fuzz {

using viommu::Reg32;
using viommu::Reg64;

/// A kernel that refuses now and then and checks what it is asked.
struct World;
struct HostileSink {
  World* world;
  SinkCaps caps() noexcept { return {.max_batch = 63, .tlb_all = true, .config_caches = true}; }
  SubmitResult submit(std::span<const Operation> ops) noexcept;
  void note_asid(std::size_t, std::uint16_t) noexcept {}
  SubmitResult set_stage1(std::size_t device, const Stage1Config& config) noexcept;
};

/// Fault records without end, a few at a time.
struct HostileSources {
  World* world;
  [[nodiscard]] std::size_t size() const noexcept;
  std::size_t poll(std::size_t i, std::span<FaultRecord> out) noexcept;
  [[nodiscard]] SourcePosition position(std::size_t) const noexcept { return {7, 7}; }
  int commit(std::size_t i) noexcept {
    hold(i < size(), "a source that is not there");
    return 0;
  }
  SourceLoss take_loss(std::size_t i) noexcept;
  std::size_t housekeeping(Nanos) noexcept { return 0; }
};

struct WorldClock {
  Nanos* now;
  Nanos operator()() const noexcept { return *now; }
};

/// A kill at the nth passing of a step.
struct KillAt {
  struct Plan {
    std::uint8_t step = 0xff;
    int left = 0;
    bool fired = false;
  };
  Plan* plan;
  bool operator()(engine::JournalStep at) const noexcept {
    if (static_cast<std::uint8_t>(at) == plan->step && --plan->left == 0) plan->fired = true;
    return plan->fired;
  }
};

/// Everything outside of the duties. The memory is made once for all runs.
struct World {
  static constexpr std::uint64_t kRam = 0x4000'0000;
  static constexpr std::size_t kRamBytes = 0x8000;
  /// Addresses with this bit are where a guest that means well never points to.
  static constexpr std::uint64_t kFar = std::uint64_t{1} << 47;
  static constexpr std::uint64_t kRegisters = kFar;
  static constexpr std::uint64_t kCanary = kFar + 0x100'0000;
  static constexpr std::size_t kDevices = 2;

  static GuardedMemory& memory() {
    static GuardedMemory made{
        {kRegisters, viommu::kRegisterBytes}, {kRam, kRamBytes}, {kCanary, 0x1000}};
    return made;
  }

  World(const viommu::Features& f, engine::RegisterMode mode)
      : features(f), page(*viommu::RegisterPage::map(memory().get(), Gpa{kRegisters})) {
    memory().clear();
    spec.mode = mode;
    for (std::size_t i = 0; i < kDevices; ++i) spec.devices.push_back({"d", StreamId{sid(i)}});
  }
  static constexpr std::uint32_t sid(std::size_t i) {
    return 1 + 2 * static_cast<std::uint32_t>(i);
  }

  engine::GuestSpec spec;
  viommu::Features features;
  viommu::RegisterPage page;
  std::optional<engine::Journal> journal;
  std::optional<engine::GuestRings> rings{std::in_place};
  std::array<Stage1Config, kDevices> bound{};
  std::array<std::size_t, kDevices> waiting{};  ///< records to come
  std::size_t losses = 0;
  FaultRecord record;
  KillAt::Plan plan;
  Nanos now = 1000;
  int refuse_submit = 0;
  bool devices_silent = false;  ///< what is refused are ATC invalidations that timed out
  int refuse_stage1 = 0;
};

inline SubmitResult HostileSink::submit(std::span<const Operation> ops) noexcept {
  hold(!ops.empty() && ops.size() <= merge::kMaxSubmission, "the size of a submission");
  for (const Operation& op : ops) {
    if (op.kind == OperationKind::kTlbVa || op.kind == OperationKind::kTlbVaa) {
      hold(op.pages != 0 && op.granule_log2 >= 12, "an empty range is invalidated");
    }
    if (op.kind >= OperationKind::kCfgCd) {
      hold(op.sid == World::sid(0) || op.sid == World::sid(1), "a stream that is not the guest's");
    }
  }
  if (world->refuse_submit == 0) return {0, 1, 1};
  --world->refuse_submit;
  SubmitResult result{EIO, 1, 0};
  result.atc_timeout = world->devices_silent;
  return result;
}
inline SubmitResult HostileSink::set_stage1(std::size_t device,
                                            const Stage1Config& config) noexcept {
  hold(device < World::kDevices, "a device that is not there");
  if (world->refuse_stage1 > 0) {
    --world->refuse_stage1;
    return {EINVAL, 1, 0};
  }
  world->bound[device] = config;
  return {0, 1, 0};
}
inline std::size_t HostileSources::size() const noexcept {
  return World::kDevices;
}
inline std::size_t HostileSources::poll(std::size_t i, std::span<FaultRecord> out) noexcept {
  const std::size_t n = std::min(world->waiting[i], out.size());
  std::fill_n(out.begin(), n, world->record);
  world->waiting[i] -= n;
  return n;
}
inline SourceLoss HostileSources::take_loss(std::size_t) noexcept {
  return {.exact = std::exchange(world->losses, 0U), .possible = 0};
}

/// The engine of this guest; it may be killed and started again on the same world.
class Duties {
 public:
  template <class Policy>
  using Command = engine::CommandDuty<HostileSink, Policy, KillAt, WorldClock>;
  using Event = engine::EventDuty<HostileSources, KillAt, WorldClock>;

  Duties(World& world, bool forward_each)
      : world_(&world), forward_each_(forward_each), sink_{&world}, sources_{&world} {
    start();
  }

  void restart() {
    command_ = {};
    event_.reset();
    world_->rings.emplace();
    world_->plan = {};
    start();
  }

  /// One round of everything.
  void round(bool events = true, bool cold = true) {
    World& w = *world_;
    w.now += 100'000;
    std::visit(
        [&](auto& duty) { hold(!duty || duty->round(w.now) < 10'000, "a round without end"); },
        command_);
    if (events) hold(event_->round(w.now) < 10'000, "a round without end");
    engine::Stage1Job job;
    while (cold && w.rings->to_cold.pop(job)) {
      const SubmitResult result = sink_.set_stage1(job.device, job.config);
      hold(w.rings->from_cold.push({job.guest, job.device, result}), "no room for an answer");
    }
    if (w.plan.fired) restart();
  }
  void settle(int rounds = 150) {
    world_->plan = {};
    for (int i = 0; i < rounds; ++i) round();
  }
  [[nodiscard]] bool quiet() const {
    return std::visit([](const auto& duty) { return duty && duty->quiet(); }, command_) &&
           event_->quiet();
  }

 private:
  void start() {
    World& w = *world_;
    engine::EventDutySetup setup;
    setup.memory = &World::memory().get();
    setup.page = w.page;
    setup.mode = w.spec.mode;
    for (const auto& device : w.spec.devices) setup.vsids.push_back(device.vsid);
    setup.rings = &*w.rings;
    event_.emplace(sources_, std::move(setup), w.journal->event(), KillAt{&w.plan},
                   WorldClock{&w.now});
    if (w.journal->in_use()) event_->resume();
    if (forward_each_) {
      make<merge::ForwardEach>();
    } else {
      make<merge::BatchUntilSync>();
    }
    w.journal->set_in_use();
  }
  template <class Policy>
  void make() {
    World& w = *world_;
    const engine::CommandDutySetup setup{
        0, &w.spec, &World::memory().get(), w.page, w.features, &*w.rings, &*w.journal};
    command_ = std::make_unique<Command<Policy>>(setup, sink_, Policy{}, KillAt{&w.plan},
                                                 WorldClock{&w.now});
  }

  World* world_;
  bool forward_each_;
  HostileSink sink_;
  HostileSources sources_;
  std::optional<Event> event_;
  std::variant<std::unique_ptr<Command<merge::BatchUntilSync>>,
               std::unique_ptr<Command<merge::ForwardEach>>>
      command_;
};

}  // namespace faultline::fuzz
