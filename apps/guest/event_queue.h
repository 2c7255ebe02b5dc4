// SPDX-License-Identifier: BSD-3-Clause
// hot path: the consumer's side of the EVTQ.
#pragma once

#include <cstddef>
#include <cstdint>

#include "apps/guest/memory.h"
#include "apps/guest/observation.h"
#include "apps/guest/registers.h"

namespace faultline::guest {

/// The guest's side of the event queue: what the interrupt handler of a driver does, and a copy of
/// all it saw for the audit.
///
/// Every slot is overwritten with kPoison once it has been read, so that an index published before
/// its record shows up as an event that nobody produced.
///
/// thread   the guest's
class EventQueue {
 public:
  static constexpr std::uint64_t kPoison = 0xdead'dead'dead'deadULL;

  /// log2size  2..19 entries
  /// sink      where observations go; while it is full nothing is read
  EventQueue(GuestMemory& memory, Registers registers, unsigned log2size, ObservationQueue& sink);

  [[nodiscard]] std::uint64_t base_register() const noexcept;
  [[nodiscard]] std::size_t entries() const noexcept { return std::size_t{1} << log2size_; }

  /// The handler: read events until the queue is empty or `budget` is used up; acknowledge an
  /// overflow when it is empty, as Linux does.
  ///
  /// Observations carry the moment after the read of PROD that showed them: what the kernel noted
  /// before that moment may still be on its way to the audit, what it noted later came later.
  ///
  /// on_event  called with each Observation of kind kEvent
  /// returns   events read; == budget: there may be more
  template <class OnEvent>
  std::size_t handle(std::size_t budget, OnEvent&& on_event) noexcept {
    std::size_t n = 0;
    Observation o;
    while (n < budget && next(o)) {
      on_event(static_cast<const Observation&>(o));
      ++n;
    }
    return n;
  }

  [[nodiscard]] std::uint64_t consumed() const noexcept { return consumed_; }
  [[nodiscard]] std::uint64_t overflows() const noexcept { return overflows_; }
  /// Events published but not read yet, as PROD says now.
  [[nodiscard]] std::size_t depth() const noexcept;
  /// PROD was further ahead than the queue is long.
  [[nodiscard]] std::uint64_t violations() const noexcept { return violations_; }

 private:
  bool next(Observation& out) noexcept;
  bool refill() noexcept;

  GuestMemory& memory_;
  Registers registers_;
  unsigned log2size_;
  ObservationQueue& sink_;
  Gpa base_;
  std::uint32_t prod_ = 0;  ///< as last read
  Nanos prod_at_ = 0;       ///< right after that
  std::uint32_t cons_ = 0;  ///< index and wrap
  std::uint32_t ack_ = 0;   ///< OVACKFLG as last written
  std::uint64_t consumed_ = 0;
  std::uint64_t overflows_ = 0;
  std::uint64_t violations_ = 0;
};

}  // namespace faultline::guest
