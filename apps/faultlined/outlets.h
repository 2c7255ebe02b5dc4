// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "apps/metrics/endpoint.h"
#include "apps/metrics/moment.h"
#include "apps/metrics/telemetry.h"
#include "config/options.h"
#include "kernel/base/clock.h"
#include "kernel/base/result.h"

namespace faultline::daemon {

/// Where the counters of a service can be read, beside its sessions.
///
/// An address that somebody else has is no reason for guests to wait: the service goes on without,
/// and tick() tries again.
///
/// thread   one at a time
class Outlets {
 public:
  /// housekeeping   CPUs of their threads
  /// moment         from any thread, until the destructor
  /// errors         an address that is none, or that this service may not have
  static Result<Outlets> start(const config::Options& options,
                               const std::vector<unsigned>& housekeeping,
                               const std::function<metrics::Moment()>& moment);

  /// Try again what was in use, every few seconds. One line when it is there.
  void tick(Nanos now);

 private:
  Result<void> listen();

  metrics::EndpointOptions wanted_;  ///< while there is no endpoint; empty: none is wanted
  std::function<metrics::Moment()> moment_;
  int said_ = 0;  ///< the errno that the log has a line about
  Nanos next_ = 0;
  std::unique_ptr<metrics::MetricsEndpoint> endpoint_;
  std::unique_ptr<metrics::Telemetry> telemetry_;
};

/// errors  metrics.listen is no address, or one that metrics.remote has to allow
[[nodiscard]] Result<void> check_metrics(const config::Options& options);

/// The address that metrics.listen says for a node, as EndpointOptions::listen: without unix: in
/// front of a path, %N replaced, PORT+NUMBER added up.
/// errors  a port beyond 65535
[[nodiscard]] Result<std::string> metrics_address(const config::Options& options);

}  // namespace faultline::daemon
