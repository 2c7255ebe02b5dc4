// SPDX-License-Identifier: BSD-3-Clause
#include "engine/control_registers.h"

namespace faultline::engine {

using viommu::Reg32;
using viommu::Reg64;
namespace cr0 = viommu::cr0;

ControlRegisters::ControlRegisters(const viommu::GuestMemory& memory,
                                   const viommu::RegisterPage& page, RegisterMode mode,
                                   const viommu::Features& features, viommu::CommandQueue& queue,
                                   CommandJournal journal, EventLink& link, Stage1Control& stage1,
                                   StepCall& steps, CommandCounters& counters) noexcept
    : page_(page),
      exitless_(mode == RegisterMode::kExitless),
      cr0_mask_(cr0::kSmmuEn | cr0::kEvtqEn | cr0::kCmdqEn | (features.pri ? cr0::kPriqEn : 0U) |
                (features.ats ? cr0::kAtsChk : 0U)),
      irq_mask_(viommu::irq_ctrl::kGerror | viommu::irq_ctrl::kEvtq |
                (features.pri ? viommu::irq_ctrl::kPriq : 0U)),
      cmdq_gate_(Reg64::kCmdqBase, Reg32::kCmdqProd, Reg32::kCmdqCons),
      evtq_gate_(Reg64::kEvtqBase, Reg32::kEvtqProd, Reg32::kEvtqCons),
      strtab_gate_(Reg64::kStrtabBase, Reg32::kStrtabBaseCfg, Reg32::kStrtabBaseCfg),
      memory_(&memory),
      features_(features),
      queue_(&queue),
      journal_(journal),
      link_(&link),
      stage1_(&stage1),
      steps_(&steps),
      counters_(&counters) {}

void ControlRegisters::attach() noexcept {
  viommu::reset_registers(page_, viommu::id_registers(features_));
  if (exitless_) {
    cmdq_gate_.poison(page_);
    evtq_gate_.poison(page_);
    strtab_gate_.poison(page_);
  }
  follow();
  stage1_->begin(stage1_->all());
  phase_ = Phase::kStage1Settles;
}

void ControlRegisters::recover(const JournalEvtq& evtq, std::uint32_t evtq_prod) noexcept {
  const JournalRegisters saved = journal_.registers();
  cr0_written_ = saved.cr0;
  cr0ack_ = saved.cr0ack & cr0_mask_;
  irq_ctrl_ = irq_ctrl_written_ = saved.irq_ctrl & irq_mask_;
  gbpa_ = saved.gbpa;
  strtab_base_ = saved.strtab_base;
  strtab_config_ = saved.strtab_base_cfg;

  const std::uint64_t cmdq_base = saved.cmdq_base | saved.cmdq_log2size;
  const std::uint32_t cons = journal_.cons();
  if ((cr0ack_ & cr0::kCmdqEn) != 0) {
    queue_->enable(*memory_, cmdq_base, cons, features_.cmdq_log2);
    page_.release(Reg32::kCmdqCons, cons);
  }
  cmdq_gate_.set_prior(cmdq_base, cons, cons);
  evtq_gate_.set_prior(evtq.base | evtq.log2size, evtq_prod, evtq_prod);
  strtab_gate_.set_prior(strtab_base_, strtab_config_, strtab_config_);

  page_.release(Reg32::kCr0Ack, cr0ack_);
  page_.release(Reg32::kIrqCtrlAck, irq_ctrl_);
  follow();
  stage1_->begin(stage1_->all());
  phase_ = Phase::kStage1Settles;
}

void ControlRegisters::follow() noexcept {
  if (smmu_enabled()) {
    stage1_->follow_stream_table(
        viommu::StreamTable::latch(strtab_base_, strtab_config_, features_));
  } else {
    stage1_->follow_gbpa((gbpa_ & viommu::gbpa::kAbort) != 0);
  }
}

std::size_t ControlRegisters::step(Nanos now, bool quiet) noexcept {
  std::size_t work = 0;
  while (!steps_->stopped() && advance(now, quiet)) ++work;
  return work;
}

/// One step. returns  false: something is still to come
bool ControlRegisters::advance(Nanos now, bool quiet) noexcept {
  switch (phase_) {
    case Phase::kIdle:
      return start();
    case Phase::kStage1Settles:
      return stage1_settled() && go(Phase::kIdle);
    case Phase::kQuiet:
      return quiet && after_quiet();
    case Phase::kStage1Off:
      return stage1_settled() && go(Phase::kQueuesOff);
    case Phase::kQueuesOff:
      return queues_off();
    case Phase::kEvtqOff:
      if (link_->busy()) return false;
      if (exitless_) evtq_gate_.poison(page_);
      return go(Phase::kGates);
    case Phase::kGates:
      return gates(now);
    case Phase::kEvtqOn:
      return !link_->busy() && go(Phase::kQueuesOn);
    case Phase::kQueuesOn:
      return queues_on();
    case Phase::kStage1On:
      return stage1_settled() && go(Phase::kCr0Ack);
    case Phase::kCr0Ack:
      return cr0_ack();
    case Phase::kIrqSend:
      if (link_->busy()) return false;
      link_->send({.kind = ToEventDuty::Kind::kIrqControl, .bits = irq_ctrl_written_ & irq_mask_});
      return go(Phase::kIrqAck);
    case Phase::kIrqAck:
      if (link_->busy()) return false;
      irq_ctrl_ = irq_ctrl_written_ & irq_mask_;
      if (save()) return false;
      page_.release(Reg32::kIrqCtrlAck, irq_ctrl_);
      tally(counters_->register_changes);
      return go(Phase::kIdle);
    case Phase::kGbpaQuiet:
      if (!quiet) return false;
      follow();
      stage1_->begin(stage1_->all());
      return go(Phase::kGbpaAck);
    case Phase::kGbpaAck:
      if (!stage1_settled() || save()) return false;
      page_.release(Reg32::kGbpa, gbpa_);
      tally(counters_->register_changes);
      return go(Phase::kIdle);
  }
  return false;
}

/// Every device has what the guest asked for, or aborts. While the kernel refuses even abort the
/// guest is told nothing: its register stays unacknowledged and the change is tried again.
bool ControlRegisters::stage1_settled() noexcept {
  if (stage1_->busy()) return false;
  if (!stage1_->failed()) return true;
  stage1_->begin(stage1_->all());
  return false;
}

bool ControlRegisters::start() noexcept {
  // Acquire: what the guest wrote before it set an enable bit, as far as it ordered that.
  const std::uint32_t written = page_.acquire(Reg32::kCr0);
  if (written != cr0_written_) {
    cr0_written_ = written;
    target_ = written & cr0_mask_;
    sent_ = false;
    return go(target_ == cr0ack_ ? Phase::kCr0Ack : Phase::kQuiet);
  }
  const std::uint32_t irq = page_.acquire(Reg32::kIrqCtrl);
  if (irq != irq_ctrl_written_) {
    irq_ctrl_written_ = irq;
    return go(Phase::kIrqSend);
  }
  const std::uint32_t bypass = page_.acquire(Reg32::kGbpa);
  if ((bypass & viommu::gbpa::kUpdate) != 0) {
    gbpa_ = bypass & ~viommu::gbpa::kUpdate;
    return go(smmu_enabled() ? Phase::kGbpaAck : Phase::kGbpaQuiet);
  }
  return false;
}

/// Nothing is held and nothing under way: what is switched off goes off.
bool ControlRegisters::after_quiet() noexcept {
  if (turns_off(cr0::kSmmuEn)) {
    stage1_->follow_gbpa((gbpa_ & viommu::gbpa::kAbort) != 0);
    stage1_->begin(stage1_->all());
  }
  return go(Phase::kStage1Off);
}

bool ControlRegisters::queues_off() noexcept {
  if (turns_off(cr0::kEvtqEn) && !sent_) {
    if (link_->busy()) return false;
    link_->send({.kind = ToEventDuty::Kind::kDisableEvtq});
    sent_ = true;
  }
  if (exitless_ && turns_off(cr0::kSmmuEn)) strtab_gate_.poison(page_);
  if (turns_off(cr0::kCmdqEn)) {
    queue_->disable();
    ++queue_epoch_;
    if (exitless_) {
      cmdq_gate_.set_prior(page_.load(Reg64::kCmdqBase), page_.load(Reg32::kCmdqProd),
                           queue_->cons_register());
      cmdq_gate_.poison_fresh(page_);
    }
  }
  const bool evtq = sent_;
  sent_ = false;
  return go(evtq ? Phase::kEvtqOff : Phase::kGates);
}

/// Take what the guest wrote, once all of it is there.
bool ControlRegisters::gates(Nanos now) noexcept {
  if (exitless_) {
    bool late = false;
    bool open = true;
    if (turns_on(cr0::kEvtqEn)) open &= evtq_gate_.open(page_, now, late);
    if (turns_on(cr0::kCmdqEn)) open &= cmdq_gate_.open(page_, now, late);
    if (turns_on(cr0::kSmmuEn)) open &= strtab_gate_.open(page_, now, late);
    if (late) tally(counters_->late_registers);
    if (!open) return false;
  }
  if (!turns_on(cr0::kEvtqEn)) return go(Phase::kQueuesOn);
  if (link_->busy()) return false;
  const std::uint64_t base = page_.load(Reg64::kEvtqBase);
  link_->send({.kind = ToEventDuty::Kind::kEnableEvtq,
               .base = base & viommu::queue::kAddr,
               .log2size = static_cast<std::uint32_t>(base & viommu::queue::kLog2Size),
               .prod = page_.load(Reg32::kEvtqProd),
               .cons = page_.load(Reg32::kEvtqCons)});
  return go(Phase::kEvtqOn);
}

bool ControlRegisters::queues_on() noexcept {
  if (turns_on(cr0::kCmdqEn)) {
    queue_->enable(*memory_, page_.load(Reg64::kCmdqBase), page_.load(Reg32::kCmdqCons),
                   features_.cmdq_log2);
    journal_.set_cons(queue_->cons_register());
    ++queue_epoch_;
  }
  if (turns_on(cr0::kSmmuEn)) {
    strtab_base_ = page_.load(Reg64::kStrtabBase);
    strtab_config_ = page_.load(Reg32::kStrtabBaseCfg);
    stage1_->follow_stream_table(
        viommu::StreamTable::latch(strtab_base_, strtab_config_, features_));
    stage1_->begin(stage1_->all());
  }
  return go(Phase::kStage1On);
}

bool ControlRegisters::cr0_ack() noexcept {
  cr0ack_ = target_ = cr0_written_ & cr0_mask_;
  if (save()) return false;
  page_.release(Reg32::kCr0Ack, cr0ack_);
  tally(counters_->register_changes);
  return go(Phase::kIdle);
}

/// Latch into the journal. returns  true: leave the round
bool ControlRegisters::save() noexcept {
  JournalRegisters r;
  r.cr0 = cr0_written_;
  r.cr0ack = cr0ack_;
  r.cr1 = page_.load(Reg32::kCr1);
  r.cr2 = page_.load(Reg32::kCr2);
  r.irq_ctrl = irq_ctrl_;
  r.gbpa = gbpa_;
  r.strtab_base = strtab_base_;
  r.strtab_base_cfg = strtab_config_;
  r.cmdq_base = queue_->base().value;
  r.cmdq_log2size = queue_->log2size();
  journal_.set_registers(r);
  return (*steps_)(JournalStep::kRegistersJournalled);
}

}  // namespace faultline::engine
