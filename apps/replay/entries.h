// SPDX-License-Identifier: BSD-3-Clause
// hot path: ask() copies one operation, drained() stores one index.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernel/operation.h"

namespace faultline {

/// How much more than was asked a policy removes.
///
/// An entry is the translation of one 4 KiB page of one ASID; an operation on an address asks for,
/// or removes, pages × granule / 4 KiB of them, an operation on the same address of every ASID that
/// many more which are counted as those of an ASID of their own. Asked is what the guest's commands
/// amount to, removed is what was submitted; both are sets over a window, so that dropping a
/// duplicate is exact. A window ends where the policy holds nothing.
///
/// An operation on a whole ASID or the whole guest has no number of pages. It counts as removing
/// just those of its scope that were asked by address in the same window (and, where it was asked,
/// as asking for those that were removed by address), and is counted as widened where no command
/// asked for it or for more. Context descriptors, ATC entries and cached table walks are not
/// counted.
///
/// thread  the engine's
/// memory  fixed for what is asked; the sets are vectors that keep their size
class Entries {
 public:
  static constexpr std::size_t kLog = 4096;

  Entries();

  /// A command asked for this.
  void ask(const Operation& op) noexcept {
    if (asked_count_ == kLog) [[unlikely]] {
      overflow();
    }
    asked_[asked_count_++] = op;
  }

  /// The policy holds nothing: what was asked so far has been submitted.
  void drained() noexcept { drained_ = asked_count_; }

  /// This is being submitted. cost: sorts the last window when one has ended; called in the time
  /// that the sink takes anyway
  void submit(std::span<const Operation> ops) noexcept;

  /// What is held is gone without having been submitted.
  void forget() noexcept { asked_count_ = drained_; }

  /// End the last window. After it the counts are final.
  void finish() noexcept;

  [[nodiscard]] std::uint64_t asked() const noexcept { return total_.asked; }
  [[nodiscard]] std::uint64_t removed() const noexcept { return total_.removed; }
  [[nodiscard]] std::uint64_t widened() const noexcept { return total_.widened; }
  /// Asked and not removed by the end of the window.
  [[nodiscard]] std::uint64_t missed() const noexcept { return total_.missed; }

 private:
  /// Pages [first, last] of one ASID.
  struct Span {
    std::uint32_t asid = 0;
    std::uint64_t first = 0;
    std::uint64_t last = 0;
  };
  /// One side of a window.
  struct Side {
    std::vector<Span> pages;
    std::vector<std::uint16_t> asids;
    bool all = false;

    void clear() noexcept;
    void add(const Operation& op);
    [[nodiscard]] bool covers(const Span& span) const noexcept;
  };
  struct Totals {
    std::uint64_t asked = 0;
    std::uint64_t removed = 0;
    std::uint64_t widened = 0;
    std::uint64_t missed = 0;
  };
  static std::uint64_t unite(std::vector<Span>& spans);
  void close(std::size_t asked) noexcept;
  void overflow() noexcept;

  std::vector<Operation> asked_;  ///< kLog of them
  std::size_t asked_count_ = 0;
  std::size_t drained_ = 0;
  std::vector<Operation> submitted_;
  Side wanted_;
  Side done_;
  std::vector<Span> scratch_;
  Totals total_;
};

/// A policy that notes what it is asked for and when it holds nothing any more. Nothing else of it
/// changes.
template <class Policy>
class NotingPolicy : public Policy {
 public:
  NotingPolicy(const Policy& policy, Entries& entries) noexcept
      : Policy(policy), entries_(&entries) {}

  template <class... More>
  void add(const Operation& op, More... more) noexcept {
    entries_->ask(op);
    Policy::add(op, more...);
  }
  template <class... When>
  void done(When... when) noexcept {
    Policy::done(when...);
    if (Policy::oldest(kNone) == kNone) entries_->drained();
  }
  void clear() noexcept {
    Policy::clear();
    entries_->forget();
  }

 private:
  static constexpr std::uint64_t kNone = ~std::uint64_t{0};

  Entries* entries_;
};

}  // namespace faultline
