// SPDX-License-Identifier: BSD-3-Clause
// hot path: from a guest's thread to the audit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>

#include "kernel/base/shared.h"
#include "kernel/base/units.h"

namespace faultline::guest {

/// A bounded queue between one producer thread and one consumer thread, without the engine's or
/// any library's code: the audit must not depend on what it audits.
///
/// T       trivially copyable
/// thread  push, room: the producer; pop: the consumer
template <class T>
class Spsc {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  /// slots   a power of two; all of them usable
  explicit Spsc(std::size_t slots) : mask_(slots - 1), slots_(std::make_unique<T[]>(slots)) {}

  [[nodiscard]] std::size_t room() const noexcept {
    // Pairs with pop()'s release: a slot is written again only after it has been copied out.
    return mask_ + 1 - static_cast<std::size_t>(head_ - load_acquire(tail_));
  }

  /// room() must be > 0.
  void push(const T& value) noexcept {
    slots_[head_ & mask_] = value;
    // Pairs with pop()'s acquire.
    store_release(head_, head_ + 1);
  }

  bool pop(T& out) noexcept {
    if (load_acquire(head_) == tail_) return false;
    out = slots_[tail_ & mask_];
    store_release(tail_, tail_ + 1);
    return true;
  }

 private:
  std::uint64_t mask_;
  std::unique_ptr<T[]> slots_;
  alignas(kCacheLine) std::uint64_t head_ = 0;
  alignas(kCacheLine) std::uint64_t tail_ = 0;
};

}  // namespace faultline::guest
