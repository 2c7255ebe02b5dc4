// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/guest/commands.h"
#include "kernel/base/clock.h"
#include "kernel/base/result.h"

namespace faultline::guest {

/// One write of CMDQ_PROD in a recording.
struct Doorbell {
  Nanos at = 0;             ///< since the first doorbell
  std::uint32_t first = 0;  ///< index of its first command
  std::uint16_t count = 0;
  std::uint16_t vcpu = 0;  ///< which vCPU rang
};

/// Commands that a real guest wrote, in queue order, and how it rang.
struct Trace {
  std::string name;
  unsigned vcpus = 1;
  bool uses_range = false;  ///< some TLBI carries a range: the replay needs IDR3.RIL
  std::vector<Command> commands;
  std::vector<Doorbell> doorbells;

  [[nodiscard]] bool uses_asid(std::uint16_t asid) const noexcept;
  [[nodiscard]] bool uses_sid(StreamId sid) const noexcept;
};

/// Read NAME.cmdq, NAME.db and NAME.json; the first two also as NAME.cmdq.zst, NAME.db.zst.
///
/// path     the common part of the names, or any one of the files
/// errors   one line: which file, and what is wrong with it (unreadable, truncated, not a trace)
Result<Trace> read_trace(const std::string& path);

/// Write NAME.cmdq, NAME.db and NAME.json, plain, as read_trace() reads them.
///
/// path     NAME
/// errors   which file could not be written
Result<void> write_trace(const std::string& path, const Trace& trace);

}  // namespace faultline::guest
