// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernel/base/clock.h"

namespace faultline {

/// What a run shows of one guest: rates over the last interval, the rest since the start.
struct TableRow {
  std::string name;
  double faults_per_s = 0;
  double commands_per_s = 0;
  double syncs_per_s = 0;
  double ioctls_per_sync = 0;
  std::uint64_t fault_p50 = 0, fault_p99 = 0;  ///< ns, kernel's stamp → read by the guest
  std::uint64_t sync_p50 = 0, sync_p99 = 0;    ///< ns, doorbell → seen complete
  std::uint64_t evtq_depth = 0;
};

/// A table that is refreshed in place on a terminal, and plain lines anywhere else.
class Table {
 public:
  /// terminal   whether stdout is one
  explicit Table(bool terminal) noexcept : terminal_(terminal) {}

  /// How often print() makes sense.
  [[nodiscard]] Nanos interval() const noexcept { return terminal_ ? 500'000'000 : 3'000'000'000; }

  void print(const std::vector<TableRow>& rows, double seconds);

  /// What print() writes: on a terminal over what the last call wrote.
  ///
  /// height   lines of the terminal; guests that do not fit are counted in one line
  std::string frame(const std::vector<TableRow>& rows, double seconds, std::size_t height);

 private:
  bool terminal_;
  bool header_ = false;
  std::size_t lines_ = 0;  ///< on the screen, to be written over
};

/// "850 ns", "12.3 µs", "4.5 ms", "1.2 s": three digits that matter.
std::string duration(std::uint64_t ns);

}  // namespace faultline
