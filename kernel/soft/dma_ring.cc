// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/soft/dma_ring.h"

namespace faultline::soft {

void DmaRing::reset() noexcept {
  store_relaxed(header_.magic, kDmaBarMagic);
  store_relaxed(header_.version, kDmaBarVersion);
  store_relaxed(header_.entries, kDmaRingEntries);
  tail_.store(0, std::memory_order_relaxed);
  head_.store(0, std::memory_order_relaxed);
  store_release(header_.request_head, std::uint64_t{0});
  store_release(header_.request_tail, std::uint64_t{0});
  store_release(header_.completion_head, std::uint64_t{0});
  store_release(header_.completion_tail, std::uint64_t{0});
}

std::uint64_t DmaRing::requests() const noexcept {
  // Pairs with the driver's publication of request_head in DmaClient::ring().
  return load_seq_cst(header_.request_head) - tail_.load(std::memory_order_relaxed);
}

bool DmaRing::take(DmaRequest& request) noexcept {
  const std::uint64_t there = requests();
  if (there == 0) return false;
  if (there > kDmaRingEntries) {
    ++bad_index_;
    return false;
  }
  const std::uint64_t tail = tail_.load(std::memory_order_relaxed);
  copy_from_shared(&request, &dma_requests(bar_)[tail % kDmaRingEntries], sizeof request);
  tail_.store(tail + 1, std::memory_order_relaxed);
  store_release(header_.request_tail, tail + 1);  // the slot may be written again
  return true;
}

bool DmaRing::room() const noexcept {
  // Pairs with the driver's publication of completion_tail. An impossible value counts as full.
  return head_.load(std::memory_order_relaxed) - load_seq_cst(header_.completion_tail) <
         kDmaRingEntries;
}

void DmaRing::complete(const DmaCompletion& completion) noexcept {
  const std::uint64_t head = head_.load(std::memory_order_relaxed);
  copy_to_shared(&dma_completions(bar_)[head % kDmaRingEntries], &completion, sizeof completion);
  head_.store(head + 1, std::memory_order_relaxed);
  exchange_seq_cst(header_.completion_head, head + 1);
  dma_wake(header_.driver_sleeps, kDmaSleeps);
}

bool DmaRing::idle() const noexcept {
  const std::uint64_t there = requests();
  return there == 0 || there > kDmaRingEntries;
}

void DmaRing::sleep(Nanos timeout_ns, const std::uint32_t& stop) noexcept {
  const bool for_request = idle();
  const std::uint32_t why = for_request ? kDmaSleeps : kDmaWaitsForRoom;
  exchange_seq_cst(header_.device_sleeps, why);
  // Only what this reason is woken for may be slept on.
  const bool nothing = for_request ? idle() : !room();
  if (nothing && load_seq_cst(stop) == 0) futex_wait(header_.device_sleeps, why, timeout_ns);
  exchange_seq_cst(header_.device_sleeps, 0U);
}

void DmaRing::wake() noexcept {
  exchange_seq_cst(header_.device_sleeps, 0U);
  futex_wake(header_.device_sleeps);
}

}  // namespace faultline::soft
