// SPDX-License-Identifier: BSD-3-Clause
// hot path: the operations of one guest's queue that are not covered yet.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "engine/merge/policy.h"
#include "kernel/operation.h"

namespace faultline::merge {

/// Operations in queue order, less exact duplicates, cut into stages.
///
/// A stage is a run of operations that may be collapsed: of one kind (configuration, TLB, ATC),
/// across any number of SYNCs; or of several kinds in the order in which stale entries flow
/// (configuration, TLB, ATC) with no SYNC between them. Anything else opens a new stage, so within
/// a stage nothing can pass another kind that was queued before it, and stages keep the queue's
/// order. Stages that no SYNC separates may go in one submission, one after the other (front()).
///
/// The operations of all stages lie in one array; a stage is a part of it, and a hash table finds
/// equal ones. Emptying the set is O(1): the table's words carry a generation.
///
/// cost  add: one hash of four words and on average one comparison; no allocation, 14 KiB
class InvalidationSet {
 public:
  static constexpr std::size_t kCapacity = 256;
  static constexpr std::size_t kStages = 16;

  enum class Added : std::uint8_t {
    kNew,        ///< takes a place
    kDuplicate,  ///< inside one that is held
    kJoined,     ///< made the one before it longer
  };

  /// pages_join  a page named without a granule (TG = 0) may become part of a range of 4 KiB pages.
  ///             It may not where it could be a page of another granule
  explicit InvalidationSet(bool pages_join = true) noexcept : pages_join_(pages_join) {}

  /// Operations that fit; 0 also when no further stage would.
  [[nodiscard]] std::size_t room() const noexcept {
    return stages_ == kStages ? 0 : kCapacity - count_;
  }
  [[nodiscard]] bool empty() const noexcept { return stages_ == first_; }

  /// Position of the oldest command in the set. Requires !empty().
  [[nodiscard]] Position oldest() const noexcept { return stage_[first_].oldest; }
  /// When it was added. Requires !empty().
  [[nodiscard]] Nanos since() const noexcept { return stage_[first_].since; }
  /// SYNCs that wait for something in the set.
  [[nodiscard]] std::size_t syncs() const noexcept { return syncs_; }

  /// Requires room() > 0.
  ///
  /// join  an address range that continues the one added before it makes that one longer
  Added add(const Operation& op, Position at, Nanos now, bool join) noexcept {
    const Cache kind = cache_of(op.kind);
    if (!fits(kind)) open(kind, at, now);
    Stage& stage = stage_[stages_ - 1];
    stage.last_kind = kind;
    stage.last_segment = segment_;

    const std::uint64_t head = head_of(op);
    const bool by_address = op.kind == OperationKind::kTlbVa || op.kind == OperationKind::kTlbVaa;
    std::size_t slot = hash(op, head) % kSlots;
    for (; (slots_[slot] >> 16U) == generation_; slot = (slot + 1) % kSlots) {
      const std::size_t index = slots_[slot] & 0xffffU;
      if (index < stage.begin) continue;  // of an earlier stage
      Operation& held = operations_[index];
      if (head_of(held) != head || held.addr != op.addr || held.sid != op.sid ||
          held.ssid != op.ssid) {
        continue;
      }
      if (by_address && stays_alone(held) == stays_alone(op)) {
        if (held.pages < op.pages) held.pages = op.pages;
        return Added::kDuplicate;
      }
      if (held.pages == op.pages) return Added::kDuplicate;
    }
    if (join && by_address && count_ > stage.begin) {
      Operation& last = operations_[count_ - 1];
      if (head_of(last) == head && last.addr + (last.pages << last.granule_log2) == op.addr &&
          op.addr != 0 && !stays_alone(last)) {
        last.pages += op.pages;
        return Added::kJoined;
      }
    }
    slots_[slot] = generation_ << 16U | static_cast<std::uint32_t>(count_);
    operations_[count_++] = op;
    stage.end = static_cast<std::uint16_t>(count_);
    return Added::kNew;
  }

  /// A SYNC was queued. Requires !empty().
  void add_sync() noexcept {
    ++segment_;
    ++stage_[stages_ - 1].syncs;
    ++syncs_;
  }

  /// The oldest stages, as many as may go in one submission. They take no more operations.
  std::size_t seal_front() noexcept {
    sealed_ = first_ + 1;
    const Stage& front = stage_[first_];
    // A stage behind begins in no earlier segment than the front ends in.
    while (sealed_ < stages_ && stage_[sealed_].first_segment == front.first_segment &&
           stage_[sealed_].last_segment == front.first_segment) {
      ++sealed_;
    }
    return sealed_ - first_;
  }
  /// Stages ever opened; the last operation added is in that one.
  [[nodiscard]] std::uint64_t opened() const noexcept { return opened_; }
  /// Those of them up to which seal_front() went.
  [[nodiscard]] std::uint64_t sealed() const noexcept { return opened_ - (stages_ - sealed_); }
  /// Operations of the i-th stage from the front.
  [[nodiscard]] std::span<const Operation> stage(std::size_t i) const noexcept {
    const Stage& s = stage_[first_ + i];
    return {operations_.data() + s.begin, std::size_t{s.end} - s.begin};
  }
  /// What seal_front() named is covered.
  void remove_front() noexcept {
    for (; first_ != sealed_; ++first_) syncs_ -= stage_[first_].syncs;
    if (empty()) clear();
  }

  void clear() noexcept {
    count_ = first_ = stages_ = sealed_ = syncs_ = 0;
    generation_ = (generation_ + 1) & 0xffffU;
    if (generation_ == 0) [[unlikely]] {
      slots_ = {};
      generation_ = 1;
    }
  }

 private:
  static constexpr std::size_t kSlots = 2 * kCapacity;  // at most half full: probes stay short

  struct Stage {
    Position oldest = 0;
    Nanos since = 0;
    std::size_t syncs = 0;            ///< behind its last operation
    std::uint64_t first_segment = 0;  ///< SYNCs before its first operation, since construction
    std::uint64_t last_segment = 0;
    std::uint16_t begin = 0;  ///< [begin, end) of operations_
    std::uint16_t end = 0;
    Cache first_kind = Cache::kTlb;
    Cache last_kind = Cache::kTlb;
  };

  [[nodiscard]] bool fits(Cache kind) const noexcept {
    if (stages_ == sealed_) return false;
    const Stage& s = stage_[stages_ - 1];
    if (s.first_kind == kind && s.last_kind == kind) return true;
    return s.last_kind <= kind && s.first_segment == segment_;
  }
  void open(Cache kind, Position at, Nanos now) noexcept {
    Stage& s = stage_[stages_++];
    ++opened_;
    s.oldest = at;
    s.since = now;
    s.syncs = 0;
    s.first_segment = segment_;
    s.begin = s.end = static_cast<std::uint16_t>(count_);
    s.first_kind = s.last_kind = kind;
  }

  [[nodiscard]] bool stays_alone(const Operation& op) const noexcept {
    return !pages_join_ && op.pages == 1 && op.granule_log2 == 12 && op.ttl == 0;
  }

  /// Kind, flags, granule, level hint and ASID: the first eight bytes.
  static std::uint64_t head_of(const Operation& op) noexcept {
    static_assert(offsetof(Operation, sid) == 8 && sizeof(bool) == 1);
    std::uint64_t head = 0;
    std::memcpy(&head, &op, sizeof head);
    return head;
  }
  static std::size_t hash(const Operation& op, std::uint64_t head) noexcept {
    constexpr std::uint64_t kOdd = 0x9e37'79b9'7f4a'7c15U;
    std::uint64_t h = (op.addr ^ head) * kOdd;
    h = (h ^ h >> 32U ^ (std::uint64_t{op.sid} << 32U | op.ssid)) * kOdd;
    return static_cast<std::size_t>(h >> 48U);
  }

  bool pages_join_;
  std::size_t count_ = 0;
  std::size_t first_ = 0;   ///< stages [first_, stages_) are held
  std::size_t sealed_ = 0;  ///< stages below take no more operations
  std::size_t stages_ = 0;
  std::size_t syncs_ = 0;
  std::uint64_t segment_ = 0;
  std::uint64_t opened_ = 0;
  std::uint32_t generation_ = 1;
  std::array<Stage, kStages> stage_{};
  std::array<std::uint32_t, kSlots> slots_{};  ///< generation << 16 | index into operations_
  std::array<Operation, kCapacity> operations_{};
};

}  // namespace faultline::merge
