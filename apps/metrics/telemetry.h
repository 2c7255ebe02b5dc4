// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <functional>
#include <memory>

#include "apps/metrics/moment.h"
#include "kernel/base/result.h"

namespace faultline::metrics {

/// The commands /faultline/... of DPDK's telemetry socket, one at a time in a process.
///
/// moment  called from DPDK's telemetry threads until this is destroyed
class Telemetry {
 public:
  /// Before or after EAL starts. errors: DPDK refuses a command
  static Result<std::unique_ptr<Telemetry>> start(std::function<Moment()> moment);
  ~Telemetry();
  Telemetry(const Telemetry&) = delete;
  Telemetry& operator=(const Telemetry&) = delete;

 private:
  Telemetry() = default;
};

}  // namespace faultline::metrics
