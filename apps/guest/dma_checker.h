// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "apps/guest/page_pool.h"
#include "apps/guest/slot.h"
#include "kernel/soft/dma_bar.h"

namespace faultline::guest {

/// Counts of one device; one writer, read at any time.
struct DmaStats {
  std::uint64_t completed = 0;
  std::uint64_t faulted = 0;  ///< of them: ended by a fault, so that an event is due
  std::uint64_t stale = 0;    ///< answered through a translation that was gone, or blocked
  std::uint64_t wrong = 0;    ///< answers that no translation explains
};

/// Issues DMA through a device's BAR and judges every answer by what the guest's tables said
/// between issue and completion.
///
/// thread   the guest's
class DmaChecker {
 public:
  static constexpr std::size_t kSlots = 64;
  static constexpr std::size_t kOrdinary = 60;  ///< slots 0..59 are readable and writable
  static constexpr std::size_t kMostInFlight = 496;

  /// device   goes into the tags
  /// bar      soft::kDmaBarSize bytes, longer-lived
  DmaChecker(void* bar, unsigned device, PagePool& pool, std::uint64_t seed);

  [[nodiscard]] bool usable() const noexcept { return client_.usable(); }
  [[nodiscard]] Slot& slot(std::size_t i) noexcept { return slots_[i]; }

  /// Read or write a slot's page at a random line.
  void touch(std::size_t slot, bool write);
  /// Access an address that was never mapped.
  void touch_nothing();
  /// Publish what was issued since the last call.
  void ring() noexcept;
  /// Take completions. returns how many
  std::size_t take();

  /// While set, every access must be aborted without an event. Set and cleared with nothing in
  /// flight.
  void set_blocked(bool blocked) noexcept { blocked_ = blocked; }

  [[nodiscard]] std::size_t in_flight() const noexcept { return in_flight_; }
  /// Accesses in flight that are bound to fault.
  [[nodiscard]] std::size_t faults_in_flight() const noexcept { return faults_in_flight_; }
  /// Once, when nothing is in flight any more: looks at the pages that nothing may have written.
  void final_check() noexcept { add(stats_.stale, pool_.written_while_resting()); }

  /// Give a slot the next generation: a page of the pool with its tag. returns false: no page left
  bool next_generation(std::size_t slot) noexcept;

  [[nodiscard]] const DmaStats& stats() const noexcept { return stats_; }
  std::uint64_t random() noexcept;

 private:
  struct Request {
    bool write = false;
    bool nothing = false;  ///< no translation was ever there
    bool doomed = false;   ///< counted in faults_in_flight_
    std::uint16_t slot = 0;
    std::uint16_t line = 0;
    std::uint64_t step = 0;  ///< of the slot when issued
    std::uint64_t value = 0;
  };
  void submit(std::uint64_t iova, std::uint8_t flags, const Request& request);
  void judge(const Request& r, const soft::DmaCompletion& c) noexcept;
  void judge_read(const Request& r, const Slot& slot, std::uint64_t value) noexcept;
  void judge_write(const Request& r, const Slot& slot) noexcept;
  static void add(std::uint64_t& counter, std::uint64_t n = 1) noexcept;

  soft::DmaClient client_;
  unsigned device_;
  PagePool& pool_;
  std::uint64_t rng_;
  std::array<Slot, kSlots> slots_;
  std::array<Request, soft::kDmaRingEntries> requests_;
  std::vector<std::uint16_t> free_;
  std::size_t in_flight_ = 0;
  std::size_t faults_in_flight_ = 0;
  std::uint64_t missing_ = 0;  ///< addresses of the never mapped region used so far
  std::uint8_t nothing_flags_ = 0;
  std::uint64_t writes_ = 0;
  bool blocked_ = false;
  bool unpublished_ = false;
  DmaStats stats_;
};

}  // namespace faultline::guest
