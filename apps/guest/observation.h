// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>

#include "apps/guest/spsc.h"
#include "kernel/base/clock.h"

namespace faultline::guest {

/// One thing that a guest saw on its event queue, as the audit is told.
///
/// consumed   events this guest had read from the queue before this observation
struct Observation {
  enum class Kind : std::uint32_t {
    kEvent,          ///< `words` is what stood in the slot
    kOverflowSeen,   ///< PROD was read with an OVFLG other than the one seen before
    kOverflowAcked,  ///< the handler wrote that OVFLG to OVACKFLG
  };
  Kind kind = Kind::kEvent;
  std::uint64_t consumed = 0;
  Nanos at = 0;
  std::uint64_t words[4] = {};
};

using ObservationQueue = Spsc<Observation>;

}  // namespace faultline::guest
