// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "engine/event_duty.h"

namespace faultline::engine {

// The rare half of EventDuty: what CommandDuty asks for, and the way back after a kill.

/// What is no memory of the guest is not written.
inline void note_written(const viommu::GuestMemory& memory, const EventJournal& journal, Gpa at,
                         std::uint64_t bytes) noexcept {
  if (memory.pointer(at, bytes) != nullptr) journal.written().note(at, bytes);
}
inline void note_written(const viommu::GuestMemory& memory, const EventJournal& journal,
                         const viommu::EventQueue& evtq) noexcept {
  note_written(memory, journal, evtq.base(),
               std::uint64_t{viommu::EventQueue::kEntryBytes} << evtq.log2size());
}

template <FaultSourceSet Sources, StepHook Hook, class Clock>
void EventDuty<Sources, Hook, Clock>::resume() noexcept {
  program(journal_.irq());
  setup_.page.release(viommu::Reg32::kGerror, journal_.gerror());
  loss_owed_ = journal_.loss_owed();
  const JournalEvtq evtq = journal_.evtq();
  if (evtq.enabled != 0) {
    evtq_.enable(*setup_.memory, setup_.page, evtq.base | evtq.log2size, journal_.evtq_prod(),
                 setup_.evtq_log2);
    note_written(*setup_.memory, journal_, evtq_);
  }
  const EventJournal::Intent intent = journal_.intent();
  // Of what was taken, an intent covers what it publishes and says whether there was more.
  const std::uint64_t taken = intent.valid && !intent.held ? 0 : journal_.reading();
  journal_.set_reading(taken);
  if constexpr (kAnswersPages<Sources>) (void)requests_.resume(taken != 0);
  if (intent.valid) {
    // Killed somewhere between the intent and its end: do all of it again.
    tally(counters_.recoveries);
    if (evtq_.enabled()) {
      evtq_.restore(intent.prod);
      evtq_.republish();
    }
    if (step(JournalStep::kEventPublished)) return;
    if (intent.device != kNoDevice && intent.device < sources_->size() &&
        sources_->commit(intent.device) != 0) {
      tally(devices_[intent.device].commit_failed);
    }
    if (step(JournalStep::kEventCommitted)) return;
    journal_.done();
    if (step(JournalStep::kEventDone)) return;
  } else if (evtq_.enabled()) {
    evtq_.republish();
  }
  if (taken != 0) {
    // Records were taken from the kernel and are nowhere: only the overflow is left of them.
    tally(devices_[taken - 1].lost_possible);
    note_loss();
    if (!deliver(kNoDevice, {}, false)) return;
  }
  journal_.set_reading(0);
  const std::uint32_t active = journal_.gerror() ^ setup_.page.acquire(viommu::Reg32::kGerrorn);
  if ((active & viommu::gerror::kAll) != 0 && (irq_control_ & viommu::irq_ctrl::kGerror) != 0) {
    gerror_interrupt_due_ = true;
  }
  // In the first round: an eventfd may block (nudge.h), and this is the control thread.
  interrupt_due_ = gerror_interrupt_due_ || evtq_.enabled();
}

template <FaultSourceSet Sources, StepHook Hook, class Clock>
int EventDuty<Sources, Hook, Clock>::source_fd() const noexcept {
  if constexpr (requires { sources_->wake_fd(); }) {
    return sources_->wake_fd();
  } else {
    return -1;
  }
}

template <FaultSourceSet Sources, StepHook Hook, class Clock>
Nanos EventDuty<Sources, Hook, Clock>::longest_sleep() const noexcept {
  if (source_fd() < 0 || rings_->event_bell.fd() < 0) return 0;
  return loss_owed_ ? Nanos{1'000'000} : ~Nanos{0};
}

template <FaultSourceSet Sources, StepHook Hook, class Clock>
void EventDuty<Sources, Hook, Clock>::interrupt() noexcept {
  interrupt_due_ = false;
  if (std::exchange(gerror_interrupt_due_, false)) gerror_interrupt_.raise(*setup_.memory);
  if (!evtq_.enabled() || (irq_control_ & viommu::irq_ctrl::kEvtq) == 0) return;
  evtq_interrupt_.raise(*setup_.memory);
  step(JournalStep::kEventInterrupted);
}

template <FaultSourceSet Sources, StepHook Hook, class Clock>
void EventDuty<Sources, Hook, Clock>::drop(EventDeviceCounters& counters) noexcept {
  tally(counters.dropped_full);
  note_loss();
  if (!evtq_.usable()) raise_gerror(viommu::gerror::kEvtqAbt, journal_.gerror_token());
}

template <FaultSourceSet Sources, StepHook Hook, class Clock>
void EventDuty<Sources, Hook, Clock>::note_loss() noexcept {
  if (!evtq_.enabled() || evtq_.lose()) return;
  const bool staged = ((evtq_.staged_prod() ^ evtq_.prod()) & viommu::queue::kOverflow) != 0;
  if (staged || loss_owed_) return;
  loss_owed_ = true;
  journal_.set_loss_owed(true);
}

template <FaultSourceSet Sources, StepHook Hook, class Clock>
void EventDuty<Sources, Hook, Clock>::pay_owed_loss() noexcept {
  if (!evtq_.lose()) return;  // still unacknowledged
  timer_.stop();
  if (!deliver(kNoDevice, {}, false)) return;
  // After the overflow is out: a kill in between raises it twice, never not at all.
  loss_owed_ = false;
  journal_.set_loss_owed(false);
}

template <FaultSourceSet Sources, StepHook Hook, class Clock>
std::size_t EventDuty<Sources, Hook, Clock>::serve_messages() noexcept {
  std::size_t served = 0;
  for (;;) {
    // An acknowledgement that found no room goes before anything else is served.
    if (unsent_ack_) {
      if (!rings_->to_command.push(ack_)) return served;
      unsent_ack_ = false;
    }
    ToEventDuty message;
    if (!rings_->to_event.pop(message)) return served;
    serve(message);
    if (stopped_) return served;
    ++served;
    ack_ = {message.token, journal_.gerror()};
    unsent_ack_ = true;
  }
}

template <FaultSourceSet Sources, StepHook Hook, class Clock>
void EventDuty<Sources, Hook, Clock>::serve(const ToEventDuty& message) noexcept {
  switch (message.kind) {
    case ToEventDuty::Kind::kEnableEvtq:
      enable_evtq(message);
      return;
    case ToEventDuty::Kind::kDisableEvtq:
      evtq_.disable();
      loss_owed_ = false;
      journal_.set_loss_owed(false);
      journal_.switch_evtq({}, 0);
      step(JournalStep::kEvtqJournalled);
      return;
    case ToEventDuty::Kind::kRaiseGerror:
      raise_gerror(message.bits, message.token);
      return;
    case ToEventDuty::Kind::kIrqControl:
      take_irq_control(message.bits);
      return;
  }
}

template <FaultSourceSet Sources, StepHook Hook, class Clock>
void EventDuty<Sources, Hook, Clock>::enable_evtq(const ToEventDuty& message) noexcept {
  const std::uint64_t base_register =
      (message.base & viommu::queue::kAddr) | (message.log2size & viommu::queue::kLog2Size);
  viommu::EventQueue wanted;
  wanted.enable(*setup_.memory, setup_.page, base_register, message.prod, setup_.evtq_log2);
  // Asked again after a restart, since the acknowledgement was lost: events may already be in it,
  // and PROD is ours.
  if (evtq_.enabled() && evtq_.base() == wanted.base() && evtq_.log2size() == wanted.log2size()) {
    return;
  }
  note_written(*setup_.memory, journal_, wanted);
  evtq_ = wanted;
  loss_owed_ = false;
  journal_.set_loss_owed(false);
  journal_.switch_evtq({wanted.base().value, wanted.log2size(), 1}, wanted.prod());
  step(JournalStep::kEvtqJournalled);
}

template <FaultSourceSet Sources, StepHook Hook, class Clock>
void EventDuty<Sources, Hook, Clock>::raise_gerror(std::uint32_t bits,
                                                   std::uint32_t token) noexcept {
  const std::uint32_t before = journal_.gerror();
  // An error is active where GERROR and GERRORN differ; it is not raised on top of itself.
  const std::uint32_t active = before ^ setup_.page.acquire(viommu::Reg32::kGerrorn);
  const std::uint32_t after = before ^ (bits & ~active & viommu::gerror::kAll);
  journal_.set_gerror(after, token);
  if (step(JournalStep::kGerrorJournalled)) return;
  setup_.page.release(viommu::Reg32::kGerror, after);
  if (step(JournalStep::kGerrorPublished)) return;
  if (after == before) return;
  tally(counters_.gerrors);
  if ((irq_control_ & viommu::irq_ctrl::kGerror) != 0) gerror_interrupt_.raise(*setup_.memory);
}

template <FaultSourceSet Sources, StepHook Hook, class Clock>
void EventDuty<Sources, Hook, Clock>::take_irq_control(std::uint32_t control) noexcept {
  // The guest may change the MSI registers only while the interrupt is off, so they stand still
  // from here on; a guest that does otherwise only misses its own interrupts.
  JournalIrq irq;
  irq.control =
      control & (viommu::irq_ctrl::kGerror | viommu::irq_ctrl::kPriq | viommu::irq_ctrl::kEvtq);
  irq.evtq_address = setup_.page.load(viommu::Reg64::kEvtqIrqCfg0) & viommu::kMsiAddr;
  irq.evtq_data = setup_.page.load(viommu::Reg32::kEvtqIrqCfg1);
  irq.gerror_address = setup_.page.load(viommu::Reg64::kGerrorIrqCfg0) & viommu::kMsiAddr;
  irq.gerror_data = setup_.page.load(viommu::Reg32::kGerrorIrqCfg1);
  journal_.set_irq(irq);
  program(irq);
  step(JournalStep::kIrqJournalled);
}

template <FaultSourceSet Sources, StepHook Hook, class Clock>
void EventDuty<Sources, Hook, Clock>::program(const JournalIrq& irq) noexcept {
  irq_control_ = irq.control;
  const Gpa evtq{irq.evtq_address};
  const Gpa gerror{irq.gerror_address};
  for (const Gpa msi : {evtq, gerror}) {
    if (msi.value != 0) note_written(*setup_.memory, journal_, msi, sizeof(std::uint32_t));
  }
  evtq_interrupt_.program(evtq, irq.evtq_data, route_of(setup_.routes, evtq, irq.evtq_data));
  gerror_interrupt_.program(gerror, irq.gerror_data,
                            route_of(setup_.routes, gerror, irq.gerror_data));
}

/// A group is one transaction to the guest, whatever pages it names: of what else it needs, the
/// device asks again.
template <FaultSourceSet Sources, StepHook Hook, class Clock>
std::uint64_t EventDuty<Sources, Hook, Clock>::place_request(
    std::size_t i, const FaultRecord& request, EventDeviceCounters& counters) noexcept {
  if (!request.last_page) {
    tally(counters.pages_folded);
    return 0;
  }
  // The request is not lost with a full queue, as stalled events are not on hardware: it comes
  // again.
  if (evtq_.free_slots() == 0) {
    requests_.refuse(request, true, counters);
    return 0;
  }
  if (!requests_.open(static_cast<std::uint32_t>(i), request, counters)) return 0;
  return evtq_.place(viommu::stalled_event(request, setup_.vsids[i])) ? 1 : 0;
}

/// The guest listens to no events: nobody would ever answer.
template <FaultSourceSet Sources, StepHook Hook, class Clock>
void EventDuty<Sources, Hook, Clock>::refuse_requests(std::size_t n,
                                                      EventDeviceCounters& counters) noexcept {
  for (std::size_t r = 0; r < n; ++r) {
    const FaultRecord& record = records_[r];
    if (record.form == FaultRecord::Form::kPageRequest && record.last_page) {
      requests_.refuse(record, false, counters);
    }
  }
  if (requests_.waiting()) requests_.flush();
}

template <FaultSourceSet Sources, StepHook Hook, class Clock>
[[gnu::cold, gnu::noinline]] void EventDuty<Sources, Hook, Clock>::note_cut() noexcept {
  if (deficit_.cut()) tally(counters_.records_cut);
}

template <FaultSourceSet Sources, StepHook Hook, class Clock>
std::size_t EventDuty<Sources, Hook, Clock>::apply_plant(std::size_t n) noexcept {
  constexpr std::uint32_t kEvery = 32;
  if (n == 0 || plant_turn_++ % kEvery != 0) return n;
  if (plant_ == EventPlant::kLoseRecord) {
    std::move(records_.begin() + 1, records_.begin() + static_cast<std::ptrdiff_t>(n),
              records_.begin());
    return n - 1;
  }
  std::move_backward(records_.begin(), records_.begin() + static_cast<std::ptrdiff_t>(n),
                     records_.begin() + static_cast<std::ptrdiff_t>(n) + 1);
  records_[0] = records_[1];
  return n + 1;
}

}  // namespace faultline::engine
