// SPDX-License-Identifier: BSD-3-Clause
// hot path: the CMD_SYNCs of one guest, from their fetch to the moment the guest is told.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/command_counters.h"
#include "engine/interrupt.h"
#include "engine/journal.h"
#include "engine/merge/policy.h"
#include "engine/viommu/command_queue.h"
#include "engine/viommu/guest_memory.h"
#include "engine/viommu/registers.h"
#include "kernel/base/clock.h"
#include "kernel/base/histogram.h"

namespace faultline::engine {

/// CMD_SYNCs fetched and not yet told done, and CMDQ_CONS.
///
/// Telling a SYNC with an MSI done is the one thing that a restart must not repeat blindly: Linux
/// lets the MSI overwrite the command's own slot, so between MSI and CONS the slot is no command.
/// Hence the journal's states (engine/journal.h): 1 before the MSI, 2 before CONS, 0 after it.
/// CMDQ_CONS is journalled before it is published, never the other way round: a restart that knew
/// less than the guest would fetch slots that the guest has filled anew.
///
/// eventfd the VMM's, for interrupts that are no write to guest memory; -1: none
/// routes  eventfds of MSIs that are none either; outlive this object
/// Step    callable with a JournalStep; true: leave, change nothing more
/// thread  the shard that owns the guest's CommandDuty
class SyncCompletion {
 public:
  static constexpr std::size_t kCapacity = 64;

  SyncCompletion(const viommu::GuestMemory& memory, const viommu::RegisterPage& page,
                 viommu::CommandQueue& queue, CommandJournal journal, int eventfd,
                 CommandCounters& counters, std::span<const MsiRoute> routes = {}) noexcept
      : memory_(&memory),
        page_(page),
        queue_(&queue),
        journal_(journal),
        wire_(eventfd),
        counters_(&counters),
        routes_(routes) {}

  /// After a restart: what the journal says is still to be done for the SYNC that was being
  /// completed. Then CONS in the page, the journal and (by the caller) the queue agree.
  /// thread  control path
  void recover() noexcept {
    const CommandJournal::Sync sync = journal_.sync();
    if (sync.state == SyncState::kNone) return;
    if (sync.state == SyncState::kWriteMsi) {
      // An eventfd may block (nudge.h): that is for the shard. Until then the journal owes it.
      owed_ = memory_->pointer(sync.address, sizeof(std::uint32_t)) == nullptr;
      if (!owed_) {
        write_msi(sync.address.value, sync.data);
        journal_.sync_msi_written();
      }
    }
    page_.release(viommu::Reg32::kCmdqCons, sync.cons);
    if (owed_) {
      journal_.set_cons(sync.cons);
    } else {
      journal_.end_sync();
    }
  }

  /// recover() left an MSI to tell: pay() before CONS or the queue change.
  [[nodiscard]] bool owes() const noexcept { return owed_; }
  void pay() noexcept {
    owed_ = false;
    const CommandJournal::Sync sync = journal_.sync();
    write_msi(sync.address.value, sync.data);
    journal_.sync_msi_written();
    journal_.end_sync();
  }

  [[nodiscard]] bool empty() const noexcept { return head_ == tail_; }
  [[nodiscard]] bool full() const noexcept { return tail_ - head_ == kCapacity; }
  void clear() noexcept { head_ = tail_; }

  /// A SYNC was fetched. Requires !full().
  void add(const viommu::Command& sync, merge::Position at, Nanos now) noexcept {
    pending_[tail_++ % kCapacity] = {at, now, sync.msi_addr, sync.msi_data,
                                     sync.signal == viommu::SyncSignal::kInterrupt};
  }

  /// Position of the first SYNC not before `at`; `none` when there is none. cost: O(pending)
  [[nodiscard]] merge::Position first_from(merge::Position at,
                                           merge::Position none) const noexcept {
    for (std::size_t i = head_; i != tail_; ++i) {
      if (pending_[i % kCapacity].at >= at) return pending_[i % kCapacity].at;
    }
    return none;
  }

  /// Everything before `covered` took effect: complete the SYNCs there, then let CONS pass.
  ///
  /// told     commands that CONS has passed; moved on to `covered`
  /// returns  SYNCs completed; `left` is set when a step said to leave
  template <class Step>
  std::size_t complete(merge::Position covered, merge::Position& told, Nanos now, Step&& step,
                       bool& left) noexcept {
    std::size_t completed = 0;
    bool signal = false;
    while (!empty() && pending_[head_ % kCapacity].at < covered) {
      const Pending& sync = pending_[head_ % kCapacity];
      if (sync.msi_addr != 0) {
        if (!complete_msi(sync, told, step)) {
          left = true;
          return completed;
        }
      } else {
        signal |= sync.interrupt;
      }
      latency_.record(now > sync.fetched ? now - sync.fetched : 0);
      ++head_;
      ++completed;
    }
    if (covered > told && !publish(covered, told, step)) left = true;
    if (completed != 0) tally(counters_->syncs_completed, completed);
    if (signal && !left) [[unlikely]] {
      wire_.raise(*memory_);
    }
    return completed;
  }

  /// An MSI went to an address that is neither memory nor anybody's: GERROR.MSI_CMDQ_ABT is due.
  [[nodiscard]] bool take_msi_abort() noexcept {
    const bool aborted = msi_aborted_;
    msi_aborted_ = false;
    return aborted;
  }

  /// Eventfds that the VMM made block (nudge.h). thread: any
  [[nodiscard]] std::uint64_t blocked_eventfds() const noexcept {
    return load_relaxed(blocked_routes_) + (wire_.blocked() ? 1 : 0);
  }

  /// From the first fetch of a SYNC until it was told done, ns.
  [[nodiscard]] const Histogram& latency() const noexcept { return latency_; }

 private:
  struct Pending {
    merge::Position at = 0;
    Nanos fetched = 0;
    std::uint64_t msi_addr = 0;
    std::uint32_t msi_data = 0;
    bool interrupt = false;
  };

  template <class Step>
  bool publish(merge::Position covered, merge::Position& told, Step&& step) noexcept {
    queue_->advance(static_cast<std::uint32_t>(covered - told));
    told = covered;
    const std::uint32_t cons = queue_->cons_register();
    journal_.set_cons(cons);
    if (step(JournalStep::kConsJournalled)) return false;
    // Release: the guest that sees CONS pass a SYNC sees everything that the SYNC waited for.
    page_.release(viommu::Reg32::kCmdqCons, cons);
    return !step(JournalStep::kConsPublished);
  }

  template <class Step>
  bool complete_msi(const Pending& sync, merge::Position& told, Step&& step) noexcept {
    const merge::Position after = sync.at + 1;
    queue_->advance(static_cast<std::uint32_t>(after - told));
    told = after;
    const std::uint32_t cons = queue_->cons_register();
    journal_.begin_sync(cons, Gpa{sync.msi_addr}, sync.msi_data);
    if (step(JournalStep::kSyncJournalled)) return false;
    write_msi(sync.msi_addr, sync.msi_data);
    if (step(JournalStep::kSyncMsiWritten)) return false;
    journal_.sync_msi_written();
    if (step(JournalStep::kSyncMsiJournalled)) return false;
    page_.release(viommu::Reg32::kCmdqCons, cons);
    if (step(JournalStep::kSyncConsPublished)) return false;
    journal_.end_sync();
    return !step(JournalStep::kSyncDone);
  }

  /// Linux lets a SYNC write over its own slot, so the whole queue is one place to write to.
  [[gnu::cold, gnu::noinline]] void note_written(std::uint64_t address) noexcept {
    if (memory_->pointer(Gpa{address}, sizeof(std::uint32_t)) == nullptr) return;
    written_ = address & ~(kPage4K - 1);
    written_bytes_ = kPage4K;
    const std::uint64_t queue = queue_->base().value;
    const std::uint64_t queue_bytes =
        std::uint64_t{queue_->size()} * viommu::CommandQueue::kEntryBytes;
    if (address - queue < queue_bytes) {
      written_ = queue;
      written_bytes_ = queue_bytes;
    }
    journal_.written().note(Gpa{written_}, written_bytes_);
  }

  void write_msi(std::uint64_t address, std::uint32_t data) noexcept {
    if (address - written_ >= written_bytes_) [[unlikely]] {
      note_written(address);
    }
    if (memory_->write32(Gpa{address}, data)) [[likely]] {
      return;
    }
    Interrupt routed = Interrupt(route_of(routes_, Gpa{address}, data));
    const bool told = routed.raise(*memory_);
    if (routed.blocked()) {
      routes_ = {};
      tally(blocked_routes_);
    }
    if (told || wire_.raise(*memory_)) return;
    tally(counters_->msi_aborts);
    msi_aborted_ = true;
  }

  const viommu::GuestMemory* memory_;
  viommu::RegisterPage page_;
  viommu::CommandQueue* queue_;
  CommandJournal journal_;
  Interrupt wire_;  ///< CS = IRQ without an address, or with that of a doorbell
  CommandCounters* counters_;
  std::span<const MsiRoute> routes_;
  std::size_t head_ = 0;
  std::size_t tail_ = 0;
  bool msi_aborted_ = false;
  bool owed_ = false;
  std::uint64_t blocked_routes_ = 0;
  std::uint64_t written_ = 0;  ///< where the last MSI went, which the journal knows of
  std::uint64_t written_bytes_ = 0;
  std::array<Pending, kCapacity> pending_{};
  Histogram latency_;
};

}  // namespace faultline::engine
