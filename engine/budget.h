// SPDX-License-Identifier: BSD-3-Clause
// hot path: what one guest may take of a polling core in one round.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "kernel/base/shared.h"

namespace faultline::engine {

/// Of one guest and round; each is multiplied by the weight.
struct Budget {
  static constexpr std::uint32_t kMost = 65536;
  static constexpr std::uint32_t kMostWeight = 256;

  std::uint32_t commands = 256;   ///< taken from its command queue
  std::uint32_t records = 2048;   ///< taken from all its fault sources
  std::uint32_t submissions = 1;  ///< in rounds that follow each other, while others wait
  std::uint32_t weight = 1;

  [[nodiscard]] bool valid() const noexcept {
    const auto fits = [](std::uint32_t v, std::uint32_t most) { return v >= 1 && v <= most; };
    return fits(commands, kMost) && fits(records, kMost) && fits(submissions, kMost) &&
           fits(weight, kMostWeight);
  }
  friend bool operator==(const Budget&, const Budget&) = default;
};

/// A limit that the control thread sets and a shard reads. Relaxed on both sides: it is one number
/// and nothing else is published by it. The first round that sees it uses it; until then the one
/// before holds. A duty that moves to another shard takes it along (Engine::move_duty).
class Limit {
 public:
  explicit Limit(std::uint64_t value = 1) noexcept : value_(value) {}
  void set(std::uint64_t value) noexcept { store_relaxed(value_, value); }
  [[nodiscard]] std::uint64_t get() const noexcept { return load_relaxed(value_); }

 private:
  std::uint64_t value_;
};

/// Deficit round robin for one guest and one kind of work: a round may do `quantum` and what an
/// earlier round of the same backlog was kept from doing, of that at most another quantum. Who had
/// nothing waiting carries nothing over.
///
/// source  Shreedhar and Varghese, "Efficient Fair Queuing Using Deficit Round Robin" (1995)
/// thread  the owning shard
class Deficit {
 public:
  void begin(std::uint64_t quantum) noexcept {
    left_ = quantum + (waiting_ ? std::min(left_, quantum) : 0);
    waiting_ = true;
    cut_ = false;
  }
  [[nodiscard]] std::uint64_t left() const noexcept { return left_; }
  /// Requires n <= left().
  void spend(std::uint64_t n = 1) noexcept { left_ -= n; }
  /// Nothing is waiting: this round carries nothing over.
  void drained() noexcept { waiting_ = false; }
  /// The budget ended the work. returns  true: for the first time in this round
  bool cut() noexcept { return !std::exchange(cut_, true); }
  [[nodiscard]] bool was_cut() const noexcept { return cut_; }

 private:
  std::uint64_t left_ = 0;
  bool waiting_ = false;
  bool cut_ = false;
};

/// What a round of a duty did to the host. A submission blocks the core, so all of its guests wait.
enum class Submitted : std::uint8_t {
  kNone,
  kMore,  ///< and its budget allows it another one in the next round
  kOver,  ///< and the next round begins with the guest behind it
};

/// The submissions of one guest in rounds that follow each other.
class SubmissionTurn {
 public:
  void submitted() noexcept { now_ = true; }
  /// Asked once after each round.
  [[nodiscard]] Submitted take(const Limit& most) noexcept {
    if (!now_) [[likely]] {
      if (made_ != 0) made_ = 0;
      return Submitted::kNone;
    }
    now_ = false;
    if (++made_ < most.get()) return Submitted::kMore;
    made_ = 0;
    return Submitted::kOver;
  }

 private:
  std::uint64_t made_ = 0;
  bool now_ = false;
};

}  // namespace faultline::engine
