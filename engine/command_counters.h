// SPDX-License-Identifier: BSD-3-Clause
// hot path: what a CommandDuty counts.
#pragma once

#include <cstdint>

#include "engine/event_counters.h"
#include "kernel/base/units.h"

namespace faultline::engine {

/// Written by the shard that owns the duty with tally(), read by anybody with load_relaxed().
struct alignas(kCacheLine) CommandCounters {
  std::uint64_t commands = 0;          ///< handled, SYNCs included
  std::uint64_t syncs = 0;             ///< CMD_SYNCs fetched
  std::uint64_t syncs_completed = 0;   ///< told the guest
  std::uint64_t operations_asked = 0;  ///< operations that the commands amount to
  std::uint64_t operations = 0;        ///< operations submitted, resyncs included
  std::uint64_t submissions = 0;       ///< calls of the sink
  std::uint64_t failed_submissions = 0;
  std::uint64_t ioctls = 0;            ///< of the submissions
  std::uint64_t host_syncs = 0;        ///< CMD_SYNCs which that cost the host
  std::uint64_t attaches = 0;          ///< stage-1 changes that took effect
  std::uint64_t retried_attaches = 0;  ///< the host was short of something and was asked again
  std::uint64_t refused_attaches = 0;  ///< the kernel refused the guest's stage 1: device aborts
  std::uint64_t failed_attaches = 0;   ///< not even abort could be set
  std::uint64_t illegal = 0;           ///< CERROR_ILL raised
  std::uint64_t aborts = 0;            ///< CERROR_ABT raised
  std::uint64_t atc_timeouts = 0;      ///< CERROR_ATC_INV_SYNC raised
  std::uint64_t resyncs = 0;           ///< failures made good by invalidating all of the guest
  std::uint64_t blocked = 0;           ///< failures that ended in blocking the guest's devices
  std::uint64_t foreign_streams = 0;   ///< commands for a StreamID without a device: succeed
  std::uint64_t prefetches = 0;        ///< accepted without effect
  std::uint64_t responses = 0;         ///< PRI_RESP, RESUME, STALL_TERM
  std::uint64_t msi_aborts = 0;        ///< SYNC MSIs to nowhere
  std::uint64_t register_changes = 0;  ///< CR0, IRQ_CTRL and GBPA writes acknowledged
  std::uint64_t commands_cut = 0;      ///< rounds that the guest's budget ended
  std::uint64_t foreign_waits = 0;     ///< rounds with work right behind another guest's submission
  std::uint64_t late_registers = 0;    ///< enables taken with prior values (see RegisterGate)
};

}  // namespace faultline::engine
