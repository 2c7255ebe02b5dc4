// SPDX-License-Identifier: BSD-3-Clause
// hot path: consumption of one fault region in ABI 2.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <utility>

#include "kernel/base/shared.h"
#include "kernel/base/units.h"
#include "kernel/record.h"
#include "kernel/uapi/fault_abi2.h"
#include "kernel/vfio/fault_queue.h"
#include "kernel/vfio/fault_record.h"
#include "kernel/vfio/fault_stats.h"

namespace faultline::vfio {

/// All that an idle look at a version 2 region needs.
struct ProdWatch {
  const std::uint64_t* prod = nullptr;  ///< the kernel's
  std::uint64_t next = 0;               ///< what it was when everything had been read

  [[nodiscard]] bool idle() const noexcept { return load_relaxed(*prod) == next; }
};

/// One region in ABI 2: everything in mapped memory, no system call at all.
///
/// cost     idle: one load of the kernel's line and one of ours; a record: one cache line
/// thread   owning shard only
/// source   doc/fault-abi-2.md
template <Syscalls Sys>
class FaultRegion2 {
 public:
  /// queue      of ABI 2
  /// position   where an earlier life stopped; none: at the beginning, or, when the ABI had been
  ///            chosen by somebody before, at what is in the ring by now, with a loss reported
  FaultRegion2(Sys& /*sys*/, FaultQueue<Sys> queue, const FaultOptions& /*options*/,
               std::optional<SourcePosition> position) noexcept
      : header_(reinterpret_cast<const uapi::vfio_region_fault_prod2*>(queue.producer.data())),
        ring_(reinterpret_cast<const uapi::vfio_fault_record2*>(queue.ring())),
        cons_(reinterpret_cast<uapi::vfio_region_fault_cons2*>(queue.consumer.data())),
        mask_(queue.geometry.entries - 1),
        queue_(std::move(queue)) {
    if (position) {
      next_ = position->next;
      lost_ = position->lost;
      committed_ = next_;
      dirty_ = true;  // the write before the restart may not have happened
    } else if (!queue_.negotiated_now) {
      resync(load_acquire(header_->prod));
    }
  }

  std::size_t poll(std::span<FaultRecord> out) noexcept {
    // Pairs with the producer's release of prod: the records below it are whole, and so is `lost`.
    const std::uint64_t prod = load_acquire(header_->prod);
    if (prod == next_) return 0;
    // committed_ <= next_ <= prod <= committed_ + entries, or the kernel makes no sense.
    if (prod - committed_ > entries() || prod - next_ > prod - committed_) {
      ++stats_.bad_prod;
      resync(prod);
      return 0;
    }
    const std::size_t n = std::min<std::uint64_t>(prod - next_, out.size());
    for (std::size_t i = 0; i < n; ++i) {
      const auto* slot = &ring_[next_ & mask_];
      __builtin_prefetch(&ring_[(next_ + 1) & mask_]);
      out[i] = take(*slot);
      ++next_;
    }
    stats_.records += n;
    return n;
  }

  [[nodiscard]] SourcePosition position() const noexcept { return {next_, lost_}; }

  /// returns  always 0: it is a store
  int commit() noexcept {
    if (committed_ == next_ && !dirty_) return 0;
    committed_ = next_;
    dirty_ = false;
    // After the last read of the slots given back; pairs with the producer's acquire of cons.
    store_release(cons_->cons, next_);
    ++stats_.commits;
    return 0;
  }

  SourceLoss take_loss() noexcept {
    SourceLoss loss{.exact = 0, .possible = std::exchange(pending_resyncs_, 0U)};
    // First lost, then prod: when no record is unread after that, every loss counted in `lost` lies
    // behind the last record read. Otherwise the next record's sequence tells. Pairs with the
    // producer's release of lost.
    const std::uint64_t lost = load_acquire(header_->lost);
    if (lost != lost_ && load_acquire(header_->prod) == next_) {
      if (lost - lost_ <= std::numeric_limits<std::uint64_t>::max() / 2) {
        loss.exact = lost - lost_;
        stats_.exact_loss += loss.exact;
      } else {
        ++stats_.bad_sequence;
        ++loss.possible;
      }
      lost_ = lost;
    }
    return loss;
  }

  [[nodiscard]] const FaultStats& stats() const noexcept { return stats_; }
  [[nodiscard]] const FaultQueue<Sys>& queue() const noexcept { return queue_; }
  /// Where nothing is to be done until prod differs; changed by poll().
  [[nodiscard]] ProdWatch watch() const noexcept { return {&header_->prod, next_}; }

 private:
  [[nodiscard]] std::uint64_t entries() const noexcept { return std::uint64_t{mask_} + 1; }

  FaultRecord take(const uapi::vfio_fault_record2& slot) noexcept {
    uapi::vfio_fault_record2 raw;
    copy_from_shared(&raw, &slot, sizeof raw);
    FaultRecord record = decode_fault2(raw, stats_);
    // Record n has sequence n + (events lost before it).
    const std::uint64_t lost = raw.sequence - next_;
    if (lost != lost_ || adopt_sequence_) lost_before(record, lost);
    return record;
  }

  [[gnu::cold, gnu::noinline]] void lost_before(FaultRecord& record, std::uint64_t lost) noexcept {
    const std::uint64_t gap = lost - lost_;
    constexpr std::uint64_t kMost = std::numeric_limits<std::uint32_t>::max();
    if (adopt_sequence_) {  // after a resync the first record says where we are
      adopt_sequence_ = false;
      lost_ = lost;
    } else if (gap <= std::numeric_limits<std::uint64_t>::max() / 2) {
      record.lost_before = static_cast<std::uint32_t>(std::min(gap, kMost));
      stats_.exact_loss += gap;
      lost_ = lost;
    } else {  // it went backward: not a record that this kernel can have meant for this place
      ++stats_.bad_sequence;
      ++stats_.malformed;
      record = FaultRecord{};
      record.lost_before = 1;
      record.lost_before_is_guess = true;
    }
  }

  [[gnu::cold, gnu::noinline]] void resync(std::uint64_t prod) noexcept {
    next_ = prod;
    lost_ = load_acquire(header_->lost);  // pairs with the producer's release of lost
    committed_ = prod;
    dirty_ = true;
    adopt_sequence_ = true;
    ++pending_resyncs_;
    ++stats_.resyncs;
    ++stats_.possible_loss;
  }

  // One line: all that an idle poll touches.
  alignas(kCacheLine) const uapi::vfio_region_fault_prod2* header_;
  const uapi::vfio_fault_record2* ring_;
  uapi::vfio_region_fault_cons2* cons_;
  std::uint64_t next_ = 0;       ///< record to read next
  std::uint64_t committed_ = 0;  ///< what the kernel has been given back
  std::uint64_t lost_ = 0;       ///< losses accounted for up to next_
  std::uint32_t mask_;
  std::uint32_t pending_resyncs_ = 0;
  bool dirty_ = false;
  bool adopt_sequence_ = false;
  FaultStats stats_;
  FaultQueue<Sys> queue_;
};

}  // namespace faultline::vfio
