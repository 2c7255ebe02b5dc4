// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// The parts of CommandDuty that run when a guest changes its configuration or something fails.

#include <algorithm>
#include <bit>

#include "engine/command_duty.h"

namespace faultline::engine {

#define FAULTLINE_DUTY \
  template <InvalidationSink Sink, merge::SubmissionPolicy Policy, StepHook Hook, class Clock>
#define FAULTLINE_RARE FAULTLINE_DUTY [[gnu::cold, gnu::noinline]]

FAULTLINE_DUTY
CommandDuty<Sink, Policy, Hook, Clock>::CommandDuty(const CommandDutySetup& setup, Sink& sink,
                                                    Policy policy, Hook hook, Clock clock) noexcept
    : memory_(setup.memory),
      page_(setup.page),
      features_(setup.features),
      sink_(&sink),
      policy_(policy),
      hook_(hook),
      clock_(clock),
      steps_(std::same_as<Hook, NoHook> ? StepCall() : StepCall(hook_)),
      journal_(setup.journal->command()),
      event_journal_(setup.journal->event()),
      owner_(setup.rings),
      link_(*setup.rings, event_journal_.gerror(),
            std::max(event_journal_.gerror_token(), journal_.error_token())),
      stage1_(setup.guest, setup.spec->devices, *setup.memory, setup.features, *setup.rings,
              journal_,
              {&sink,
               [](void* at, std::size_t device, std::uint16_t asid) noexcept {
                 static_cast<Sink*>(at)->note_asid(device, asid);
               }},
              steps_, counters_),
      registers_(*setup.memory, setup.page, setup.spec->mode, setup.features, queue_, journal_,
                 link_, stage1_, steps_, counters_),
      syncs_(*setup.memory, setup.page, queue_, journal_, setup.spec->sync_eventfd, counters_,
             setup.spec->routes),
      doorbell_(*setup.spec) {
  set_budget(setup.spec->budget);
  if (setup.journal->in_use()) {
    recover();
  } else {
    registers_.attach();
  }
  epoch_ = registers_.queue_epoch();
}

/// Go on where a killed engine stood, without the guest noticing.
FAULTLINE_RARE void CommandDuty<Sink, Policy, Hook, Clock>::recover() noexcept {
  syncs_.recover();  // first: it settles CONS
  const SinkCaps caps = sink_->caps();
  const bool all_abort = stage1_.recover(!caps.config_caches);
  const std::uint32_t token = journal_.error_token();
  if (token != 0) {
    error_ =
        static_cast<viommu::CommandError>((journal_.cons() >> viommu::queue::kConsErrShift) & 0x7f);
    // Tokens tell whether the killed engine's EventDuty got as far as raising it.
    mode_ = event_journal_.gerror_token() == token ? Mode::kStopped : Mode::kError;
    stage1_.set_blocked(error_ == viommu::CommandError::kAbort && all_abort);
  }
  registers_.recover(event_journal_.evtq(), event_journal_.evtq_prod());
}

FAULTLINE_RARE std::size_t CommandDuty<Sink, Policy, Hook, Clock>::serve_registers(
    Nanos now) noexcept {
  if (syncs_.owes()) syncs_.pay();  // after recover() the first round comes here
  const bool quiet = at_rest() && policy_.oldest(handled_) == told_;
  const std::size_t work = registers_.step(now, quiet);
  if (registers_.queue_epoch() != epoch_) {
    epoch_ = registers_.queue_epoch();
    forget_queue();
  }
  return work;
}

/// What was fetched and not told done is void: the queue is off, moved or to be fetched again.
FAULTLINE_RARE void CommandDuty<Sink, Policy, Hook, Clock>::forget_queue() noexcept {
  policy_.clear();
  syncs_.clear();
  stop_at_ = kNone;
  atc_late_ = false;
  queue_.rewind();
  handled_ = told_;
  head_ = tail_ = 0;
  config_ = refresh_ = 0;
  binding_ = false;
}

/// CFGI_*, ATC_INV and what needs no operation.
FAULTLINE_RARE bool CommandDuty<Sink, Policy, Hook, Clock>::handle_rare(
    const viommu::Command& command, Nanos now) noexcept {
  switch (command.opcode) {
    case viommu::Opcode::kCfgiSte:
    case viommu::Opcode::kCfgiSteRange:
      return handle_ste(command, now);
    case viommu::Opcode::kCfgiCd:
    case viommu::Opcode::kCfgiCdAll:
    case viommu::Opcode::kAtcInv:
      return handle_stream(command, now);
    case viommu::Opcode::kPrefetchConfig:
    case viommu::Opcode::kPrefetchAddr:
      tally(counters_.prefetches);
      return true;
    default:
      // PRI_RESP, RESUME, STALL_TERM. What they let go on must not find what the commands before
      // them remove.
      if (holds_operations()) {
        policy_.flush();
        return false;
      }
      return respond(command);
  }
}

/// returns  false: the EventDuty has not taken earlier answers yet
FAULTLINE_RARE bool CommandDuty<Sink, Policy, Hook, Clock>::respond(
    const viommu::Command& command) noexcept {
  const int device = stage1_.find(command.sid);
  if (device < 0) {
    tally(counters_.responses);
    tally(counters_.foreign_streams);
    return true;
  }
  PageResponse response;
  response.device = static_cast<std::uint32_t>(device);
  response.group = command.tag;
  constexpr std::uint8_t kPriSuccess = 2;
  response.retry =
      command.opcode == viommu::Opcode::kResume
          ? command.action == viommu::ResumeAction::kRetry
          : command.opcode == viommu::Opcode::kPriResp && command.response == kPriSuccess;
  response.all = command.opcode == viommu::Opcode::kStallTerm ? 1 : 0;
  if (!link_.respond(response)) return false;
  tally(counters_.responses);
  return true;
}

FAULTLINE_RARE bool CommandDuty<Sink, Policy, Hook, Clock>::handle_stream(
    const viommu::Command& command, Nanos now) noexcept {
  const int found = stage1_.find(command.sid);
  if (found < 0) {
    tally(counters_.foreign_streams);
    return true;
  }
  const auto device = static_cast<std::size_t>(found);
  if (command.opcode != viommu::Opcode::kAtcInv) {
    // Nothing of a stream that the kernel does not translate for is cached.
    if ((stage1_.translating() >> device & 1) == 0) return true;
    if (command.opcode == viommu::Opcode::kCfgiCd) {
      stage1_.note_context(device, command.ssid);
    } else {
      stage1_.note_contexts(device);
    }
  }
  ask(viommu::to_operation(command), now);
  return true;
}

/// A changed STE is bound anew; an unchanged one still means that its contexts are dropped.
FAULTLINE_RARE bool CommandDuty<Sink, Policy, Hook, Clock>::handle_ste(
    const viommu::Command& command, Nanos now) noexcept {
  // With SMMUEN clear nothing follows the table; setting it reads all of it.
  if (!registers_.smmu_enabled()) return true;
  const DeviceSet devices = stage1_.in_range(command.sid, command.last_sid());
  if (devices == 0) {
    tally(counters_.foreign_streams);
    return true;
  }
  if (stage1_.changed(devices) != 0) {
    config_ = devices;
    binding_ = false;
    mode_ = Mode::kConfig;
    policy_.flush();
    return false;
  }
  refresh_ = devices & stage1_.translating();
  return refresh(now);
}

/// returns  false: the policy has no room for the rest now
FAULTLINE_RARE bool CommandDuty<Sink, Policy, Hook, Clock>::refresh(Nanos now) noexcept {
  for (; refresh_ != 0; refresh_ &= refresh_ - 1) {
    if (policy_.room() == 0) return false;
    const auto device = static_cast<std::size_t>(std::countr_zero(refresh_));
    stage1_.note_contexts(device);
    Operation op;
    op.kind = OperationKind::kCfgCdAll;
    op.sid = stage1_.vsid(device);
    ask(op, now);
  }
  return true;
}

FAULTLINE_RARE void CommandDuty<Sink, Policy, Hook, Clock>::fail_here(
    viommu::CommandError error) noexcept {
  error_ = error;
  mode_ = Mode::kError;
  policy_.flush();
}

FAULTLINE_RARE std::size_t CommandDuty<Sink, Policy, Hook, Clock>::serve_rare(Nanos now) noexcept {
  timer_.stop();
  if (gone()) return 0;
  if (gerror_due_ != 0 && !link_.busy()) {
    link_.send({.kind = ToEventDuty::Kind::kRaiseGerror, .bits = gerror_due_});
    gerror_due_ = 0;
  }
  switch (mode_) {
    case Mode::kRunning:
      if (!registers_.busy()) return run(now);
      (void)drain(now);  // the registers wait until nothing is held
      return 0;
    case Mode::kConfig:
      serve_config(now);
      return 0;
    case Mode::kError:
      serve_error(now);
      return 0;
    case Mode::kRaising:
      if (link_.busy()) return 0;
      mode_ = Mode::kStopped;
      return 1;
    case Mode::kStopped:
      return serve_stopped() ? 1 : 0;
    case Mode::kResync:
      serve_resync(now);
      return 1;
    case Mode::kBlocking:
      if (!stage1_.busy()) serve_blocking(now);
      return 0;
    case Mode::kUnblocking:
      if (stage1_.busy()) return 0;
      mode_ = Mode::kRunning;
      return 1;
  }
  return 0;
}

/// Submit what is held, once a round. returns  true: nothing is left
FAULTLINE_RARE bool CommandDuty<Sink, Policy, Hook, Clock>::drain(Nanos now) noexcept {
  if (refresh_ != 0 && refresh(now)) {
    ++head_;
    ++handled_;
    tally(counters_.commands);
  }
  if (holds_operations()) {
    policy_.flush();
    if (!policy_.due(now)) return false;
    if (!submit_held(now)) return false;
  }
  complete(now);
  return !gone() && !holds_operations() && refresh_ == 0;
}

FAULTLINE_RARE void CommandDuty<Sink, Policy, Hook, Clock>::serve_config(Nanos now) noexcept {
  if (!binding_) {
    if (!drain(now) || mode_ != Mode::kConfig) return;
    const DeviceSet changed = stage1_.changed(config_);
    config_ &= ~changed;
    stage1_.begin(changed);
    binding_ = true;
  }
  if (stage1_.busy() || gone()) return;
  binding_ = false;
  if (stage1_.failed()) {
    // Neither the new configuration nor abort: the kernel's, never the guest's fault.
    config_ = 0;
    fail_here(viommu::CommandError::kAbort);
    return;
  }
  mode_ = Mode::kRunning;
  refresh_ = config_ & stage1_.translating();
  config_ = 0;
  if (!refresh(now)) return;
  ++head_;
  ++handled_;
  tally(counters_.commands);
}

/// CONS points at the failing command, then GERROR says so, then the guest is waited for.
FAULTLINE_RARE void CommandDuty<Sink, Policy, Hook, Clock>::serve_error(Nanos now) noexcept {
  if (!drain(now) || link_.busy()) return;
  // Behind the SYNC that fails everything begins anew.
  if (stop_at_ != kNone) forget_queue();
  const std::uint32_t cons = queue_.cons_register(error_);
  journal_.set_cons(cons);
  journal_.set_error_token(link_.next_token());
  if (step(JournalStep::kErrorJournalled)) return;
  page_.release(viommu::Reg32::kCmdqCons, cons);
  if (step(JournalStep::kErrorPublished)) return;
  link_.send({.kind = ToEventDuty::Kind::kRaiseGerror, .bits = viommu::gerror::kCmdq});
  tally(error_ == viommu::CommandError::kIllegal      ? counters_.illegal
        : error_ == viommu::CommandError::kAtcInvSync ? counters_.atc_timeouts
                                                      : counters_.aborts);
  mode_ = Mode::kRaising;
}

FAULTLINE_RARE bool CommandDuty<Sink, Policy, Hook, Clock>::serve_stopped() noexcept {
  // Acquire: the guest repaired the command before it acknowledged.
  const std::uint32_t acknowledged = page_.acquire(viommu::Reg32::kGerrorn);
  if (((link_.gerror() ^ acknowledged) & viommu::gerror::kCmdq) != 0) return false;
  if (registers_.busy()) return false;
  journal_.set_error_token(0);
  error_ = viommu::CommandError::kNone;
  forget_queue();
  mode_ = Mode::kRunning;
  if (stage1_.blocked()) begin_resync(Mode::kUnblocking);
  return true;
}

/// A device did not answer an ATC invalidation in time; all else that was submitted took effect.
/// The first SYNC behind it fails. What is behind that one is fetched and submitted again, so
/// another SYNC that waits for the same submission is told of its own invalidations.
FAULTLINE_RARE void CommandDuty<Sink, Policy, Hook, Clock>::begin_atc_error() noexcept {
  if (stop_at_ != kNone) return;
  const merge::Position sync = syncs_.first_from(policy_.oldest(handled_), kNone);
  if (sync == kNone) {
    atc_late_ = true;
    return;
  }
  stop_at_ = sync;
  fail_here(viommu::CommandError::kAtcInvSync);
}

FAULTLINE_RARE void CommandDuty<Sink, Policy, Hook, Clock>::begin_resync(Mode then) noexcept {
  then_ = then;
  mode_ = Mode::kResync;
  recovery_.begin(stage1_, features_.ats);
}

/// One submission of the resync; it covers all that was fetched.
FAULTLINE_RARE void CommandDuty<Sink, Policy, Hook, Clock>::serve_resync(Nanos now) noexcept {
  const std::span<const Operation> ops = recovery_.next();
  if (!ops.empty()) {
    if (submit(ops).error != 0) {
      stage1_.set_blocked(true);
      stage1_.begin(stage1_.all());
      mode_ = Mode::kBlocking;
      return;
    }
    recovery_.done();
    if (!recovery_.next().empty()) return;
  }
  tally(counters_.resyncs);
  policy_.clear();
  mode_ = then_;
  if (mode_ == Mode::kUnblocking) {
    stage1_.set_blocked(false);
    stage1_.begin(stage1_.all());
  }
  complete(now);
}

/// The devices abort: nothing stale can be used. The guest hears of it at the oldest command that
/// is not covered.
FAULTLINE_RARE void CommandDuty<Sink, Policy, Hook, Clock>::serve_blocking(Nanos now) noexcept {
  tally(counters_.blocked);
  complete(now);
  if (gone()) return;
  forget_queue();
  fail_here(viommu::CommandError::kAbort);
}

#undef FAULTLINE_RARE
#undef FAULTLINE_DUTY

}  // namespace faultline::engine
