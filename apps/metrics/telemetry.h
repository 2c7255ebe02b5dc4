// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <functional>
#include <memory>

#include "apps/metrics/moment.h"
#include "kernel/base/result.h"

namespace faultline::metrics {

/// The commands /faultline/... of DPDK's telemetry socket, one at a time in a process.
///
/// An answer that DPDK cannot hold (256 entries of a dictionary, 16 KiB) is null as a whole, as one
/// for what there is not; none is cut. The largest, a guest's, has 76 entries. Lists of names go on
/// from the number in the parameter.
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
