// SPDX-License-Identifier: BSD-3-Clause
// hot path: the consumer of one guest's command queue.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "engine/viommu/command.h"
#include "engine/viommu/guest_memory.h"
#include "kernel/base/shared.h"

namespace faultline::viommu {

/// A command queue as latched when the guest enabled it. Indexes run modulo twice the size: the bit
/// above the index is the wrap bit. Nothing is ever read back from the guest's memory.
///
///   cons ──── fetched ──── guest's PROD
///     told done │ copied, not yet told done │ not yet copied
///
/// The fetch position may run ahead of what CMDQ_CONS says, because a CMD_SYNC is told done only
/// after its submission; rewind() and a restart fetch again from cons.
///
/// thread  the shard that owns the guest's CommandDuty
class CommandQueue {
 public:
  static constexpr unsigned kEntryBytes = 16;

  struct Fetched {
    std::size_t count = 0;                     ///< commands copied to out[0 .. count)
    CommandError error = CommandError::kNone;  ///< kAbort: the queue is not in guest memory
  };

  /// Latch a queue.
  ///
  /// base_register  CMDQ_BASE; its size is capped at 2^max_log2, its address aligned to its size
  /// cons_register  CMDQ_CONS as the guest wrote it before enabling, or as journalled
  void enable(const GuestMemory& memory, std::uint64_t base_register, std::uint32_t cons_register,
              unsigned max_log2) noexcept {
    log2size_ = static_cast<unsigned>(
        std::min<std::uint64_t>({base_register & queue::kLog2Size, max_log2, queue::kMaxLog2Size}));
    const std::uint64_t bytes = std::uint64_t{kEntryBytes} << log2size_;
    base_ = base_register & queue::kAddr & ~(std::max<std::uint64_t>(bytes, 32) - 1);
    entries_ = static_cast<std::uint64_t*>(memory.pointer(Gpa{base_}, bytes));
    cons_ = cons_register & index_mask();
    fetched_ = cons_;
    enabled_ = true;
  }

  /// No fetch until enable().
  void disable() noexcept { enabled_ = false; }

  /// Copy commands that were not copied yet. Each is read from guest memory once, word by word.
  ///
  /// prod    CMDQ_PROD read with acquire, after which the entries before it may be read (pairs with
  ///         the guest's dma_wmb and register write). Any value: bits above the wrap bit are
  ///         ignored; one that lies more than the queue's size ahead of cons counts modulo the
  ///         size; one behind the fetch position means that nothing is new
  /// out     up to out.size() commands
  /// errors  kAbort with count 0: there are commands, but the queue is not inside one region of
  ///         guest memory
  Fetched fetch(std::uint32_t prod, std::span<RawCommand> out) noexcept {
    const std::uint32_t n =
        static_cast<std::uint32_t>(std::min<std::size_t>(unfetched(prod), out.size()));
    if (n == 0) return {};
    if (entries_ == nullptr) return {0, CommandError::kAbort};
    for (std::uint32_t i = 0; i < n; ++i) {
      const std::uint64_t* slot = entries_ + 2 * std::size_t{(fetched_ + i) & (size() - 1)};
      out[i].word[0] = load_relaxed(slot[0]);
      out[i].word[1] = load_relaxed(slot[1]);
    }
    fetched_ = (fetched_ + n) & index_mask();
    return {n, CommandError::kNone};
  }

  /// Commands that fetch() would find.
  [[nodiscard]] std::uint32_t unfetched(std::uint32_t prod) const noexcept {
    if (!enabled_) return 0;
    std::uint32_t pending = (prod - cons_) & index_mask();
    if (pending > size()) pending -= size();
    const std::uint32_t ahead = in_flight();
    return pending > ahead ? pending - ahead : 0;
  }

  /// Commands fetched and not yet told done.
  [[nodiscard]] std::uint32_t in_flight() const noexcept {
    return (fetched_ - cons_) & index_mask();
  }

  /// Let cons pass n commands, n <= in_flight(). The guest learns it when CMDQ_CONS is stored.
  void advance(std::uint32_t n) noexcept { cons_ = (cons_ + n) & index_mask(); }

  /// Forget what was fetched beyond cons: after an error is acknowledged the guest may have changed
  /// it, and PROD may have moved back as far as cons (IHI 0070 7.1).
  void rewind() noexcept { fetched_ = cons_; }

  /// The value for CMDQ_CONS after n more commands of those in flight. To be stored with release.
  [[nodiscard]] std::uint32_t cons_register(CommandError error = CommandError::kNone,
                                            std::uint32_t n = 0) const noexcept {
    return ((cons_ + n) & index_mask()) |
           (static_cast<std::uint32_t>(error) << queue::kConsErrShift);
  }

  /// Index and wrap bit.
  [[nodiscard]] std::uint32_t cons() const noexcept { return cons_; }
  [[nodiscard]] bool enabled() const noexcept { return enabled_; }
  [[nodiscard]] unsigned log2size() const noexcept { return log2size_; }
  [[nodiscard]] std::uint32_t size() const noexcept { return 1U << log2size_; }
  [[nodiscard]] Gpa base() const noexcept { return Gpa{base_}; }

 private:
  [[nodiscard]] std::uint32_t index_mask() const noexcept { return 2 * size() - 1; }

  const std::uint64_t* entries_ = nullptr;
  std::uint64_t base_ = 0;
  unsigned log2size_ = 0;
  std::uint32_t cons_ = 0;
  std::uint32_t fetched_ = 0;
  bool enabled_ = false;
};

}  // namespace faultline::viommu
