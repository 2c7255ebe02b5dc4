// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "kernel/base/histogram.h"

namespace faultline {

/// What a replay did. Counts are of the trace alone: what the driver did to enable the virtual SMMU
/// is not in them.
struct ReplayReport {
  std::uint64_t commands = 0;    ///< that the vCPUs wrote, CMD_SYNCs included
  std::uint64_t syncs = 0;       ///< CMD_SYNCs, all of them seen complete
  std::uint64_t ioctls = 0;      ///< for invalidations
  std::uint64_t operations = 0;  ///< in these ioctls
  std::uint64_t host_syncs = 0;  ///< CMD_SYNCs which they cost the host
  std::uint64_t attaches = 0;    ///< changes of stage 1, which are no ioctls of the above

  std::uint64_t entries_asked = 0;    ///< see Entries
  std::uint64_t entries_removed = 0;  ///< see Entries
  std::uint64_t widened =
      0;  ///< operations on a whole ASID or the whole guest that nobody asked for
  std::uint64_t missed = 0;  ///< entries asked and not removed: 0, or the policy loses some

  std::uint64_t outstanding_sum = 0;  ///< see guest::Player
  /// CMD_SYNCs that have to be waited for one after the other whatever the engine does: those of
  /// the vCPU that waits most often, after those of the prologue.
  std::uint64_t busiest_syncs = 0;

  Histogram sync_latency;  ///< from the doorbell to the CMD_SYNC seen complete, ns

  /// Rounds that did work, without their time in the sink and with what counts the entries, per
  /// command. None by the virtual clock: it would be the one value that differs between two runs.
  std::optional<double> engine_ns_per_command;
  double seconds = 0;  ///< by the clock of the replay, from the first doorbell to the last command

  /// 1 where exactly what was asked was removed, and where nothing was asked.
  [[nodiscard]] double over_invalidation() const noexcept;
  [[nodiscard]] double mean_outstanding_syncs() const noexcept;
  [[nodiscard]] double ioctls_per_sync() const noexcept;
  /// busiest_syncs / syncs: where every CMD_SYNC has an operation before it, no engine can do with
  /// fewer ioctls per CMD_SYNC.
  [[nodiscard]] double limit_ioctls_per_sync() const noexcept;
};

/// The report as JSON, two spaces of indentation, a newline at the end; the keys are those of
/// doc/operation.md.
std::string to_json(const ReplayReport& report);

}  // namespace faultline
