// SPDX-License-Identifier: BSD-3-Clause
// hot path: the only way in which two threads of the engine exchange anything.
#pragma once

#include <rte_errno.h>
#include <rte_ring.h>
#include <rte_ring_elem.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <type_traits>

#include "kernel/base/shared.h"

namespace faultline::engine {

/// A bounded queue of small messages between one producer thread and one consumer thread: an
/// rte_ring on plain memory, so that it works without EAL.
///
/// T      trivially copyable, size a multiple of 4
/// cost   push and pop copy one T; no allocation, no system call
/// thread push: one thread at a time; pop: one thread at a time
template <class T>
class SpscRing {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % 4 == 0);

 public:
  /// slots   a power of two; the ring holds slots - 1 messages
  /// errors  throws std::bad_alloc (control path only)
  explicit SpscRing(unsigned slots) {
    const ssize_t bytes = rte_ring_get_memsize_elem(sizeof(T), slots);
    if (bytes < 0) throw std::bad_alloc();
    const std::size_t size = (static_cast<std::size_t>(bytes) + 127U) & ~std::size_t{127};
    memory_.reset(std::aligned_alloc(128, size));
    if (memory_ == nullptr) throw std::bad_alloc();
    ring_ = static_cast<rte_ring*>(memory_.get());
    if (rte_ring_init(ring_, "spsc", slots, RING_F_SP_ENQ | RING_F_SC_DEQ) != 0) {
      throw std::bad_alloc();
    }
  }

  /// returns false when the ring is full; the message was not queued
  bool push(const T& message) noexcept {
    return rte_ring_sp_enqueue_elem(ring_, const_cast<T*>(&message), sizeof(T)) == 0;
  }

  /// returns false when there is none
  bool pop(T& out) noexcept { return rte_ring_sc_dequeue_elem(ring_, &out, sizeof(T)) == 0; }

  /// A hint: pop() orders what it reads.
  [[nodiscard]] bool empty() const noexcept {
    // As rte_ring_empty, whose plain loads would be races: either side may ask.
    return load_relaxed(const_cast<const std::uint32_t&>(ring_->prod.tail)) ==
           load_relaxed(const_cast<const std::uint32_t&>(ring_->cons.tail));
  }

 private:
  struct Free {
    void operator()(void* p) const noexcept { std::free(p); }
  };
  std::unique_ptr<void, Free> memory_;
  rte_ring* ring_ = nullptr;
};

}  // namespace faultline::engine
