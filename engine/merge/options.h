// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>

#include "kernel/base/clock.h"

namespace faultline::merge {

/// Whether a guest's submissions wait a little for the owners of SYNCs just released.
enum class LingerMode : std::uint8_t {
  kOff,
  kOn,
  kAuto,  ///< while it gains
};

/// What the operator may set of the policy Merge, per guest. Config keys have the names of these
/// members, command line options too (--merge-cap, …).
struct MergeOptions {
  /// Most entries removed per entry asked for, where widening costs less; 1 = never widen for
  /// economy. Entries are counted in pages of the invalidation's granule.
  double cap = 1.25;
  /// The modelled time that the TLB operations of one plan may cost; beyond it a plan is widened
  /// whatever the cap: precise → ranges of all ASIDs → everything. 0 = no bound.
  Nanos deadline = 1'000'000;
  /// A submission starts when its oldest operation has waited this long for a SYNC.
  Nanos wait = 20'000;
  LingerMode linger = LingerMode::kAuto;
  /// The guest makes no global stage-1 mappings: an ASID covers its address ranges. Linux does
  /// not; nothing checks it.
  bool assume_nonglobal = false;
  /// Recompute the coverage of every n-th plan, command by command; 0 = never.
  std::uint32_t audit_every = 0;

  bool operator==(const MergeOptions&) const = default;
};

}  // namespace faultline::merge
