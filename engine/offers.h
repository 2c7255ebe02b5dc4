// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace faultline::engine {

/// Messages in a ring that their producer may take back until the consumer begins to serve them:
/// who gives up on a consumer has to, before it frees what the message names. One entry for each
/// message, in the ring's order.
///
/// Slots   more than the ring holds
/// thread  offer(), offered(), withdraw(): the producer; take(): the consumer
template <std::size_t Slots>
class Offers {
 public:
  /// Before the push, which orders it: pushed with release, popped with acquire.
  void offer(std::uint64_t token) noexcept {
    slots_[made_ % Slots].store(token | kOffered, std::memory_order_relaxed);
  }
  /// It was pushed.
  void offered() noexcept { ++made_; }

  /// returns  false: the consumer has it, or there is none of that token
  bool withdraw(std::uint64_t token) noexcept {
    for (std::atomic<std::uint64_t>& slot : slots_) {
      std::uint64_t expected = token | kOffered;
      // Relaxed: that one side has it is all that it says.
      if (slot.compare_exchange_strong(expected, 0, std::memory_order_relaxed)) return true;
    }
    return false;
  }

  /// For each message that was popped. returns  false: it was withdrawn
  [[nodiscard]] bool take() noexcept {
    return slots_[taken_++ % Slots].exchange(0, std::memory_order_relaxed) != 0;
  }

 private:
  static constexpr std::uint64_t kOffered = std::uint64_t{1} << 63;

  std::array<std::atomic<std::uint64_t>, Slots> slots_{};  ///< token and kOffered; 0: nobody's
  std::size_t made_ = 0;
  std::size_t taken_ = 0;
};

}  // namespace faultline::engine
