// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>

#include "kernel/soft/ledger.h"

namespace faultline::soft {

/// The kernel's half of a ledger.
///
/// thread   one at a time
class LedgerWriter {
 public:
  /// ledger    bytes_for(entries) of zeroed shared memory
  LedgerWriter(void* ledger, std::uint32_t entries) noexcept
      : ledger_(ledger), header_(ledger_header(ledger)), entries_(entries) {
    header_.magic = kLedgerMagic;
    header_.entry_size = sizeof(LedgerEntry);
    header_.entries = entries;
  }

  static std::size_t bytes_for(std::uint32_t entries) noexcept {
    return kLedgerEntriesAt + std::size_t{entries} * sizeof(LedgerEntry);
  }

  /// Whether the next entry need not wait: there is room, or nobody reads.
  [[nodiscard]] bool room() const noexcept {
    return load_acquire(header_.attached) == 0 || free_slot();
  }

  /// Sleep until there is room, at most timeout_ns.
  void wait(Nanos timeout_ns) noexcept {
    exchange_seq_cst(header_.kernel_waits, 1U);
    if (!room()) futex_wait(header_.kernel_waits, 1, timeout_ns);
    exchange_seq_cst(header_.kernel_waits, 0U);
  }

  /// Append an entry (its index is set here); false: nobody reads, or no room.
  bool append(LedgerEntry entry) noexcept {
    if (load_acquire(header_.attached) == 0 || !free_slot()) return false;
    entry.index = prod_;
    copy_to_shared(&ledger_entries(ledger_)[prod_ % entries_], &entry, sizeof entry);
    ++prod_;
    store_release(header_.prod, prod_);
    return true;
  }

 private:
  [[nodiscard]] bool free_slot() const noexcept {
    // Pairs with the reader's publication of cons: it has copied the slot.
    return prod_ - load_seq_cst(header_.cons) < entries_;
  }

  void* ledger_;
  LedgerHeader& header_;
  std::uint64_t prod_ = 0;
  std::uint32_t entries_;
};

}  // namespace faultline::soft
