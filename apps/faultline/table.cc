// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/table.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

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

std::string Table::frame(const std::vector<TableRow>& rows, double seconds, std::size_t height) {
  std::string out;
  if (terminal_ && lines_ > 0) out += fmt::format("\x1b[{}A\x1b[J", lines_);
  lines_ = 0;
  const auto add = [&](const std::string& text) {
    out += text + '\n';
    ++lines_;
  };
  // A line that wraps would be two, and the next frame would not begin where this one does.
  if (terminal_) out += "\x1b[?7l";
  if (terminal_ || !header_) add(kHeader);
  header_ = true;
  // The header, the seconds, the line that the cursor stands on.
  constexpr std::size_t kOthers = 3;
  const std::size_t room = height > kOthers + 2 ? height - kOthers : 2;
  const bool all = !terminal_ || rows.size() <= room;
  const std::size_t shown = all ? rows.size() : room - 1;
  for (std::size_t i = 0; i < shown; ++i) add(line(rows[i]));
  if (!all) add(fmt::format("and {} guests more, in a taller terminal", rows.size() - shown));
  if (terminal_) add(fmt::format("{:.0f} s", seconds));
  if (terminal_) out += "\x1b[?7h";
  return out;
}

void Table::print(const std::vector<TableRow>& rows, double seconds) {
  winsize size{};
  const bool known = terminal_ && ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0;
  const std::string text = frame(rows, seconds, known ? size.ws_row : 24);
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

}  // namespace faultline
