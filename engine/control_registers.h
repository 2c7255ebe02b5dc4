// SPDX-License-Identifier: BSD-3-Clause
// hot path: unchanged() is three loads; the rest runs when the guest changes a control register.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/command_counters.h"
#include "engine/event_link.h"
#include "engine/guest_spec.h"
#include "engine/journal.h"
#include "engine/register_gate.h"
#include "engine/stage1_control.h"
#include "engine/step_call.h"
#include "engine/viommu/command_queue.h"
#include "engine/viommu/feature_set.h"
#include "engine/viommu/guest_memory.h"
#include "engine/viommu/registers.h"

namespace faultline::engine {

/// The control registers of one virtual SMMU: each change that the guest makes is carried out
/// completely, then acknowledged.
///
///   CR0       → queues on and off, stage 1 by stream table or by GBPA → CR0ACK
///   IRQ_CTRL  → EventDuty → IRQ_CTRLACK
///   GBPA      → where SMMUEN is off, stage 1 of every device → UPDATE = 0
///
/// One change at a time; what the guest writes meanwhile is looked at afterwards. Registers that
/// the engine owns are never read back: what they say is here and in the journal.
///
/// thread  the shard that owns the guest's CommandDuty
/// source  Arm IHI 0070, 6.3.9 (CR0), 6.3.15 (GBPA), 6.3.16 (IRQ_CTRL)
class ControlRegisters {
 public:
  ControlRegisters(const viommu::GuestMemory& memory, const viommu::RegisterPage& page,
                   RegisterMode mode, const viommu::Features& features, viommu::CommandQueue& queue,
                   CommandJournal journal, EventLink& link, Stage1Control& stage1, StepCall& steps,
                   CommandCounters& counters) noexcept;

  /// A guest that has just been created: registers as after reset, devices by GBPA.
  void attach() noexcept;

  /// A guest that was served before: latched state from the journal, acknowledgements written
  /// again, devices bound again where that is unsure. Changes that were under way begin anew.
  void recover(const JournalEvtq& evtq, std::uint32_t evtq_prod) noexcept;

  /// The guest wrote nothing, and nothing is under way.
  [[nodiscard]] bool unchanged() const noexcept {
    return phase_ == Phase::kIdle && page_.load(viommu::Reg32::kCr0) == cr0_written_ &&
           page_.load(viommu::Reg32::kIrqCtrl) == irq_ctrl_written_ &&
           (page_.load(viommu::Reg32::kGbpa) & viommu::gbpa::kUpdate) == 0;
  }

  /// A change is under way: no command is fetched. The duty submits what it holds, since many
  /// changes wait until it is quiet.
  [[nodiscard]] bool busy() const noexcept { return phase_ != Phase::kIdle; }

  /// Go on as far as possible.
  ///
  /// quiet    the duty holds no operation and uses neither the cold lane nor the sink
  /// returns  steps made
  std::size_t step(Nanos now, bool quiet) noexcept;

  /// Counts how often the command queue was switched: what the duty holds of it is then void.
  [[nodiscard]] std::uint32_t queue_epoch() const noexcept { return queue_epoch_; }

  [[nodiscard]] bool smmu_enabled() const noexcept { return (cr0ack_ & viommu::cr0::kSmmuEn) != 0; }

 private:
  enum class Phase : std::uint8_t {
    kIdle,
    kStage1Settles,  ///< after attach() and recover()
    // CR0, in this order
    kQuiet,
    kStage1Off,
    kQueuesOff,
    kEvtqOff,
    kGates,
    kEvtqOn,
    kQueuesOn,
    kStage1On,
    kCr0Ack,
    // IRQ_CTRL
    kIrqSend,
    kIrqAck,
    // GBPA
    kGbpaQuiet,
    kGbpaAck,
  };

  bool advance(Nanos now, bool quiet) noexcept;
  bool start() noexcept;
  bool after_quiet() noexcept;
  bool stage1_settled() noexcept;
  bool queues_off() noexcept;
  bool gates(Nanos now) noexcept;
  bool queues_on() noexcept;
  bool cr0_ack() noexcept;
  bool go(Phase next) noexcept {
    phase_ = next;
    return true;
  }
  [[nodiscard]] bool turns_on(std::uint32_t bit) const noexcept {
    return (target_ & ~cr0ack_ & bit) != 0;
  }
  [[nodiscard]] bool turns_off(std::uint32_t bit) const noexcept {
    return (~target_ & cr0ack_ & bit) != 0;
  }
  void follow() noexcept;
  bool save() noexcept;

  viommu::RegisterPage page_;
  Phase phase_ = Phase::kIdle;
  bool exitless_;
  std::uint32_t cr0_written_ = 0;       ///< CR0 as the guest wrote it when it was last looked at
  std::uint32_t irq_ctrl_written_ = 0;  ///< IRQ_CTRL likewise
  std::uint32_t cr0ack_ = 0;
  std::uint32_t target_ = 0;
  std::uint32_t irq_ctrl_ = 0;  ///< as acknowledged
  std::uint32_t gbpa_ = 0;      ///< as last updated, UPDATE = 0
  std::uint32_t cr0_mask_;
  std::uint32_t irq_mask_;
  std::uint32_t strtab_config_ = 0;
  std::uint64_t strtab_base_ = 0;
  std::uint32_t queue_epoch_ = 0;
  bool sent_ = false;

  RegisterGate cmdq_gate_;
  RegisterGate evtq_gate_;
  RegisterGate strtab_gate_;

  const viommu::GuestMemory* memory_;
  viommu::Features features_;
  viommu::CommandQueue* queue_;
  CommandJournal journal_;
  EventLink* link_;
  Stage1Control* stage1_;
  StepCall* steps_;
  CommandCounters* counters_;
};

}  // namespace faultline::engine
