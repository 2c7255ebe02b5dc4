// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "apps/metrics/moment.h"
#include "kernel/base/result.h"

namespace faultline::metrics {

struct EndpointOptions {
  std::string listen = {};    ///< "127.0.0.1:PORT", "[::1]:PORT" or "/a/unix.socket"
  bool allow_remote = false;  ///< other addresses, too: anybody who reaches them may read
  std::vector<unsigned> housekeeping = {};  ///< CPUs of its threads; empty: any
};

/// errors  `listen` is no address, or one that is not allowed
Result<void> check(const EndpointOptions& options);

/// HTTP: GET /metrics (Prometheus' text) and GET /moment.json, nothing else.
///
/// moment   called from the endpoint's threads, outlives it
/// threads  one that accepts, two that answer; a peer that stops waits 2 s for its next byte and is
/// let go
class MetricsEndpoint {
 public:
  /// errors  an address that is none, is not on this machine, or is taken
  static Result<std::unique_ptr<MetricsEndpoint>> start(const EndpointOptions& options,
                                                        std::function<Moment()> moment);
  ~MetricsEndpoint();  ///< stops it; removes its socket
  MetricsEndpoint(const MetricsEndpoint&) = delete;
  MetricsEndpoint& operator=(const MetricsEndpoint&) = delete;

  /// The TCP port, also where 0 was asked; 0 of a UNIX socket.
  [[nodiscard]] int port() const noexcept;

 private:
  struct State;
  explicit MetricsEndpoint(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace faultline::metrics
