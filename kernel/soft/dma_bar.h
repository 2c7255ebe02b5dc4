// SPDX-License-Identifier: BSD-3-Clause
// BAR 0 of every soft device: a toy DMA engine that a guest programs as a driver would. The layout,
// and the driver's half of it. Needs nothing else of the soft kernel.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "kernel/base/clock.h"
#include "kernel/base/futex.h"
#include "kernel/base/shared.h"

namespace faultline::soft {

inline constexpr std::uint32_t kDmaBarMagic = 0x464c4d44;  // "DMLF"
inline constexpr std::uint32_t kDmaBarVersion = 1;
inline constexpr std::size_t kDmaBarSize = 64UL << 10U;
inline constexpr std::uint32_t kDmaRingEntries = 512;
inline constexpr std::size_t kDmaRequestsAt = 0x1000;
inline constexpr std::size_t kDmaCompletionsAt = 0x8000;

/// One access for the device to make.
struct DmaRequest {
  static constexpr std::uint8_t kWrite = 1;
  static constexpr std::uint8_t kExec = 2;
  static constexpr std::uint8_t kPriv = 4;
  static constexpr std::uint8_t kSsid = 8;  ///< `ssid` is valid
  static constexpr std::uint8_t kLine = 64;

  std::uint64_t iova = 0;
  std::uint64_t value = 0;   ///< written, little endian; for a line into each of its eight words
  std::uint8_t length = 8;   ///< bytes: 1..8, or kLine for 64 (iova then a multiple of 64)
  std::uint8_t flags = 0;    ///< kWrite | kExec | kPriv | kSsid
  std::uint16_t unused = 0;  ///< 0
  std::uint32_t ssid = 0;
  std::uint64_t cookie = 0;  ///< comes back in the completion
};
static_assert(sizeof(DmaRequest) == 32);

enum class DmaStatus : std::uint8_t {
  kOk = 1,
  kFaulted = 2,     ///< not done; the IOMMU raised an event
  kAborted = 3,     ///< not done, without event
  kBadRequest = 4,  ///< length, flags or alignment make no sense; nothing was issued
};

struct DmaCompletion {
  static constexpr std::uint8_t kMsi = 1;  ///< the write reached an MSI doorbell, not memory

  std::uint64_t cookie = 0;
  std::uint64_t value = 0;  ///< what was read (of a line: its first word); 0 for writes
  DmaStatus status{};
  std::uint8_t flags = 0;
  std::uint16_t unused = 0;
  std::uint32_t unused2 = 0;
  std::uint64_t timestamp_ns = 0;  ///< the kernel's clock after the access
};
static_assert(sizeof(DmaCompletion) == 32);

/// Page 0. Indices are 64 bits and run freely, slot = index % entries. Each has one writer:
/// it stores with release, the other side loads with acquire. The device believes nothing here: it
/// keeps copies of its own indices, and an index of the driver that is impossible counts as idle.
///
/// Sleeping: who finds nothing to do stores why into its word (seq_cst), looks once more (seq_cst),
/// and sleeps on the word. Who publishes does so seq_cst, and wakes the other if that was awaited.
struct DmaBarHeader {
  std::uint32_t magic;
  std::uint32_t version;
  std::uint32_t entries;
  std::uint32_t unused;
  alignas(64) std::uint64_t request_head;     ///< driver: requests written
  alignas(64) std::uint64_t request_tail;     ///< device: requests taken
  alignas(64) std::uint64_t completion_head;  ///< device: completions written
  alignas(64) std::uint64_t completion_tail;  ///< driver: completions taken
  alignas(64) std::uint32_t device_sleeps;    ///< futex
  alignas(64) std::uint32_t driver_sleeps;    ///< futex
};
static_assert(sizeof(DmaBarHeader) == 448);

inline DmaBarHeader& dma_header(void* bar) noexcept {
  return *static_cast<DmaBarHeader*>(bar);
}

inline DmaRequest* dma_requests(void* bar) noexcept {
  return reinterpret_cast<DmaRequest*>(static_cast<std::byte*>(bar) + kDmaRequestsAt);
}

inline DmaCompletion* dma_completions(void* bar) noexcept {
  return reinterpret_cast<DmaCompletion*>(static_cast<std::byte*>(bar) + kDmaCompletionsAt);
}

inline constexpr std::uint32_t kDmaSleeps = 1;        ///< for requests, or for completions
inline constexpr std::uint32_t kDmaWaitsForRoom = 2;  ///< device: the completion ring is full

/// Wake the side that sleeps on `word` for that reason; to be called after a seq_cst publication.
inline void dma_wake(std::uint32_t& word, std::uint32_t reason) noexcept {
  if (load_seq_cst(word) == reason && exchange_seq_cst(word, 0U) != 0) futex_wake(word);
}

/// The driver's half: one per BAR and one thread at a time. A new one on a live BAR goes on where
/// the last one stopped, with what that one had published.
class DmaClient {
 public:
  /// bar   a mapping of all of BAR 0, longer-lived than this object
  explicit DmaClient(void* bar) noexcept : bar_(bar), header_(dma_header(bar)) {
    head_ = load_acquire(header_.request_head);
    tail_ = load_acquire(header_.completion_tail);
  }

  /// Whether this is a BAR that we know.
  [[nodiscard]] bool usable() const noexcept {
    return header_.magic == kDmaBarMagic && header_.version == kDmaBarVersion &&
           header_.entries == kDmaRingEntries;
  }

  /// Write one request; not seen by the device before ring(). false: the ring is full.
  bool submit(const DmaRequest& request) noexcept {
    // Pairs with the device's release of request_tail: it has copied the slot.
    if (head_ - load_acquire(header_.request_tail) >= kDmaRingEntries) return false;
    copy_to_shared(&dma_requests(bar_)[head_ % kDmaRingEntries], &request, sizeof request);
    ++head_;
    return true;
  }

  /// Publish what was submitted. cost: a system call only when the device sleeps
  void ring() noexcept {
    exchange_seq_cst(header_.request_head, head_);
    dma_wake(header_.device_sleeps, kDmaSleeps);
  }

  /// Take completions, oldest first; returns how many, 0 = none now.
  std::size_t complete(std::span<DmaCompletion> out) noexcept {
    // Pairs with the device's release of completion_head: the slots are written.
    const std::uint64_t there = load_acquire(header_.completion_head) - tail_;
    const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(there, out.size()));
    for (std::size_t i = 0; i < n; ++i) {
      copy_from_shared(&out[i], &dma_completions(bar_)[(tail_ + i) % kDmaRingEntries],
                       sizeof(DmaCompletion));
    }
    if (n > 0) {
      tail_ += n;
      exchange_seq_cst(header_.completion_tail, tail_);
      dma_wake(header_.device_sleeps, kDmaWaitsForRoom);
    }
    return n;
  }

  /// Sleep until there is a completion, at most timeout_ns; false: there is none.
  bool wait(Nanos timeout_ns) noexcept {
    exchange_seq_cst(header_.driver_sleeps, kDmaSleeps);
    if (load_seq_cst(header_.completion_head) == tail_) {
      futex_wait(header_.driver_sleeps, kDmaSleeps, timeout_ns);
    }
    exchange_seq_cst(header_.driver_sleeps, 0U);
    return load_acquire(header_.completion_head) != tail_;
  }

  /// Requests submitted whose completion has not been taken.
  [[nodiscard]] std::uint64_t in_flight() const noexcept { return head_ - tail_; }

 private:
  void* bar_;
  DmaBarHeader& header_;
  std::uint64_t head_ = 0;  ///< requests submitted
  std::uint64_t tail_ = 0;  ///< completions taken
};

}  // namespace faultline::soft
