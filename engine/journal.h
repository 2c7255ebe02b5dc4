// SPDX-License-Identifier: BSD-3-Clause
// hot path: EventJournal and CommandJournal; a few stores per burst into lines nobody else writes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "engine/journal_layout.h"
#include "engine/journal_step.h"
#include "engine/written.h"
#include "kernel/base/clock.h"
#include "kernel/base/result.h"
#include "kernel/operation.h"
#include "kernel/record.h"

namespace faultline::engine {

// A process killed between two instructions leaves every store before that point and none after
// it; the compiler keeps that order only across the release stores used here. So each function
// below says which store makes its change count.

/// The journal as the EventDuty writes it.
/// thread   the shard that owns the guest's EventDuty; reads of it after a restart, before it runs
class EventJournal {
 public:
  explicit EventJournal(JournalEventPart& part) noexcept : part_(&part) {}

  /// Announce what is published next. Counts from the last store (intent_valid).
  ///
  /// device    whose burst it is; kNoDevice for an overflow alone
  /// prod      EVTQ_PROD to publish, with OVFLG
  /// position  of the source after the burst
  /// held      besides what is published, records were taken that no journal covers yet
  void begin(std::uint32_t device, std::uint32_t prod, const SourcePosition& position,
             bool held = false) noexcept {
    in_program_order();
    store_relaxed(part_->intent_device, device);
    store_relaxed(part_->intent_prod, prod);
    store_relaxed(part_->intent_position.next, position.next);
    store_relaxed(part_->intent_position.lost, position.lost);
    store_relaxed(part_->intent_held, std::uint64_t{held ? 1U : 0U});
    store_release(part_->intent_valid, std::uint64_t{1});
  }

  /// PROD is published and the position committed: take the intent over, then drop it. Repeating
  /// it after a kill does no harm; the last store (intent_valid) ends it.
  void done() noexcept {
    const std::uint32_t device = load_relaxed(part_->intent_device);
    if (device < kJournalDevices) {
      JournalDevice& d = part_->device[device];
      store_relaxed(d.position.next, load_relaxed(part_->intent_position.next));
      store_relaxed(d.position.lost, load_relaxed(part_->intent_position.lost));
    }
    store_relaxed(part_->evtq_prod, load_relaxed(part_->intent_prod));
    store_release(part_->intent_valid, std::uint64_t{0});
  }

  struct Intent {
    bool valid = false;
    bool held = false;
    std::uint32_t device = kNoDevice;
    std::uint32_t prod = 0;
    SourcePosition position;
  };
  [[nodiscard]] Intent intent() const noexcept {
    Intent out;
    out.valid = load_acquire(part_->intent_valid) != 0;
    out.held = load_relaxed(part_->intent_held) != 0;
    out.device = load_relaxed(part_->intent_device);
    out.prod = load_relaxed(part_->intent_prod);
    out.position = {load_relaxed(part_->intent_position.next),
                    load_relaxed(part_->intent_position.lost)};
    return out;
  }

  /// Where a source has to go on after a restart, before resume() of the duty commits it.
  [[nodiscard]] SourcePosition resume_position(std::size_t device) const noexcept {
    const Intent i = intent();
    return i.valid && i.device == device ? i.position : position(device);
  }

  /// Only for sources whose poll takes the records away: set before it, cleared when intents cover
  /// all that was taken.
  void set_reading(std::uint64_t device_plus_one) noexcept {
    store_release(part_->reading, device_plus_one);
  }
  [[nodiscard]] std::uint64_t reading() const noexcept { return load_acquire(part_->reading); }

  [[nodiscard]] SourcePosition position(std::size_t device) const noexcept {
    const JournalPosition& p = part_->device[device].position;
    return {load_relaxed(p.next), load_relaxed(p.lost)};
  }
  /// Where a source stands at its first start. Not while an intent is valid.
  void set_position(std::size_t device, const SourcePosition& at) noexcept {
    store_relaxed(part_->device[device].position.next, at.next);
    store_release(part_->device[device].position.lost, at.lost);
  }

  /// A page request was taken from the kernel: it is to be answered, by whoever lives then.
  ///
  /// returns  false: no slot is free, and nothing is journalled
  bool open_request(const JournalCookie& request) noexcept {
    for (JournalCookie& slot : part_->cookie) {
      if (load_relaxed(slot.valid) != 0) continue;
      store_relaxed(slot.device, request.device);
      store_relaxed(slot.cookie, request.cookie);
      store_relaxed(slot.group, request.group);
      store_release(slot.valid, std::uint32_t{1});  // the slot counts from here on
      return true;
    }
    return false;
  }
  [[nodiscard]] JournalCookie request(std::size_t slot) const noexcept {
    const JournalCookie& at = part_->cookie[slot];
    return {load_acquire(at.valid), load_relaxed(at.device), load_relaxed(at.cookie),
            load_relaxed(at.group)};
  }
  /// It is answered.
  void close_request(std::size_t slot) noexcept {
    store_release(part_->cookie[slot].valid, std::uint32_t{0});
  }

  /// The event queue as the guest programmed it. PROD is stored first: while the queue is off
  /// nobody looks at it.
  void switch_evtq(const JournalEvtq& evtq, std::uint32_t prod) noexcept {
    in_program_order();
    if (evtq.enabled != 0) store_relaxed(part_->evtq_prod, prod);
    part_->evtq.store(evtq);
  }
  [[nodiscard]] JournalEvtq evtq() const noexcept { return part_->evtq.load(); }
  [[nodiscard]] std::uint32_t evtq_prod() const noexcept { return load_relaxed(part_->evtq_prod); }

  void set_loss_owed(bool owed) noexcept {
    store_release(part_->loss_owed, std::uint32_t{owed ? 1U : 0U});
  }
  [[nodiscard]] bool loss_owed() const noexcept { return load_acquire(part_->loss_owed) != 0; }

  /// GERROR and the token of the raise that made it so, in one store: after a restart CommandDuty
  /// compares tokens and never raises the same error twice. So tokens of raises grow over the whole
  /// life of a journal; 0 is none.
  void set_gerror(std::uint32_t gerror, std::uint32_t token) noexcept {
    store_release(part_->gerror, (std::uint64_t{token} << 32) | gerror);
  }
  [[nodiscard]] std::uint32_t gerror() const noexcept {
    return static_cast<std::uint32_t>(load_acquire(part_->gerror));
  }
  [[nodiscard]] std::uint32_t gerror_token() const noexcept {
    return static_cast<std::uint32_t>(load_acquire(part_->gerror) >> 32);
  }

  void set_irq(const JournalIrq& irq) noexcept { part_->irq.store(irq); }
  [[nodiscard]] JournalIrq irq() const noexcept { return part_->irq.load(); }

  /// Guest memory that this duty writes, besides the register page: noted before it does.
  [[nodiscard]] WrittenPages written() const noexcept { return WrittenPages(part_->written); }

  void beat(Nanos now) noexcept { store_relaxed(part_->heartbeat, now); }

 private:
  JournalEventPart* part_;
};

/// The journal as the CommandDuty writes it.
/// thread   the shard that owns the guest's CommandDuty; reads of it after a restart, before it
/// runs
class CommandJournal {
 public:
  explicit CommandJournal(JournalCommandPart& part) noexcept : part_(&part) {}

  /// Before CMDQ_CONS in the page; a restart publishes this value.
  void set_cons(std::uint32_t cons_with_err) noexcept {
    store_release(part_->cmdq_cons, cons_with_err);
  }
  [[nodiscard]] std::uint32_t cons() const noexcept { return load_acquire(part_->cmdq_cons); }

  /// A SYNC's commands took effect; its MSI comes next (kWriteMsi), or CONS where it has none.
  void begin_sync(std::uint32_t cons_after, Gpa msi_address, std::uint32_t msi_data) noexcept {
    in_program_order();
    store_relaxed(part_->sync_cons, cons_after);
    store_relaxed(part_->sync_address, msi_address.value);
    store_relaxed(part_->sync_data, msi_data);
    set_sync_state(msi_address.value != 0 ? SyncState::kWriteMsi : SyncState::kPublishCons);
  }
  /// The MSI is written: from here on its slot may be no command any more.
  void sync_msi_written() noexcept { set_sync_state(SyncState::kPublishCons); }
  /// CONS is published. Stores cmdq_cons, then ends the SYNC.
  void end_sync() noexcept {
    store_relaxed(part_->cmdq_cons, load_relaxed(part_->sync_cons));
    set_sync_state(SyncState::kNone);
  }
  struct Sync {
    SyncState state = SyncState::kNone;
    std::uint32_t cons = 0;
    std::uint32_t data = 0;
    Gpa address;
  };
  [[nodiscard]] Sync sync() const noexcept {
    Sync out;
    out.state = static_cast<SyncState>(load_acquire(part_->sync_state));
    out.cons = load_relaxed(part_->sync_cons);
    out.data = load_relaxed(part_->sync_data);
    out.address = Gpa{load_relaxed(part_->sync_address)};
    return out;
  }

  /// The command error that stopped the queue; set after set_cons(…ERR), before GERROR is asked
  /// for. 0: the guest acknowledged it. EventJournal::gerror_token() tells whether it was raised.
  void set_error_token(std::uint32_t token) noexcept { store_release(part_->error_token, token); }
  [[nodiscard]] std::uint32_t error_token() const noexcept {
    return load_acquire(part_->error_token);
  }

  void set_registers(const JournalRegisters& registers) noexcept {
    part_->registers.store(registers);
  }
  [[nodiscard]] JournalRegisters registers() const noexcept { return part_->registers.load(); }

  /// A stage-1 change of `device` begins: until set_stage1() the kernel may have either, so a
  /// restart binds again whatever the stream table says.
  void mark_attaching(std::size_t device) noexcept {
    store_release(part_->binding[device].attaching, std::uint64_t{1});
  }
  [[nodiscard]] bool attaching(std::size_t device) const noexcept {
    return load_acquire(part_->binding[device].attaching) != 0;
  }
  /// What the kernel has now. Stores the configuration, then clears the attaching mark.
  void set_stage1(std::size_t device, const Stage1Config& config) noexcept;
  /// returns false when nothing was ever bound; `out` is then untouched
  bool stage1(std::size_t device, Stage1Config& out) const noexcept;

  /// The sink was told of `asid` (InvalidationSink::note_asid).
  void note_asid(std::uint16_t asid) noexcept {
    std::uint64_t& word = part_->asid_seen[asid / 64];
    store_release(word, load_relaxed(word) | (std::uint64_t{1} << (asid % 64)));
  }
  [[nodiscard]] bool asid_seen(std::uint16_t asid) const noexcept {
    return (load_relaxed(part_->asid_seen[asid / 64]) >> (asid % 64) & 1) != 0;
  }

  /// Guest memory that this duty writes, besides the register page: noted before it does.
  [[nodiscard]] WrittenPages written() const noexcept { return WrittenPages(part_->written); }

  void beat(Nanos now) noexcept { store_relaxed(part_->heartbeat, now); }

 private:
  void set_sync_state(SyncState s) noexcept {
    store_release(part_->sync_state, static_cast<std::uint32_t>(s));
  }

  JournalCommandPart* part_;
};

/// Is this journal one that a start may rely on? Every index and flag in it is checked.
///
/// errors   code EINVAL and one line that says which field is wrong
[[nodiscard]] Result<void> validate(const JournalLayout& journal, std::size_t bytes);

/// The memory of one guest's journal: a memfd that the supervisor keeps open.
/// thread   control path; the parts belong to the duties
class Journal {
 public:
  /// A fresh journal for a guest of `devices` devices (1..64).
  [[nodiscard]] static Result<Journal> create(const std::string& name, std::size_t devices,
                                              std::uint64_t identity);
  /// Map a journal that somebody kept (the supervisor's descriptor; it is dup'ed) and validate it.
  [[nodiscard]] static Result<Journal> open(int memfd);

  Journal(Journal&& other) noexcept;
  Journal& operator=(Journal&& other) noexcept;
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;
  ~Journal();

  [[nodiscard]] int memfd() const noexcept { return memfd_; }
  [[nodiscard]] std::size_t devices() const noexcept { return layout_->header.devices; }
  [[nodiscard]] std::uint64_t identity() const noexcept { return layout_->header.identity; }

  /// A start must recover rather than begin.
  [[nodiscard]] bool in_use() const noexcept { return load_acquire(layout_->header.in_use) != 0; }
  void set_in_use() noexcept { store_release(layout_->header.in_use, std::uint32_t{1}); }

  [[nodiscard]] EventJournal event() noexcept { return EventJournal(layout_->event); }
  [[nodiscard]] CommandJournal command() noexcept { return CommandJournal(layout_->command); }
  [[nodiscard]] JournalLayout& layout() noexcept { return *layout_; }

  /// The older of the two duties' last beats, ns; 0 before the first.
  [[nodiscard]] Nanos last_beat() const noexcept;

 private:
  Journal(int memfd, JournalLayout* layout) noexcept : memfd_(memfd), layout_(layout) {}
  void drop() noexcept;

  int memfd_ = -1;
  JournalLayout* layout_ = nullptr;
};

}  // namespace faultline::engine
