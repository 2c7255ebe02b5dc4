// SPDX-License-Identifier: BSD-3-Clause
// hot path: the producer of one guest's event queue.
#pragma once

#include <algorithm>
#include <cstdint>

#include "engine/viommu/guest_memory.h"
#include "engine/viommu/registers.h"
#include "engine/viommu/transcode.h"
#include "kernel/base/shared.h"

namespace faultline::viommu {

/// An event queue as latched when the guest enabled it.
///
///   place, lose  …  staged_prod() → journal → publish_…()
///
/// place() writes slots that the guest cannot see yet; lose() notes an event that will never come;
/// publish makes all of it visible by one store of EVTQ_PROD. PROD is never read back. CONS is the
/// guest's and hostile: an impossible one means full, so no slot that the guest may still read is
/// written, and never anything outside the queue.
///
/// Overflow (IHI 0070 7.4): a lost event toggles OVFLG unless an overflow is already unacknowledged
/// (OVFLG != OVACKFLG). Writes go on as soon as there is room, acknowledged or not.
///
/// thread  the shard that owns the guest's EventDuty
class EventQueue {
 public:
  static constexpr unsigned kEntryBytes = 32;

  /// Latch a queue.
  ///
  /// base_register  EVTQ_BASE; size capped at 2^max_log2, address aligned to its size
  /// prod_register  EVTQ_PROD as the guest wrote it before enabling, or as journalled, with OVFLG
  /// returns        false: the queue is not inside one region of guest memory. Nothing can be
  ///                placed; the first event is to raise GERROR.EVTQ_ABT
  bool enable(const GuestMemory& memory, const RegisterPage& page, std::uint64_t base_register,
              std::uint32_t prod_register, unsigned max_log2) noexcept {
    log2size_ = static_cast<unsigned>(
        std::min<std::uint64_t>({base_register & queue::kLog2Size, max_log2, queue::kMaxLog2Size}));
    const std::uint64_t bytes = std::uint64_t{kEntryBytes} << log2size_;
    base_ = base_register & queue::kAddr & ~(bytes - 1);
    entries_ = static_cast<std::uint64_t*>(memory.pointer(Gpa{base_}, bytes));
    page_ = page;
    restore(prod_register);
    enabled_ = true;
    return entries_ != nullptr;
  }

  /// After this nothing is written to the old queue; what was staged and not published is dropped.
  void disable() noexcept {
    enabled_ = false;
    restore(published_);
  }

  /// Go on from a journalled EVTQ_PROD: published and staged are both `prod_register`.
  void restore(std::uint32_t prod_register) noexcept {
    published_ = prod_register & (index_mask() | queue::kOverflow);
    staged_ = published_;
    room_ = 0;
  }

  /// Write one event into the next free slot. The guest sees it after publish.
  ///
  /// returns  false: no room (or not enabled, or the queue is not in guest memory). The caller
  ///          drops the event and calls lose(), or tries later
  /// cost     four stores; one acquire load of CONS when the room last known is used up
  bool place(const Event& event) noexcept {
    if (room_ == 0 && free_slots() == 0) return false;
    std::uint64_t* slot = entries_ + 4 * std::size_t{staged_ & (size() - 1)};
    copy_to_shared(slot, event.word, sizeof event.word);
    staged_ = (staged_ & queue::kOverflow) | ((staged_ + 1) & index_mask());
    --room_;
    return true;
  }

  /// Free slots behind what is staged, by the guest's CONS of now.
  std::uint32_t free_slots() noexcept {
    if (!usable()) return room_ = 0;
    // Acquire: the guest has read a slot before its CONS passes it (pairs with the barrier before
    // its register write), so our next write of that slot comes after.
    const std::uint32_t used = (staged_ - page_.acquire(Reg32::kEvtqCons)) & index_mask();
    return room_ = used > size() ? 0 : size() - used;
  }

  /// An event was lost, here (queue full) or in the kernel: toggle OVFLG in the staged PROD, unless
  /// an overflow is already unacknowledged. While the queue is disabled a loss is no overflow.
  ///
  /// returns  whether OVFLG toggled, i.e. there is something to publish
  bool lose() noexcept {
    if (!enabled_) return false;
    if (((staged_ ^ page_.load(Reg32::kEvtqCons)) & queue::kOverflow) != 0) return false;
    staged_ ^= queue::kOverflow;
    return true;
  }

  /// The EVTQ_PROD that publish will store: index, wrap bit, OVFLG. To be journalled before.
  [[nodiscard]] std::uint32_t staged_prod() const noexcept { return staged_; }

  /// The EVTQ_PROD the guest sees.
  [[nodiscard]] std::uint32_t prod() const noexcept { return published_; }

  [[nodiscard]] bool dirty() const noexcept { return staged_ != published_; }

  /// Make what is staged visible, for a guest that reads the register page as memory: whether it
  /// saw an empty queue cannot be known, so interrupt after every call that returns true.
  bool publish_exitless() noexcept {
    if (!dirty()) return false;
    published_ = staged_;
    page_.release(Reg32::kEvtqProd, published_);
    return true;
  }

  /// Make what is staged visible, for a guest whose CONS writes trap.
  ///
  /// returns  whether to interrupt: the guest had consumed everything published before, or OVFLG
  ///          changed
  /// order    seq_cst exchange of PROD, then seq_cst load of CONS; the guest's writer of CONS does
  ///          the mirror image, so one of the two sees the other
  bool publish_trapped() noexcept {
    if (!dirty()) return false;
    const std::uint32_t before = published_;
    published_ = staged_;
    exchange_seq_cst(page_.at(Reg32::kEvtqProd), published_);
    const std::uint32_t cons = load_seq_cst(page_.at(Reg32::kEvtqCons));
    return ((cons ^ before) & index_mask()) == 0 || ((before ^ published_) & queue::kOverflow) != 0;
  }

  /// Store the published PROD again: recovery of a journalled intent, idempotent.
  void republish() noexcept { page_.release(Reg32::kEvtqProd, published_); }

  [[nodiscard]] bool enabled() const noexcept { return enabled_; }
  /// Enabled and inside guest memory.
  [[nodiscard]] bool usable() const noexcept { return enabled_ && entries_ != nullptr; }
  [[nodiscard]] unsigned log2size() const noexcept { return log2size_; }
  [[nodiscard]] std::uint32_t size() const noexcept { return 1U << log2size_; }
  [[nodiscard]] Gpa base() const noexcept { return Gpa{base_}; }

 private:
  [[nodiscard]] std::uint32_t index_mask() const noexcept { return 2 * size() - 1; }

  RegisterPage page_;
  std::uint64_t* entries_ = nullptr;
  std::uint64_t base_ = 0;
  unsigned log2size_ = 0;
  std::uint32_t published_ = 0;
  std::uint32_t staged_ = 0;
  std::uint32_t room_ = 0;
  bool enabled_ = false;
};

}  // namespace faultline::viommu
