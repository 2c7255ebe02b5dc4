// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <algorithm>
#include <array>

#include "engine/merge/batch_until_sync.h"
#include "engine/merge/policy.h"

// Policies that each make one mistake, for the oracle to see.

namespace faultline::prove {

using merge::Cache;
using merge::cache_of;
using merge::kMaxSubmission;
using merge::Position;

/// `Policy`, but what it gives is changed by Change::change(operations) → how many are left.
template <class Policy, class Change>
class Changed : public Policy {
 public:
  using Policy::Policy;

  std::span<const Operation> take(Nanos now) noexcept {
    const std::span<const Operation> given = Policy::take(now);
    std::copy(given.begin(), given.end(), operations_.begin());
    const std::span<Operation> ours(operations_.data(), given.size());
    return ours.first(Change::change(ours));
  }

 private:
  std::array<Operation, kMaxSubmission> operations_{};
};

inline bool is_range(const Operation& op) noexcept {
  return op.kind == OperationKind::kTlbVa || op.kind == OperationKind::kTlbVaa;
}

struct DropLastRange {
  static std::size_t change(std::span<Operation> ops) noexcept {
    if (ops.size() < 2 || !is_range(ops.back())) return ops.size();
    return ops.size() - 1;
  }
};
template <class P>
using DropRange = Changed<P, DropLastRange>;

struct ToAsid {
  static std::size_t change(std::span<Operation> ops) noexcept {
    for (Operation& op : ops) {
      if (op.kind != OperationKind::kTlbVa) continue;
      const std::uint16_t asid = op.asid;
      op = {};
      op.kind = OperationKind::kTlbAsid;
      op.asid = asid;
    }
    return ops.size();
  }
};
template <class P>
using AsidWide = Changed<P, ToAsid>;

/// LEAF where one of the parts had it.
struct ToLeaf {
  static std::size_t change(std::span<Operation> ops) noexcept {
    const bool any =
        std::any_of(ops.begin(), ops.end(), [](const Operation& op) { return op.leaf; });
    for (Operation& op : ops) {
      if (is_range(op)) op.leaf = any;
    }
    return ops.size();
  }
};
template <class P>
using KeepLeaf = Changed<P, ToLeaf>;

struct ToFirstTtl {
  static std::size_t change(std::span<Operation> ops) noexcept {
    for (Operation& op : ops) {
      if (is_range(op) && op.ttl == 0 && op.pages > 1) op.ttl = 3;
    }
    return ops.size();
  }
};
template <class P>
using KeepTtl = Changed<P, ToFirstTtl>;

struct ToFirstAsid {
  static std::size_t change(std::span<Operation> ops) noexcept {
    const auto first =
        std::find_if(ops.begin(), ops.end(), [](const Operation& op) { return is_range(op); });
    for (Operation& op : ops) {
      if (op.kind == OperationKind::kTlbVa && first->kind == op.kind) op.asid = first->asid;
    }
    return ops.size();
  }
};
template <class P>
using FirstAsid = Changed<P, ToFirstAsid>;

/// Collects across SYNCs without regard to kinds; sorted, ATC first and descriptors last.
template <bool kSorted>
class Across : public merge::BatchUntilSync {
 public:
  Across() noexcept : BatchUntilSync(20'000) {}
  void add_sync(Position /*at*/, Nanos /*now*/) noexcept {}
  std::span<const Operation> take(Nanos now) noexcept {
    const std::span<const Operation> given = BatchUntilSync::take(now);
    std::copy(given.begin(), given.end(), operations_.begin());
    const std::span<Operation> ours(operations_.data(), given.size());
    if (kSorted) {
      std::stable_sort(ours.begin(), ours.end(), [](const Operation& a, const Operation& b) {
        return cache_of(a.kind) > cache_of(b.kind);
      });
    }
    return ours;
  }

 private:
  std::array<Operation, kMaxSubmission> operations_{};
};

/// Drops what it holds already, whatever was queued in between.
class DropRepeated : public merge::BatchUntilSync {
 public:
  void add(const Operation& op, Position at, Nanos now) noexcept {
    const std::span<const Operation> held = BatchUntilSync::take(now);
    if (std::find(held.begin(), held.end(), op) == held.end()) BatchUntilSync::add(op, at, now);
  }
};

template <class P>
class OneEarly : public P {
 public:
  using P::P;
  [[nodiscard]] Position oldest(Position none) const noexcept {
    const Position first = P::oldest(none);
    return first == none ? none : std::min(none, first + 2);
  }
};

class NeverStarts : public merge::BatchUntilSync {
 public:
  [[nodiscard]] bool due(Nanos /*now*/) const noexcept { return false; }
};

/// Takes a submission for done of which it gives only the first half.
template <class P>
class HalfDone : public P {
 public:
  using P::P;
  std::span<const Operation> take(Nanos now) noexcept {
    const std::span<const Operation> given = P::take(now);
    std::copy(given.begin(), given.end(), operations_.begin());
    const std::size_t n = given.size() / 2;
    P::done(now);
    return {operations_.data(), std::max<std::size_t>(n, 1)};
  }
  void done(Nanos /*now*/) noexcept {}

 private:
  std::array<Operation, kMaxSubmission> operations_{};
};

}  // namespace faultline::prove
