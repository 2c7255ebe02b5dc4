// SPDX-License-Identifier: BSD-3-Clause
// hot path: consumption of one fault region in ABI 1.
#pragma once

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "kernel/base/shared.h"
#include "kernel/base/units.h"
#include "kernel/record.h"
#include "kernel/sys.h"
#include "kernel/uapi/vfio_nested.h"
#include "kernel/vfio/fault_queue.h"
#include "kernel/vfio/fault_record.h"
#include "kernel/vfio/fault_stats.h"
#include "kernel/vfio/full_rule.h"
#include "kernel/vfio/loss_watch.h"

namespace faultline::vfio {

/// All that an idle look at a version 1 region needs, on one line of its own.
struct alignas(kCacheLine) SlotWatch {
  static constexpr std::size_t kWords = sizeof(uapi::iommu_fault) / sizeof(std::uint64_t);

  const std::uint64_t* slot = nullptr;  ///< the kernel's: where the next record comes
  std::uint64_t words[kWords] = {};     ///< what was there a lap ago
  std::uint64_t wanted = 0;             ///< poll whatever the slot looks like

  [[nodiscard]] bool idle() const noexcept {
    std::uint64_t difference = wanted;
    for (std::size_t i = 0; i < kWords; ++i) difference |= load_relaxed(slot[i]) ^ words[i];
    return difference == 0;
  }
};

/// One region in ABI 1, whose header cannot be mapped: prod costs a pread, so the next slot is
/// watched instead, and prod is read only after that slot's bytes changed.
///
/// What bounds detection. Let a fault's record be written to slot s (W), prod be published (P) and
/// the eventfd be signalled (E); the kernel does so in this order. Let everything before s have
/// been polled, so that slot s is the one watched (while records below a confirmed prod are unread,
/// poll() returns those and watches nothing). The private copy of s holds the bytes of its record
/// of a lap ago, copied after prod had passed it and before it was given back; so nothing but W
/// can make the slot differ from the copy.
///  - The new record differs: every poll() that starts after P sees it and reads prod, which has
///    passed s. Bound: one poll interval plus one pread. A poll() between W and P reads prod in
///    vain, at most kTries times, and the next one looks again, since the slot still differs.
///  - The record is equal: no byte changes. E comes after P, so the first epoll_wait of the
///  backstop
///    that starts after E reports it, attend() is called and the next poll() reads prod. Bound: one
///    backstop period plus one poll interval plus one pread.
///  - At start the slots are copied first and prod is read afterwards, with the eventfd in place
///    before both: what is published before the read is found by it; what is published after was
///    either written after the copy, then it differs, or it was written before, then E is still to
///    come and the backstop finds it.
/// Records are published in order, so a later record cannot hide an earlier one: any read of prod
/// confirms all up to it.
///
/// cost     idle: six loads of the slot, six of the copy; a burst: one pread, one pwrite
/// thread   owning shard only
/// source   v7 19–22/23; the seed
template <Syscalls Sys>
class FaultRegion1 {
 public:
  /// queue      of ABI 1; the eventfd must be set already
  /// position   where an earlier life stopped; none: at the first slot, or, when the ABI had been
  ///            chosen by somebody before, at the kernel's prod, with a loss reported
  FaultRegion1(Sys& sys, FaultQueue<Sys> queue, const FaultOptions& options,
               std::optional<SourcePosition> position)
      : ring_(queue.ring()),
        entry_size_(queue.geometry.entry_size),
        entries_(queue.geometry.entries),
        copies_(std::make_unique<Slot[]>(entries_)),
        sys_(&sys),
        losses_(entries_, options.masked_full_rule),
        shifted_(options.fetch_addr_shifted),
        queue_(std::move(queue)) {
    for (std::uint32_t i = 0; i < entries_; ++i) copy_slot(i);
    next_ = confirmed_ = given_back_ = entries_;  // a lap above 0, so that nothing goes below it
    if (position && position->next < entries_) {
      resume(*position);
    } else if (position || !queue_.negotiated_now) {
      adopt_prod_ = true;
      dirty_ = true;
    }
  }

  std::size_t poll(std::span<FaultRecord> out) noexcept {
    if (next_ == confirmed_) {
      if (!attention_ && !slot_changed()) return 0;
      if (!confirm()) return 0;
    }
    const std::size_t n = std::min<std::uint64_t>(confirmed_ - next_, out.size());
    for (std::size_t i = 0; i < n; ++i) {
      // Ordered behind the pread that confirmed prod: the kernel holds the region's lock for it.
      copy_slot(slot_);
      out[i] = decode_fault1(copies_[slot_].raw, shifted_, stats_);
      if (losses_.take(slot_)) {
        out[i].lost_before = 1;
        out[i].lost_before_is_guess = true;
      }
      ++next_;
      if (++slot_ == entries_) slot_ = 0;
    }
    stats_.records += n;
    return n;
  }

  /// `lost` is not a count in this ABI: it says which cons the kernel had when this was asked, so
  /// that a restart can infer loss over the gap (see LossWatch::cookie()).
  [[nodiscard]] SourcePosition position() const noexcept {
    // While it is not known which cons is in force, the one named is a guess that may be a lap old.
    const bool uncertain = attempted_ > given_back_ || adopt_prod_ || cons_unknown_;
    return {slot_, losses_.cookie(index(given_back_), uncertain)};
  }

  /// Write cons once for everything polled; a write that failed or came short is repeated by the
  /// next call (also when nothing was polled since) or by retry().
  ///
  /// returns  0, or the negative errno (-EIO for a short write)
  int commit() noexcept {
    if ((next_ == given_back_ && !dirty_) || adopt_prod_) return 0;
    return give_back(next_);
  }

  /// The write that failed last, again; nothing that was polled since. 0 when there is none.
  int retry() noexcept {
    if (!dirty_ || adopt_prod_) return 0;
    return give_back(std::max(attempted_, given_back_));
  }

  SourceLoss take_loss() noexcept {
    // A mark at a slot that holds no confirmed record yet has no record to travel on.
    if (losses_.any() && next_ == confirmed_ && losses_.take(slot_)) return {.possible = 1};
    return {};
  }

  /// Read prod at the next poll, whatever the slot looks like: the eventfd was signalled.
  void attend() noexcept {
    ++stats_.backstops;
    attention_ = true;
  }

  /// Whether retry() has something to do.
  [[nodiscard]] bool dirty() const noexcept { return dirty_; }

  [[nodiscard]] const FaultStats& stats() const noexcept { return stats_; }
  [[nodiscard]] const FaultQueue<Sys>& queue() const noexcept { return queue_; }
  /// Where nothing is to be done until a word differs or `wanted` is set; changed by every call but
  /// a poll() that returned 0 and found nothing wanted.
  [[nodiscard]] SlotWatch watch() const noexcept {
    SlotWatch w;
    w.slot = shared_slot(slot_);
    std::copy_n(copies_[slot_].words, SlotWatch::kWords, w.words);
    w.wanted = attention_ || next_ != confirmed_ ? 1 : 0;
    return w;
  }

 private:
  static constexpr int kTries = 4;
  static constexpr std::size_t kWords = SlotWatch::kWords;
  static constexpr std::uint64_t kProdField = offsetof(uapi::vfio_region_fault_prod, prod);

  union Slot {
    uapi::iommu_fault raw;
    std::uint64_t words[kWords];
  };
  static_assert(sizeof(Slot) == sizeof(uapi::iommu_fault));

  [[nodiscard]] std::uint32_t index(std::uint64_t position) const noexcept {
    return static_cast<std::uint32_t>(position % entries_);
  }
  [[nodiscard]] const std::uint64_t* shared_slot(std::uint32_t slot) const noexcept {
    return reinterpret_cast<const std::uint64_t*>(ring_ + std::size_t{slot} * entry_size_);
  }

  void copy_slot(std::uint32_t slot) noexcept {
    copy_from_shared(&copies_[slot].raw, shared_slot(slot), sizeof(uapi::iommu_fault));
  }

  [[nodiscard]] bool slot_changed() const noexcept {
    const std::uint64_t* now = shared_slot(slot_);
    const std::uint64_t* before = copies_[slot_].words;
    std::uint64_t difference = 0;
    for (std::size_t i = 0; i < kWords; ++i) difference |= load_relaxed(now[i]) ^ before[i];
    return difference != 0;
  }

  /// Read prod until it moves. False: it did not; the next poll looks again if the slot differs.
  [[gnu::cold, gnu::noinline]] bool confirm() noexcept {
    const bool changed = slot_changed();
    const bool backstop = std::exchange(attention_, false);
    for (int i = 0; i < (changed ? kTries : 1); ++i) {
      if (read_prod()) {
        if (!changed && backstop) ++stats_.backstop_finds;
        return next_ != confirmed_;
      }
    }
    if (changed) ++stats_.early_slot;
    return false;
  }

  /// One pread of prod. True: it moved forward, and the losses on the way are marked.
  bool read_prod() noexcept {
    std::uint32_t prod = 0;
    ++stats_.prod_reads;
    const ssize_t got =
        sys_->pread(queue_.fd, &prod, sizeof prod, static_cast<off_t>(queue_.prod_at + kProdField));
    if (got != sizeof prod) {
      ++(got < 0 ? stats_.prod_read_failed : stats_.prod_read_short);
      attention_ = true;  // whatever asked for this read still wants it
      return false;
    }
    if (prod >= entries_) {
      ++stats_.bad_prod;
      return false;
    }
    if (adopt_prod_) return adopt(prod);
    const std::uint32_t from = index(confirmed_);
    const std::uint32_t moved = prod >= from ? prod - from : prod + entries_ - from;
    // A producer that keeps one slot empty cannot be further than this, whichever of the cons
    // values written so far it has.
    if (confirmed_ + moved > std::max(given_back_, attempted_) + entries_ - 1) {
      ++stats_.bad_prod;
      return false;
    }
    if (cons_unknown_) [[unlikely]] {
      losses_.suspect();
    }
    losses_.passed(confirmed_, confirmed_ + moved, stats_);
    confirmed_ += moved;
    return moved != 0;
  }

  /// Start at the kernel's prod: what lies before it cannot be known.
  bool adopt(std::uint32_t prod) noexcept {
    adopt_prod_ = false;
    cons_unknown_ = true;  // until the first commit: the kernel may be dropping all the while
    next_ = confirmed_ = given_back_ = std::uint64_t{entries_} + prod;
    slot_ = prod;
    losses_.mark(slot_, stats_);
    ++stats_.resyncs;
    return true;
  }

  void resume(const SourcePosition& position) noexcept {
    slot_ = static_cast<std::uint32_t>(position.next);
    next_ = confirmed_ = std::uint64_t{entries_} + slot_;
    // The write behind the journal's entry may or may not have happened: as after a failed one.
    given_back_ = losses_.resume(position.lost, confirmed_, stats_);
    attempted_ = next_;
    cons_unknown_ = losses_.uncertain();
    dirty_ = true;
  }

  int give_back(std::uint64_t position) noexcept {
    if (losses_.crowded()) read_prod();
    const uapi::vfio_region_fault_cons cons{
        .version = uapi::kVfioRegionFaultAbiVersion1,
        .cons = index(position),
    };
    losses_.replaced(given_back_, confirmed_, stats_);
    // A write reported as failed may have taken effect all the same.
    if (attempted_ > given_back_) losses_.replaced(attempted_, confirmed_, stats_);
    const bool another = attempted_ > given_back_ && attempted_ != position;
    attempted_ = position;
    const ssize_t put =
        sys_->pwrite(queue_.fd, &cons, sizeof cons, static_cast<off_t>(queue_.cons_at));
    if (put != sizeof cons) {
      // Of two different ones that failed, either may be the one in force.
      cons_unknown_ = cons_unknown_ || another;
      return commit_failed(put);
    }
    given_back_ = position;
    dirty_ = false;
    ++stats_.commits;
    if (std::exchange(cons_unknown_, false)) losses_.doubt(confirmed_, stats_);
    return 0;
  }

  [[gnu::cold, gnu::noinline]] int commit_failed(ssize_t put) noexcept {
    ++(put < 0 ? stats_.commit_failed : stats_.commit_short);
    dirty_ = true;
    return put < 0 ? static_cast<int>(put) : -EIO;
  }

  alignas(kCacheLine) const unsigned char* ring_;
  std::uint32_t entry_size_;
  std::uint32_t entries_;
  std::unique_ptr<Slot[]> copies_;
  std::uint64_t next_ = 0;        ///< record to read next; a position counts records, modulo a lap
  std::uint64_t confirmed_ = 0;   ///< prod as last read
  std::uint64_t given_back_ = 0;  ///< cons as last written
  std::uint32_t slot_ = 0;        ///< next_ % entries_
  bool attention_ = true;         ///< the first poll reads prod
  bool dirty_ = false;
  bool adopt_prod_ = false;
  bool cons_unknown_ = false;    ///< neither given_back_ nor attempted_ need be the one in force
  std::uint64_t attempted_ = 0;  ///< cons as last written without success, when > given_back_
  Sys* sys_;
  LossWatch losses_;
  bool shifted_;
  FaultStats stats_;
  FaultQueue<Sys> queue_;
};

}  // namespace faultline::vfio
