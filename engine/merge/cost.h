// SPDX-License-Identifier: BSD-3-Clause
// hot path: what a submission is expected to cost.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/merge/policy.h"
#include "kernel/base/clock.h"
#include "kernel/operation.h"

namespace faultline::merge {

/// Modelled cost of invalidations at one sink. Only the proportions matter to what is chosen; the
/// deadline is measured in the same unit. Fixed figures and not measured ones, so that a sequence
/// of commands has one plan.
///
///   array sinks           call × ⌈operations / 63⌉ + entry × operations
///   one-operation sinks   call × operations + entry × granules: the host does one TLBI for each
///
/// source  Xen's vSMMU design page: 2 µs for a TLB invalidation on R-Car, of which the wait for the
///         host's CMD_SYNC is nearly all
struct CostModel {
  bool array = true;
  Nanos call = 2'000;
  Nanos entry = 50;
  /// Entries that a flush of everything is taken to remove: the size of a large TLB.
  std::uint64_t tlb_entries = 4'096;

  static CostModel of(const SinkCaps& caps) noexcept {
    CostModel model;
    model.array = caps.max_batch > 1;
    return model;
  }

  [[nodiscard]] Nanos cost(std::size_t operations, std::uint64_t granules) const noexcept {
    if (array) {
      const std::size_t calls = (operations + kMaxSubmission - 1) / kMaxSubmission;
      return call * calls + entry * operations;
    }
    // No more than can be: a range of a terabyte would overflow.
    const std::uint64_t most = std::uint64_t{1} << 40;
    return call * operations + entry * (granules < most ? granules : most);
  }
};

}  // namespace faultline::merge
