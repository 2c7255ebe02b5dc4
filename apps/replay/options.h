// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>

#include "engine/guest_spec.h"
#include "engine/merge/options.h"
#include "kernel/base/clock.h"

namespace faultline {

/// What takes the operations of a replay.
enum class SinkModel : std::uint8_t {
  kArray,         ///< one ioctl per submission, one host CMD_SYNC for each 63 operations
  kOneOperation,  ///< one ioctl, and in it one host CMD_SYNC, for each operation
};

enum class ReplayClock : std::uint8_t {
  kVirtual,  ///< one thread; time is counted, not measured: the same input, the same report
  kWall,     ///< vCPUs on one core, engine on another, a sink that is busy for as long as it costs
};

/// How a trace is replayed. The costs are ns.
///
/// The defaults are round figures of the right size, not measurements of a host.
struct ReplayOptions {
  engine::PolicyKind policy = engine::PolicyKind::kMerge;
  merge::MergeOptions merge;  ///< of kMerge; audit_every is not looked at
  SinkModel sink = SinkModel::kArray;
  ReplayClock clock = ReplayClock::kVirtual;
  std::uint64_t loops = 1;  ///< how often each vCPU plays its script, >= 1

  Nanos think = 0;      ///< a vCPU, from a CMD_SYNC seen complete until it wants to ring again
  Nanos ring = 200;     ///< on top of it, and between two doorbells of a vCPU without a CMD_SYNC
  Nanos ioctl = 1'000;  ///< each ioctl
  Nanos host_sync = 2'000;  ///< each CMD_SYNC of the host
  Nanos entry = 50;         ///< each operation
  Nanos round = 100;        ///< a round of the engine without its sink, >= 1; virtual clock only
};

}  // namespace faultline
