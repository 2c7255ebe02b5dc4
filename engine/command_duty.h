// SPDX-License-Identifier: BSD-3-Clause
// hot path: from the guest's command queue to the sink and back to CMD_SYNC.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "engine/budget.h"
#include "engine/command_counters.h"
#include "engine/control_registers.h"
#include "engine/doorbell.h"
#include "engine/event_link.h"
#include "engine/guest_spec.h"
#include "engine/host_recovery.h"
#include "engine/journal.h"
#include "engine/merge/policy.h"
#include "engine/messages.h"
#include "engine/monitor.h"
#include "engine/stage1_control.h"
#include "engine/stage_cycles.h"
#include "engine/step_call.h"
#include "engine/sync_completion.h"
#include "engine/viommu/command.h"
#include "engine/viommu/command_queue.h"
#include "engine/viommu/feature_set.h"
#include "engine/viommu/guest_memory.h"
#include "engine/viommu/registers.h"
#include "kernel/backend.h"

namespace faultline::engine {

/// What a CommandDuty serves; all of it outlives the duty.
struct CommandDutySetup {
  std::uint32_t guest = 0;  ///< engine's index of the guest, for the cold lane
  const GuestSpec* spec = nullptr;
  const viommu::GuestMemory* memory = nullptr;
  viommu::RegisterPage page;
  viommu::Features features;  ///< as negotiated with the sink
  GuestRings* rings = nullptr;
  Journal* journal = nullptr;  ///< in_use(): the guest is taken over where it stood
};

/// One guest's command queue and control registers.
///
///   registers → fetch → decode → policy → submit → complete SYNCs, advance CONS
///
/// A round submits at most once (merge::kMaxSubmission operations) and handles what the guest's
/// budget allows (budget.h); whatever takes longer happens
/// over several rounds in a Mode of its own, during which nothing is fetched from this guest.
/// CMDQ_CONS passes a command only when it took effect, so after an error, a failure or a restart
/// everything uncovered is fetched again.
///
/// Sink    where operations go; submit() blocks the shard
/// Policy  when they go (engine/merge)
/// Hook    called at every JournalStep
/// Clock   () → Nanos; asked once after a submission, because that takes long
/// thread  constructor: control path. round(): the owning shard. counters(), latency(), detached():
///         any
template <InvalidationSink Sink, merge::SubmissionPolicy Policy, StepHook Hook = NoHook,
          class Clock = MonotonicClock>
class CommandDuty {
 public:
  CommandDuty(const CommandDutySetup& setup, Sink& sink, Policy policy = Policy{},
              Hook hook = Hook{}, Clock clock = Clock{}) noexcept;
  CommandDuty(const CommandDuty&) = delete;
  CommandDuty& operator=(const CommandDuty&) = delete;

  /// returns  the work done; 0: nothing to do now
  /// cost     idle: loads of five registers, the beat, no system call
  std::size_t round(Nanos now) noexcept {
    if (left()) return 0;
    journal_.beat(now);
    if (memory_->poisoned()) [[unlikely]] {
      return 0;
    }
    std::size_t work = link_.poll() + stage1_.poll();
    if (left()) return work;
    if (!registers_.unchanged()) [[unlikely]] {
      work += serve_registers(now);
    }
    if (mode_ == Mode::kRunning && !registers_.busy() && gerror_due_ == 0) [[likely]] {
      return work + run(now);
    }
    return work + serve_rare(now);
  }

  /// Nothing is in flight that a later round has to finish.
  [[nodiscard]] bool quiet() const noexcept {
    return gone() || (at_rest() && syncs_.empty() && !registers_.busy() && !link_.busy());
  }

  // For a shard that shares its core among guests (shard.h).
  [[nodiscard]] Submitted take_submitted() noexcept { return turn_.take(most_submissions_); }
  [[nodiscard]] const void* owner() const noexcept { return owner_; }
  void note_foreign_wait() noexcept { tally(counters_.foreign_waits); }
  /// thread  the control thread
  void set_budget(const Budget& budget) noexcept {
    quantum_.set(std::uint64_t{budget.commands} * budget.weight);
    most_submissions_.set(std::uint64_t{budget.submissions} * budget.weight);
  }

  // For a shard that sleeps (shard_sleep.h).
  [[nodiscard]] std::array<int, 2> wake_fds() const noexcept { return doorbell_.wake_fds(); }
  void drain_signals(Nanos) noexcept { doorbell_.drain(); }
  [[nodiscard]] std::uint64_t blocked_eventfds() const noexcept {
    return syncs_.blocked_eventfds() + (doorbell_.deaf() ? 1 : 0);
  }
  [[nodiscard]] Nanos longest_sleep() const noexcept { return doorbell_.longest_sleep(); }

  /// For a shard that waits for a write: CMDQ_PROD, and CMDQ_CONS and CR0 beside it on its line.
  [[nodiscard]] WatchedLine watched() const noexcept {
    return {&page_.at(viommu::Reg32::kCmdqProd), last_work_};
  }

  /// A page of the guest's memory is gone: the guest is not touched any more.
  [[nodiscard]] bool detached() const noexcept { return memory_->poisoned(); }

  [[nodiscard]] const CommandCounters& counters() const noexcept { return counters_; }
  /// CMD_SYNC: first fetch until told done, ns.
  [[nodiscard]] const Histogram& latency() const noexcept { return syncs_.latency(); }
  [[nodiscard]] const CommandStageCycles& stages() const noexcept { return stages_; }
  [[nodiscard]] const Policy& policy() const noexcept { return policy_; }
  [[nodiscard]] const Stage1Control& stage1() const noexcept { return stage1_; }

 private:
  enum class Mode : std::uint8_t {
    kRunning,
    kConfig,      ///< a stream table change: submit what came before, then change stage 1
    kError,       ///< a command error: submit what came before, then tell
    kRaising,     ///< waiting until the EventDuty has toggled GERROR
    kStopped,     ///< waiting for the guest to acknowledge it in GERRORN
    kResync,      ///< a submission failed: invalidating all of the guest
    kBlocking,    ///< that failed, too: making all devices abort
    kUnblocking,  ///< a later resync worked: giving the devices their stage 1 back
  };
  static constexpr std::size_t kBuffer = 32;
  static constexpr merge::Position kNone = ~merge::Position{0};

  bool step(JournalStep at) noexcept {
    if constexpr (std::same_as<Hook, NoHook>) {
      return false;
    } else {
      return steps_(at);
    }
  }
  /// A step said to leave: whatever this duty would still do, it does not.
  [[nodiscard]] bool left() const noexcept {
    if constexpr (std::same_as<Hook, NoHook>) {
      return false;
    } else {
      return steps_.stopped();
    }
  }
  [[nodiscard]] bool gone() const noexcept { return memory_->poisoned() || left(); }
  [[nodiscard]] bool holds_operations() const noexcept { return policy_.oldest(kNone) != kNone; }

  /// No operation is held, and neither sink nor cold lane is in use.
  [[nodiscard]] bool at_rest() const noexcept {
    return !holds_operations() && refresh_ == 0 &&
           (mode_ == Mode::kRunning || mode_ == Mode::kRaising || mode_ == Mode::kStopped);
  }

  std::size_t run(Nanos now) noexcept {
    timer_.begin();
    timer_.start();
    deficit_.begin(quantum_.get());
    std::size_t work = fetch(now);
    if (left()) return work;
    if (policy_.due(now)) {
      ++work;
      if (!submit_held(now)) return work;
      // What waited only for room (with ForwardEach: the SYNC behind its command) need not wait
      // for another round.
      complete(now);
      timer_.mark(stages_.sync);
      if (mode_ == Mode::kRunning) work += fetch(now);
    }
    work += complete(now);
    if (work != 0) timer_.mark(stages_.sync);
    return work;
  }

  std::size_t fetch(Nanos now) noexcept {
    std::size_t handled = 0;
    while (policy_.room() != 0) {
      if (head_ == tail_ && !refill()) {
        deficit_.drained();
        break;
      }
      if (deficit_.left() == 0) [[unlikely]] {
        if (deficit_.cut()) tally(counters_.commands_cut);
        break;
      }
      if (refresh_ != 0 ? !refresh(now) : !handle(now)) break;
      deficit_.spend();
      ++head_;
      ++handled_;
      ++handled;
    }
    if (handled == 0) return 0;
    tally(counters_.commands, handled);
    last_work_ = now;
    if (timer_.on()) [[unlikely]] {
      timer_.mark(stages_.fetch);
      tally(stages_.commands, handled);
    }
    // A guest that waits for room in its queue gets it, SYNC or not.
    if (handled_ - told_ >= queue_.size() / 2) policy_.flush();
    (void)step(JournalStep::kCommandsFetched);
    return handled;
  }

  /// Copy commands out of the queue, each once.
  bool refill() noexcept {
    // Acquire: the commands below PROD (pairs with the guest's barrier before its register write).
    const std::uint32_t prod = page_.acquire(viommu::Reg32::kCmdqProd);
    if (prod == RegisterGate::kPoison32) [[unlikely]] {
      return false;
    }
    const auto fetched = queue_.fetch(prod, buffer_);
    head_ = 0;
    tail_ = fetched.count;
    if (fetched.error != viommu::CommandError::kNone) [[unlikely]] {
      fail_here(fetched.error);
    }
    return fetched.count != 0;
  }

  /// Handle the command at head_. returns  false: not yet, or not at all
  bool handle(Nanos now) noexcept {
    viommu::Command command;
    const viommu::CommandError error = viommu::decode(buffer_[head_], features_, command);
    if (error != viommu::CommandError::kNone) [[unlikely]] {
      fail_here(error);
      return false;
    }
    switch (command.opcode) {
      case viommu::Opcode::kSync:
        if (syncs_.full()) return false;
        if (atc_late_) [[unlikely]] {
          fail_here(viommu::CommandError::kAtcInvSync);
          return false;
        }
        if (holds_operations()) policy_.add_sync(handled_, now);
        syncs_.add(command, handled_, now);
        tally(counters_.syncs);
        return true;
      case viommu::Opcode::kTlbiNhAll:
      case viommu::Opcode::kTlbiNsnhAll:
      case viommu::Opcode::kTlbiNhAsid:
      case viommu::Opcode::kTlbiNhVa:
      case viommu::Opcode::kTlbiNhVaa:
        ask(viommu::to_operation(command), now);
        return true;
      default:
        return handle_rare(command, now);
    }
  }

  void ask(const Operation& op, Nanos now) noexcept {
    tally(counters_.operations_asked);
    policy_.add(op, handled_, now);
  }

  SubmitResult submit(std::span<const Operation> ops) noexcept {
    const SubmitResult result = sink_->submit(ops);
    turn_.submitted();
    tally(counters_.submissions);
    tally(counters_.operations, ops.size());
    tally(counters_.ioctls, result.calls);
    tally(counters_.host_syncs, result.host_syncs);
    if (result.error != 0) [[unlikely]] {
      tally(counters_.failed_submissions);
    }
    return result;
  }

  /// Submit what is due. `now` moves on by what that took.
  /// returns  false: it failed, or a step said to leave
  bool submit_held(Nanos& now) noexcept {
    const std::span<const Operation> ops = policy_.take(now);
    timer_.mark(stages_.merge);
    const SubmitResult result = submit(ops);
    timer_.mark(stages_.submit);
    now = clock_();
    if (result.error != 0) [[unlikely]] {
      if (!result.atc_timeout) {
        begin_resync(mode_);
        return false;
      }
      begin_atc_error();
    }
    if (step(JournalStep::kCommandsSubmitted)) return false;
    policy_.done(now);
    return true;
  }

  /// Tell the guest what took effect. returns  SYNCs completed
  std::size_t complete(Nanos now) noexcept {
    const merge::Position covered = std::min(policy_.oldest(handled_), stop_at_);
    if (covered == told_ || !queue_.enabled() || gone()) return 0;
    bool left = false;
    const std::size_t completed = syncs_.complete(
        covered, told_, now, [this](JournalStep at) noexcept { return step(at); }, left);
    if (completed != 0) policy_.released(completed, now);
    if (syncs_.take_msi_abort()) gerror_due_ |= viommu::gerror::kMsiCmdqAbt;
    return completed;
  }

  // Rare, in command_duty_rare.h.
  std::size_t serve_registers(Nanos now) noexcept;
  std::size_t serve_rare(Nanos now) noexcept;
  bool handle_rare(const viommu::Command& command, Nanos now) noexcept;
  bool handle_stream(const viommu::Command& command, Nanos now) noexcept;
  bool respond(const viommu::Command& command) noexcept;
  bool handle_ste(const viommu::Command& command, Nanos now) noexcept;
  bool refresh(Nanos now) noexcept;
  void fail_here(viommu::CommandError error) noexcept;
  bool drain(Nanos now) noexcept;
  void serve_config(Nanos now) noexcept;
  void serve_error(Nanos now) noexcept;
  bool serve_stopped() noexcept;
  void begin_atc_error() noexcept;
  void begin_resync(Mode then) noexcept;
  void serve_resync(Nanos now) noexcept;
  void serve_blocking(Nanos now) noexcept;
  void forget_queue() noexcept;
  void recover() noexcept;

  const viommu::GuestMemory* memory_;
  viommu::RegisterPage page_;
  viommu::Features features_;
  Sink* sink_;
  Policy policy_;
  [[no_unique_address]] Hook hook_;
  [[no_unique_address]] Clock clock_;
  StepCall steps_;
  CommandJournal journal_;
  EventJournal event_journal_;  ///< read before the first round only
  Mode mode_ = Mode::kRunning;
  Mode then_ = Mode::kRunning;  ///< after a resync
  viommu::CommandError error_ = viommu::CommandError::kNone;
  bool binding_ = false;             ///< kConfig: the cold lane was asked
  bool atc_late_ = false;            ///< the next SYNC is to be told of an ATC timeout
  std::uint32_t gerror_due_ = 0;     ///< bits to raise beside the command error
  std::uint32_t epoch_ = 0;          ///< of the queue that the positions below are of
  merge::Position handled_ = 0;      ///< commands handed over, or done with
  merge::Position told_ = 0;         ///< commands that CMDQ_CONS has passed
  merge::Position stop_at_ = kNone;  ///< CMDQ_CONS does not pass this command
  DeviceSet config_ = 0;             ///< kConfig: devices of the CFGI_STE at head_
  DeviceSet refresh_ = 0;            ///< of the CFGI_STE at head_: contexts still to be invalidated
  std::size_t head_ = 0;
  std::size_t tail_ = 0;
  std::array<viommu::RawCommand, kBuffer> buffer_{};  ///< [head_, tail_): copied, not handled

  Limit quantum_;
  Limit most_submissions_;
  Deficit deficit_;  ///< in commands
  SubmissionTurn turn_;
  const void* owner_;  ///< the guest
  CommandCounters counters_;
  CommandStageCycles stages_;
  StageTimer timer_;
  viommu::CommandQueue queue_;
  EventLink link_;
  Stage1Control stage1_;
  ControlRegisters registers_;
  SyncCompletion syncs_;
  HostRecovery recovery_;
  Nanos last_work_ = 0;  ///< when commands were fetched last
  Doorbell doorbell_;
};

}  // namespace faultline::engine

#include "engine/command_duty_rare.h"
