// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultlined/notify.h"

#include <systemd/sd-daemon.h>
#include <time.h>

#include <algorithm>
#include <cstdint>

namespace faultline::daemon {
namespace {

// A line end in it would begin an assignment of its own.
std::string status_line(std::string_view text) {
  std::string line = "STATUS=" + std::string(text.substr(0, 400));
  std::replace_if(
      line.begin(), line.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return line;
}

}  // namespace

bool Notify::send(const std::string& assignments, std::span<const int> fds) {
  return sd_pid_notify_with_fds(0, 0, assignments.c_str(), fds.data(),
                                static_cast<unsigned>(fds.size())) > 0;
}

void Notify::ready(std::string_view status) {
  send("READY=1\n" + status_line(status), {});
}

void Notify::reloading() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const std::uint64_t us = static_cast<std::uint64_t>(now.tv_sec) * 1'000'000 +
                           static_cast<std::uint64_t>(now.tv_nsec) / 1000;
  send("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(us), {});
}

void Notify::stopping(std::string_view status) {
  send("STOPPING=1\n" + status_line(status), {});
}

void Notify::status(std::string_view status) {
  send(status_line(status), {});
}

void Notify::beat() {
  send("WATCHDOG=1", {});
}

Nanos Notify::beat_interval() {
  std::uint64_t us = 0;
  if (sd_watchdog_enabled(0, &us) <= 0) return 0;
  return us * 1000 / 2;
}

}  // namespace faultline::daemon
