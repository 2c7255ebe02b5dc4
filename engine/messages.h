// SPDX-License-Identifier: BSD-3-Clause
// hot path: what the duties of one guest, and a duty and the cold lane, say to each other.
#pragma once

#include <cstdint>

#include "engine/bell.h"
#include "engine/ring.h"
#include "kernel/operation.h"

namespace faultline::engine {

/// CommandDuty → EventDuty. Every message is acknowledged with its token once it took effect;
/// only then may the CommandDuty tell the guest (CR0ACK, the CMDQ error).
struct ToEventDuty {
  enum class Kind : std::uint32_t {
    kEnableEvtq,   ///< base, log2size, prod, cons: the queue as the guest programmed it
    kDisableEvtq,  ///< nothing is written to the old queue after the acknowledgement
    kRaiseGerror,  ///< toggle `bits` in GERROR (those not already active) and interrupt
    kIrqControl,   ///< bits: IRQ_CTRL as acknowledged (which interrupts may be raised)
  };
  Kind kind = Kind::kDisableEvtq;
  std::uint32_t token = 0;
  std::uint64_t base = 0;
  std::uint32_t log2size = 0;
  std::uint32_t prod = 0;
  std::uint32_t cons = 0;
  std::uint32_t bits = 0;
};

/// EventDuty → CommandDuty.
struct ToCommandDuty {
  std::uint32_t token = 0;   ///< of the message that took effect
  std::uint32_t gerror = 0;  ///< GERROR as it stands now
};

/// CommandDuty → EventDuty: the guest answered page requests. Not acknowledged: what is lost with a
/// killed engine stays open in the journal, and the next one lets it try again.
struct PageResponse {
  std::uint32_t device = 0;
  std::uint32_t group = 0;
  std::uint32_t retry = 0;  ///< 0: the access fails
  std::uint32_t all = 0;    ///< 1: every open request of the device, whatever its group
};

/// CommandDuty → cold lane: bind, replace or drop the stage 1 of one device.
struct Stage1Job {
  std::uint32_t guest = 0;   ///< engine's index of the guest
  std::uint32_t device = 0;  ///< guest's device index
  Stage1Config config;
};

/// Cold lane → CommandDuty.
struct Stage1Done {
  std::uint32_t guest = 0;
  std::uint32_t device = 0;
  SubmitResult result;
};

/// The rings of one guest. Each has one producer and one consumer: the two duties, or the
/// CommandDuty and the cold lane.
struct GuestRings {
  SpscRing<ToEventDuty> to_event{16};
  SpscRing<ToCommandDuty> to_command{16};
  SpscRing<PageResponse> responses{64};
  SpscRing<Stage1Job> to_cold{8};
  SpscRing<Stage1Done> from_cold{8};
  Bell event_bell;  ///< rung after a push to to_event, when the EventDuty's shard may sleep
};

}  // namespace faultline::engine
