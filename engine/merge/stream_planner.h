// SPDX-License-Identifier: BSD-3-Clause
// hot path: the least configuration and ATC invalidations that cover those of one stage.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/merge/counters.h"
#include "engine/merge/plan.h"
#include "engine/merge/ranges.h"
#include "kernel/base/shared.h"
#include "kernel/operation.h"

namespace faultline::merge {

/// Plans operations that name a stream. Nothing is widened here, except that a sink without caches
/// of context descriptors binds the whole stream again for any number of them.
///
/// CFGI_CD ⊂ CFGI_CD_ALL of the stream; a descriptor without LEAF covers one with it. ATC_INV is
/// merged among equal (SID, SSV, SSID) only: GLOBAL covers the same without it, but not other
/// SSIDs, since a function may ignore it (PCIe: Global Invalidate Supported).
///
/// cost  n log n; no allocation
class StreamPlanner {
 public:
  explicit StreamPlanner(const SinkCaps& caps) noexcept : config_caches_(caps.config_caches) {}

  void plan_config(std::span<const Operation> ops, Plan& out, MergeCounters& counters) noexcept {
    ranges_.clear();
    for (const Operation& op : ops) {
      const bool all = op.kind == OperationKind::kCfgCdAll;
      const std::uint64_t begin = all ? 0 : op.ssid;
      const auto cls = static_cast<RangeClass>(!all && op.leaf ? kLeafClass : 0U);
      ranges_.add({op.sid, begin, all ? kDescriptors : begin + 1, cls});
    }
    reduce(counters, false);
    const std::span<const Range> all = ranges_.all();
    for (std::size_t i = 0; i < all.size(); ++i) {
      const Range& r = all[i];
      const bool many = !config_caches_ && i + 1 < all.size() && all[i + 1].group == r.group;
      Operation op;
      op.sid = static_cast<std::uint32_t>(r.group);
      if (many || r.end == kDescriptors) {
        op.kind = OperationKind::kCfgCdAll;
        while (many && i + 1 < all.size() && all[i + 1].group == r.group) ++i;
      } else {
        op.kind = OperationKind::kCfgCd;
        op.ssid = static_cast<std::uint32_t>(r.begin);
        op.leaf = r.cls == kLeafClass;
      }
      out.add(op);
    }
  }

  void plan_atc(std::span<const Operation> ops, Plan& out, MergeCounters& counters) noexcept {
    ranges_.clear();
    for (const Operation& op : ops) {
      const std::uint64_t group =
          std::uint64_t{op.sid} << 21U | std::uint64_t{op.ssid} << 1U | (op.ssid_valid ? 1U : 0U);
      const std::uint64_t begin = op.pages == 0 ? 0 : op.addr >> 12U;
      const auto cls = static_cast<RangeClass>(op.global ? 0U : kLeafClass);
      ranges_.add({group, begin, op.pages == 0 ? kWhole : begin + op.pages, cls});
    }
    reduce(counters, true);
    for (const Range& r : ranges_.all()) {
      Operation op;
      op.kind = OperationKind::kAtcInv;
      op.sid = static_cast<std::uint32_t>(r.group >> 21U);
      op.ssid = static_cast<std::uint32_t>(r.group >> 1U & 0xf'ffffU);
      op.ssid_valid = (r.group & 1U) != 0;
      op.global = r.cls == 0;
      if (r.pages() == kWhole) {
        out.add(op);
        continue;
      }
      each_block(r.begin, r.end, [&](std::uint64_t begin, std::uint64_t pages) noexcept {
        op.addr = begin << 12U;
        op.pages = pages;
        out.add(op);
      });
    }
  }

 private:
  static constexpr std::uint64_t kDescriptors = (std::uint64_t{1} << 20) + 1;  ///< more than any
  static constexpr std::uint64_t kWhole = std::uint64_t{1} << 52;

  void reduce(MergeCounters& counters, bool touching) noexcept {
    if (ranges_.size() == 1) return;
    ranges_.sort_by_class();
    const Ranges::Joined joined =
        ranges_.join_equal([touching](std::uint64_t) noexcept { return touching; });
    const std::size_t covered =
        ranges_.drop_covered([](std::uint64_t group) noexcept { return group; });
    tally(counters.ranges_merged, joined.merged);
    tally(counters.duplicates, joined.inside + covered);
  }

  bool config_caches_;
  Ranges ranges_;
};

}  // namespace faultline::merge
