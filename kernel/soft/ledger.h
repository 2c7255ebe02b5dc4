// SPDX-License-Identifier: BSD-3-Clause
// The kernel's own account of every fault event that was due to userspace, one ring per device in
// shared memory. Only an audit reads it; nothing of the interface depends on it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "kernel/base/futex.h"
#include "kernel/base/shared.h"

namespace faultline::soft {

enum class LedgerOutcome : std::uint16_t {
  kProduced = 1,
  kDroppedFull = 2,   ///< the fault region was full
  kDroppedNoAbi = 3,  ///< userspace had not chosen an ABI (or had closed the device)
};

/// One event that the interface propagates (stage-1 faults; never stage-2 ones). An entry appears a
/// moment after the record that it accounts for.
struct LedgerEntry {
  std::uint64_t index = 0;         ///< 0, 1, 2… of this device since an audit attached
  std::uint64_t timestamp_ns = 0;  ///< the kernel's clock; equals the version 2 record's
  std::uint64_t event[4] = {};     ///< exact SMMUv3 event words, SID is the host's
  std::uint64_t iova = 0;          ///< as the device issued it
  std::uint64_t position = 0;      ///< kProduced: version 1: slot; version 2: record number. Else:
                                   ///< where it would have gone
  std::uint64_t sequence = 0;      ///< version 2: the record's sequence number, also of lost ones
  std::uint32_t access = 0;        ///< DmaRequest::kWrite | kExec | kPriv | kSsid
  LedgerOutcome outcome{};
  std::uint16_t abi = 0;  ///< in force then; 0: none
};
static_assert(sizeof(LedgerEntry) == 80);

inline constexpr std::uint32_t kLedgerMagic = 0x464c4c47;
inline constexpr std::size_t kLedgerEntriesAt = 4096;

/// Page 0; the entries follow at kLedgerEntriesAt. Both indices run freely.
struct LedgerHeader {
  std::uint32_t magic;
  std::uint32_t entry_size;
  std::uint32_t entries;
  std::uint32_t unused;
  alignas(64) std::uint64_t prod;      ///< kernel, store-release after the entry
  alignas(64) std::uint64_t cons;      ///< audit, store-release after the copy
  alignas(64) std::uint32_t attached;  ///< audit: 1 while somebody reads; without, nothing is kept
  alignas(64) std::uint32_t kernel_waits;  ///< futex: the device waits for room
};
static_assert(sizeof(LedgerHeader) == 320);

inline LedgerHeader& ledger_header(void* ledger) noexcept {
  return *static_cast<LedgerHeader*>(ledger);
}

inline LedgerEntry* ledger_entries(void* ledger) noexcept {
  return reinterpret_cast<LedgerEntry*>(static_cast<std::byte*>(ledger) + kLedgerEntriesAt);
}

/// The audit's half. While one is attached the device waits rather than lose an entry, so it has to
/// be read; attach before the first DMA to have everything. One thread.
class LedgerReader {
 public:
  /// ledger   as SoftKernel::ledger(), longer-lived than this object
  explicit LedgerReader(void* ledger) noexcept
      : ledger_(ledger), header_(ledger_header(ledger)), cons_(load_acquire(header_.cons)) {
    store_release(header_.attached, 1U);
  }
  ~LedgerReader() {
    store_release(header_.attached, 0U);
    wake();
  }
  LedgerReader(const LedgerReader&) = delete;
  LedgerReader& operator=(const LedgerReader&) = delete;

  /// Take entries, oldest first; returns how many, 0 = none now.
  std::size_t read(std::span<LedgerEntry> out) noexcept {
    // Pairs with the writer's release of prod.
    const std::uint64_t there = load_acquire(header_.prod) - cons_;
    const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(there, out.size()));
    for (std::size_t i = 0; i < n; ++i) {
      copy_from_shared(&out[i], &ledger_entries(ledger_)[(cons_ + i) % header_.entries],
                       sizeof(LedgerEntry));
    }
    if (n > 0) {
      cons_ += n;
      exchange_seq_cst(header_.cons, cons_);
      wake();
    }
    return n;
  }

 private:
  void wake() noexcept {
    if (load_seq_cst(header_.kernel_waits) == 1 &&
        exchange_seq_cst(header_.kernel_waits, 0U) == 1) {
      futex_wake(header_.kernel_waits);
    }
  }

  void* ledger_;
  LedgerHeader& header_;
  std::uint64_t cons_ = 0;
};

}  // namespace faultline::soft
