// SPDX-License-Identifier: BSD-3-Clause
// hot path: ranges of pages, sorted and joined.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/merge/invalidation_set.h"

namespace faultline::merge {

/// How strong an invalidation by address is, apart from where: it covers another in the same pages
/// if it also covers its class. 0 is the strongest.
///
/// TLB: bit 2: only last-level entries; bits 1..0: level hint, only entries of that level.
using RangeClass = std::uint8_t;
inline constexpr RangeClass kLeafClass = 4;

constexpr bool covers(RangeClass strong, RangeClass weak) noexcept {
  const bool leaf = (strong & kLeafClass) == 0 || (weak & kLeafClass) != 0;
  const bool level = (strong & 3U) == 0 || (strong & 3U) == (weak & 3U);
  return leaf && level;
}
/// The weakest class that covers both.
constexpr RangeClass join(RangeClass a, RangeClass b) noexcept {
  const unsigned leaf = a & b & kLeafClass;
  return static_cast<RangeClass>(leaf | ((a & 3U) == (b & 3U) ? a & 3U : 0U));
}

/// Pages [begin, end) of one group: invalidations that differ in nothing but class and pages.
struct Range {
  std::uint64_t group = 0;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  RangeClass cls = 0;

  [[nodiscard]] std::uint64_t pages() const noexcept { return end - begin; }
};

/// Up to InvalidationSet::kCapacity ranges: room for one stage.
///
/// cost  sorting n log n, everything else n (subtract n log n); no allocation
class Ranges {
 public:
  static constexpr std::size_t kCapacity = InvalidationSet::kCapacity;

  /// What became of ranges that touched or overlapped.
  struct Joined {
    std::size_t inside = 0;  ///< lay in another
    std::size_t merged = 0;  ///< made another one longer
    std::size_t weaker = 0;  ///< of these: classes differed, the result is that of both
  };

  Ranges() = default;
  Ranges(const Ranges& other) noexcept { *this = other; }
  Ranges& operator=(const Ranges& other) noexcept {
    count_ = other.count_;
    std::copy_n(other.ranges_.begin(), count_, ranges_.begin());
    return *this;
  }

  void clear() noexcept { count_ = 0; }
  void add(const Range& r) noexcept { ranges_[count_++] = r; }
  [[nodiscard]] std::size_t size() const noexcept { return count_; }
  [[nodiscard]] std::span<Range> all() noexcept { return {ranges_.data(), count_}; }
  [[nodiscard]] std::span<const Range> all() const noexcept { return {ranges_.data(), count_}; }

  /// By group, class, first page: equal invalidations lie together.
  void sort_by_class() noexcept {
    sort([](const Range& a, const Range& b) noexcept {
      if (a.group != b.group) return a.group < b.group;
      if (a.cls != b.cls) return a.cls < b.cls;
      return a.begin != b.begin ? a.begin < b.begin : a.end > b.end;
    });
  }
  /// By group and first page, whatever the class.
  void sort_by_page() noexcept {
    sort([](const Range& a, const Range& b) noexcept {
      return a.group != b.group ? a.group < b.group : a.begin < b.begin;
    });
  }

  /// One range of each that overlap; where `touching(group)`, also of each that touch. Nothing is
  /// covered afterwards that was not before. Requires sort_by_class().
  template <class Touching>
  Joined join_equal(Touching touching) noexcept {
    Joined joined;
    std::size_t kept = 0;
    for (std::size_t i = 0; i < count_; ++i) {
      const Range r = ranges_[i];
      if (kept != 0) {
        Range& last = ranges_[kept - 1];
        if (last.group == r.group && last.cls == r.cls && r.begin <= last.end) {
          if (r.end <= last.end) {
            ++joined.inside;
            continue;
          }
          if (touching(r.group)) {
            last.end = r.end;
            ++joined.merged;
            continue;
          }
        }
      }
      ranges_[kept++] = r;
    }
    count_ = kept;
    return joined;
  }

  /// Drop each range that lies inside a stronger one of its own group, or one of `wider(group)`
  /// that is at least as strong; wider(group) = group: there is none. Requires sort_by_class() and
  /// join_equal(). returns  ranges dropped
  template <class Wider>
  std::size_t drop_covered(Wider wider) noexcept {
    std::array<bool, kCapacity> covered;
    std::size_t dropped = 0;
    for (std::size_t i = 0; i < count_; ++i) {
      const Range& r = ranges_[i];
      covered[i] = false;
      for (RangeClass c = 0; c < 8 && !covered[i]; ++c) {
        if (!covers(c, r.cls)) continue;
        if (c != r.cls) covered[i] = contains(r.group, c, r);
        if (!covered[i] && wider(r.group) != r.group) covered[i] = contains(wider(r.group), c, r);
      }
      dropped += covered[i] ? 1 : 0;
    }
    if (dropped == 0) return 0;
    std::size_t kept = 0;
    for (std::size_t i = 0; i < count_; ++i) {
      if (!covered[i]) ranges_[kept++] = ranges_[i];
    }
    count_ = kept;
    return dropped;
  }

  /// Join neighbours of a group over pages that nobody named. Requires sort_by_page().
  ///
  /// wanted(group, gap)  asked for each pair of neighbours with the pages between them
  template <class Wanted>
  Joined join_over(Wanted wanted) noexcept {
    Joined joined;
    std::size_t kept = 0;
    for (std::size_t i = 0; i < count_; ++i) {
      const Range r = ranges_[i];
      if (kept != 0) {
        Range& last = ranges_[kept - 1];
        const std::uint64_t gap = r.begin > last.end ? r.begin - last.end : 0;
        if (last.group == r.group && wanted(r.group, gap)) {
          if (last.cls != r.cls) ++joined.weaker;
          last.cls = join(last.cls, r.cls);
          last.end = std::max(last.end, r.end);
          ++joined.merged;
          continue;
        }
      }
      ranges_[kept++] = r;
    }
    count_ = kept;
    return joined;
  }

 private:
  template <class Less>
  void sort(Less less) noexcept {
    Range* const first = ranges_.data();
    Range* const last = first + count_;
    if (!std::is_sorted(first, last, less)) std::sort(first, last, less);
  }

  /// Whether one range of (group, cls) contains r.
  [[nodiscard]] bool contains(std::uint64_t group, RangeClass cls, const Range& r) const noexcept {
    const auto after = [&](const Range& probe, const Range& at) noexcept {
      if (probe.group != at.group) return probe.group < at.group;
      if (probe.cls != at.cls) return probe.cls < at.cls;
      return probe.begin < at.begin;
    };
    const Range probe{group, r.begin, r.end, cls};
    const Range* const first = ranges_.data();
    const Range* at = std::upper_bound(first, first + count_, probe, after);
    if (at == first) return false;
    --at;
    return at->group == group && at->cls == cls && at->end >= r.end;
  }

  std::size_t count_ = 0;
  std::array<Range, kCapacity> ranges_{};
};

}  // namespace faultline::merge
