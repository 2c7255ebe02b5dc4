// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <atomic>
#include <cstdint>

#include "kernel/soft/dma_bar.h"

namespace faultline::soft {

/// The device's half of the BAR. Whatever the driver writes there, this half touches only its own
/// memory and makes no more of it than one ring of requests.
///
/// thread   one at a time; sleep() and wake() from any
class DmaRing {
 public:
  /// bar   kDmaBarSize bytes; reset() makes them a BAR
  explicit DmaRing(void* bar) noexcept : bar_(bar), header_(dma_header(bar)) {}

  /// Empty both rings and write the header, as a reset of the device does.
  void reset() noexcept;

  /// The next request; false: none now (an impossible index counts as none).
  bool take(DmaRequest& request) noexcept;

  /// Whether a completion has room.
  [[nodiscard]] bool room() const noexcept;

  /// Publish one completion; there must be room(). Wakes the driver if it sleeps.
  void complete(const DmaCompletion& completion) noexcept;

  /// Sleep until the driver says that something changed, or wake(); at most timeout_ns. Returns at
  /// once when there is something to do, or when `*stop`.
  void sleep(Nanos timeout_ns, const std::uint32_t& stop) noexcept;
  void wake() noexcept;

  /// Impossible indices seen.
  [[nodiscard]] std::uint64_t bad_index() const noexcept { return bad_index_; }

 private:
  [[nodiscard]] std::uint64_t requests() const noexcept;
  [[nodiscard]] bool idle() const noexcept;

  void* bar_;
  DmaBarHeader& header_;
  // Relaxed atomics: a reset changes them while the device's thread looks whether it may sleep.
  std::atomic<std::uint64_t> tail_{0};  ///< requests taken
  std::atomic<std::uint64_t> head_{0};  ///< completions written
  std::uint64_t bad_index_ = 0;
};

}  // namespace faultline::soft
