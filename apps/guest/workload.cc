// SPDX-License-Identifier: BSD-3-Clause
#include "apps/guest/workload.h"

namespace faultline::guest {
namespace {

// After so long an unread fault is forgotten: its event may have been lost with an overflow.
constexpr Nanos kForget = 500'000'000;

}  // namespace

Workload::Workload(SmmuDriver& driver, const WorkloadOptions& options, Histogram& latency)
    : driver_(driver),
      options_(options),
      latency_(latency),
      pool_(driver.memory(), 4 * DmaChecker::kSlots),
      dma_(options.bar, options.index, pool_, options.seed) {
  // Devices differ in the number of levels of their tables.
  for (auto& t : tables_) {
    t = std::make_unique<PageTable>(driver.memory(), options.index % 2 == 0 ? 48 : 39);
  }
  context_ = driver.memory().allocate(64, 64);
}

Result<void> Workload::attach(const SmmuDriver::Idle& idle) {
  if (options_.dma && !dma_.usable())
    return fail(0, "BAR 0 of this device is not that of a soft device");
  for (std::size_t i = 0; i < DmaChecker::kSlots; ++i) map(i);
  write_context_descriptor(driver_.memory(), context_, *tables_[table_], options_.asid);
  if (auto r = driver_.run({cfgi_cd(options_.sid)}, idle); !r) return r;
  driver_.streams().translate(options_.sid, context_);
  if (auto r = driver_.run({cfgi_ste(options_.sid)}, idle); !r) return r;
  driver_.commands().push(prefetch_config(options_.sid));
  driver_.commands().publish();
  return {};
}

void Workload::map(std::size_t index) {
  Slot& slot = dma_.slot(index);
  if (!slot.synced() || !dma_.next_generation(index)) return;
  tables_[table_]->map(slot.iova, slot.page, slot.leaf);
  ++slot.step;
}

void Workload::push_sync(Nanos now) {
  sync_ = driver_.commands().push_sync(driver_.has_msi() && changes_ % 2 == 1);
  rung_ = now;
  driver_.commands().publish();
}

bool Workload::sync_done(Nanos now) {
  if (!driver_.commands().done(sync_)) return false;
  latency_.record(now - rung_);
  return true;
}

void Workload::event_read(Nanos now) noexcept {
  if (unread_ > 0) --unread_;
  last_event_ = now;
}

std::size_t Workload::fault_budget() const noexcept {
  const std::size_t taken = unread_ + dma_.faults_in_flight();
  return taken >= options_.faults_unread ? 0 : options_.faults_unread - taken;
}

bool Workload::idle() const noexcept {
  return dma_.in_flight() == 0 &&
         (phase_ == Phase::kQuiet || phase_ == Phase::kPriming || phase_ == Phase::kQuiescing);
}

std::size_t Workload::step(Nanos now, bool more) {
  if (!options_.dma) return 0;
  std::size_t work = dma_.take();
  unread_ += static_cast<std::size_t>(dma_.stats().faulted - faulted_);
  faulted_ = dma_.stats().faulted;
  if (unread_ == 0 || last_event_ == 0) last_event_ = now;
  if (now - last_event_ > kForget) unread_ = 0;
  work += step_change(now, more);
  const bool traffic = phase_ == Phase::kQuiet || phase_ == Phase::kUnmapping;
  if (more && traffic && now >= next_burst_) {
    next_burst_ = now + options_.burst_interval_ns;
    if (dma_.in_flight() < 64) {
      burst(now);
      ++work;
    }
  }
  dma_.ring();
  return work;
}

// Ordinary traffic: mostly through live mappings, some of it bound to fault.
void Workload::burst(Nanos now) {
  for (int i = 0; i < 6; ++i) {
    const std::size_t slot = dma_.random() % DmaChecker::kOrdinary;
    if (dma_.slot(slot).mapped()) dma_.touch(slot, dma_.random() % 4 == 0);
  }
  if (options_.storm_interval_ns != 0 && now >= next_storm_) {
    if (next_storm_ != 0) {
      for (std::size_t i = 0; i < options_.storm_faults; ++i) dma_.touch_nothing();
    }
    next_storm_ = now + options_.storm_interval_ns;
  }
  if (fault_budget() < 3) return;
  dma_.touch_nothing();
  dma_.touch_nothing();
  const std::size_t forbidden = DmaChecker::kOrdinary + dma_.random() % 4;
  if (dma_.slot(forbidden).mapped()) dma_.touch(forbidden, true);
}

std::size_t Workload::start_change(Nanos now) {
  next_change_ = now + options_.change_interval_ns;
  ++changes_;
  if (options_.reconfigure_every != 0 && changes_ % options_.reconfigure_every == 0) {
    phase_ = Phase::kQuiescing;
    return 1;
  }
  run_count_ = changes_ % 4 == 0 ? 1 : 1 + dma_.random() % kRun;
  run_first_ = dma_.random() % (DmaChecker::kSlots - run_count_ + 1);
  for (std::size_t i = run_first_; i < run_first_ + run_count_; ++i) {
    map(i);  // what the last change here left unmapped
    if (i < DmaChecker::kOrdinary) dma_.touch(i, false);
  }
  phase_ = Phase::kPriming;
  return 1;
}

// Descriptors first, then TLBI, then CMD_SYNC: as any driver unmaps.
void Workload::unmap_run(Nanos now) {
  const Slot& first = dma_.slot(run_first_);
  for (std::size_t i = run_first_; i < run_first_ + run_count_; ++i) {
    Slot& slot = dma_.slot(i);
    if (!slot.mapped()) continue;
    tables_[table_]->unmap(slot.iova);
    ++slot.step;
  }
  // Before the CMD_SYNC either answer is right.
  if (run_first_ < DmaChecker::kOrdinary && fault_budget() > 0) {
    dma_.touch(run_first_, changes_ % 8 == 3);
  }
  CommandQueue& queue = driver_.commands();
  if (changes_ % 4 == 3) {
    queue.push(tlbi_asid(options_.asid));
  } else if (changes_ % 4 == 1 && driver_.has_range()) {
    queue.push(tlbi_va_range(options_.asid, first.iova, static_cast<unsigned>(run_count_)));
  } else {
    for (std::size_t i = run_first_; i < run_first_ + run_count_; ++i) {
      queue.push(tlbi_va(options_.asid, dma_.slot(i).iova));
    }
  }
  push_sync(now);
  phase_ = Phase::kUnmapping;
}

// The CMD_SYNC was seen complete: from here on no access may use what was removed.
void Workload::finish_unmap() {
  for (std::size_t i = run_first_; i < run_first_ + run_count_; ++i) {
    Slot& slot = dma_.slot(i);
    if (slot.step % 3 != 1) continue;
    ++slot.step;
    pool_.give_back(slot.page);
    const std::uint64_t dice = dma_.random();
    if (dice % 2 == 0) {
      map(i);
      if (i < DmaChecker::kOrdinary) dma_.touch(i, dice % 8 == 0);
    } else if (fault_budget() > 0) {
      dma_.touch(i, dice % 4 == 1);
    }
  }
  phase_ = Phase::kQuiet;
}

std::size_t Workload::step_change(Nanos now, bool more) {
  switch (phase_) {
    case Phase::kQuiet:
      return more && now >= next_change_ ? start_change(now) : 0;
    case Phase::kPriming:
      if (!more || dma_.in_flight() > 0 || driver_.commands().room() < kRun + 2) return 0;
      unmap_run(now);
      return 1;
    case Phase::kUnmapping:
      if (!sync_done(now)) return 0;
      finish_unmap();
      return 1;
    case Phase::kQuiescing:
      if (!more || dma_.in_flight() > 0 || driver_.commands().room() < kRun + 2) return 0;
      [[fallthrough]];
    default:
      return step_reconfiguration(now);
  }
}

std::size_t Workload::step_reconfiguration(Nanos now) {
  CommandQueue& queue = driver_.commands();
  if (phase_ == Phase::kQuiescing) {
    ++reconfigurations_;
    if (reconfigurations_ % 2 == 1) {
      switch_tables(now);
      return 1;
    }
    driver_.streams().abort(options_.sid);
    queue.push(cfgi_ste(options_.sid));
    push_sync(now);
    phase_ = Phase::kBlocking;
    return 1;
  }
  if (phase_ == Phase::kBlocked) {
    if (dma_.in_flight() > 0 || queue.room() < kRun + 2) return 0;
    dma_.set_blocked(false);
    driver_.streams().translate(options_.sid, context_);
    queue.push(cfgi_ste(options_.sid));
    push_sync(now);
    phase_ = Phase::kUnblocking;
    return 1;
  }
  if (!sync_done(now)) return 0;
  switch (phase_) {
    case Phase::kSwitching:
      finish_switch();
      phase_ = Phase::kQuiet;
      break;
    case Phase::kBlocking:
      dma_.set_blocked(true);
      for (std::size_t i = 0; i < 4; ++i) dma_.touch(dma_.random() % DmaChecker::kOrdinary, false);
      dma_.touch_nothing();
      phase_ = Phase::kBlocked;
      break;
    default:
      for (std::size_t i = 0; i < 4; ++i) {
        const std::size_t slot = dma_.random() % DmaChecker::kOrdinary;
        if (dma_.slot(slot).mapped()) dma_.touch(slot, false);
      }
      phase_ = Phase::kQuiet;
      break;
  }
  return 1;
}

// Another table, with other pages behind every slot, under the same context descriptor and ASID.
void Workload::switch_tables(Nanos now) {
  PageTable& next = *tables_[1 - table_];
  for (std::size_t i = 0; i < DmaChecker::kSlots; ++i) {
    Slot& slot = dma_.slot(i);
    next.unmap(slot.iova);
    if (!slot.mapped()) continue;
    const Gpa old = slot.page;
    if (dma_.next_generation(i)) {
      next.map(slot.iova, slot.page, slot.leaf);
      retired_.push_back(old);
      ++slot.step;
    }
  }
  table_ = 1 - table_;
  write_context_descriptor(driver_.memory(), context_, next, options_.asid);
  driver_.commands().push(cfgi_cd(options_.sid));
  driver_.commands().push(tlbi_asid(options_.asid));
  push_sync(now);
  phase_ = Phase::kSwitching;
}

void Workload::finish_switch() {
  for (std::size_t i = 0; i < DmaChecker::kSlots; ++i) {
    Slot& slot = dma_.slot(i);
    if (slot.step % 3 != 1) continue;
    slot.step += 2;
    if (i < DmaChecker::kOrdinary) dma_.touch(i, false);
  }
  for (const Gpa page : retired_) pool_.give_back(page);
  retired_.clear();
}

}  // namespace faultline::guest
