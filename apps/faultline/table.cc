// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/table.h"

#include <fmt/format.h>

#include <cstdio>

namespace faultline {
namespace {

constexpr const char* kHeader =
    "           faults/s  commands/s   SYNC/s  ioctls/SYNC   fault p50      p99    SYNC p50      "
    "p99   EVTQ";

std::string line(const TableRow& r) {
  return fmt::format(
      "{:<9} {:>9.0f}  {:>10.0f} {:>8.0f}  {:>11.2f}  {:>10} {:>8}  {:>10} {:>8}  {:>5}", r.name,
      r.faults_per_s, r.commands_per_s, r.syncs_per_s, r.ioctls_per_sync, duration(r.fault_p50),
      duration(r.fault_p99), duration(r.sync_p50), duration(r.sync_p99), r.evtq_depth);
}

}  // namespace

std::string duration(std::uint64_t ns) {
  const auto v = static_cast<double>(ns);
  // One column per character: µ is two bytes but one column, so "us" keeps the table straight.
  const auto digits = [](double x, const char* unit) {
    return x < 10    ? fmt::format("{:.2f} {}", x, unit)
           : x < 100 ? fmt::format("{:.1f} {}", x, unit)
                     : fmt::format("{:.0f} {}", x, unit);
  };
  if (ns < 1'000) return fmt::format("{} ns", ns);
  if (ns < 1'000'000) return digits(v / 1e3, "us");
  if (ns < 1'000'000'000) return digits(v / 1e6, "ms");
  return digits(v / 1e9, "s");
}

void Table::print(const std::vector<TableRow>& rows, double seconds) {
  if (terminal_ && lines_ > 0) fmt::print("\x1b[{}A\x1b[J", lines_);
  lines_ = 0;
  if (terminal_ || !header_) {
    fmt::print("{}\n", kHeader);
    header_ = true;
    ++lines_;
  }
  for (const TableRow& r : rows) {
    fmt::print("{}\n", line(r));
    ++lines_;
  }
  if (terminal_) {
    fmt::print("{:.0f} s\n", seconds);
    ++lines_;
  }
  std::fflush(stdout);
}

}  // namespace faultline
