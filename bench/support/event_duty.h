// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>

#include "bench/support/guest.h"
#include "engine/event_duty.h"

namespace faultline::bench {

/// An EventDuty of a guest with this many devices, whose event queue the guest has just enabled.
///
/// guest, rings   outlive the duty
inline engine::EventDutySetup event_duty_setup(Guest& guest, engine::GuestRings& rings,
                                               std::size_t devices) {
  engine::EventDutySetup setup;
  setup.memory = &guest.memory_;
  setup.page = guest.page_;
  setup.rings = &rings;
  for (std::uint32_t i = 0; i < devices; ++i) setup.vsids.push_back(StreamId{i});
  rings.to_event.push({.kind = engine::ToEventDuty::Kind::kEnableEvtq,
                       .token = 1,
                       .base = Guest::kQueueAt,
                       .log2size = 10});
  return setup;
}

}  // namespace faultline::bench
