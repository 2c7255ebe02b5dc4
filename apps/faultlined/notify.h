// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "kernel/base/clock.h"

namespace faultline::daemon {

/// What the service tells its manager (sd_notify). Without one every call does nothing.
///
/// thread   any
class Notify {
 public:
  virtual ~Notify() = default;

  /// Serving. status: one line for `systemctl status`; what is no printable text in it is made so.
  void ready(std::string_view status);
  /// Reading the configuration again; ready() ends it.
  void reloading();
  /// Draining, from now until the end.
  void stopping(std::string_view status);
  void status(std::string_view status);
  /// Still alive. To be sent from where a hang would show.
  void beat();

  /// How often beat() is due: half of WatchdogSec. returns 0: nobody watches
  [[nodiscard]] static Nanos beat_interval();

  /// One message with descriptors. returns  whether a manager took it
  virtual bool send(const std::string& assignments, std::span<const int> fds);
};

}  // namespace faultline::daemon
