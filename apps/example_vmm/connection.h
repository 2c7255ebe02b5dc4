// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <thread>

#include "apps/client/faultline_client.h"
#include "kernel/base/clock.h"
#include "kernel/base/result.h"

namespace faultline::vmm {

/// A VMM's connection to its service. After watch(), a thread attaches the guests again whenever
/// the service was restarted, and minds its heartbeat.
class Connection {
 public:
  static constexpr Nanos kDeadMan = 300'000'000;

  /// errors   nobody listens, or it does not speak the protocol
  static Result<std::unique_ptr<Connection>> open(const std::string& socket);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// Before watch().
  Result<void> attach(const faultline_guest& guest);

  void watch();
  /// Services that guests were attached to again.
  [[nodiscard]] unsigned reattached() const noexcept { return reattached_; }
  /// Times at which the polling cores were silent for kDeadMan. A VMM with vCPUs pauses them from
  /// then on until there is a beat again, and while lost(): a guest goes on one second after an
  /// invalidation that nobody completed.
  [[nodiscard]] unsigned silences() const noexcept { return silences_; }
  /// No service has the guests now.
  [[nodiscard]] bool lost() const noexcept { return lost_; }

 private:
  explicit Connection(faultline_client* client) : client_(client) {}
  void main(const std::stop_token& stop);
  void reattach();
  void mind_heartbeat();

  faultline_client* client_;
  std::atomic<unsigned> reattached_ = 0;
  std::atomic<unsigned> silences_ = 0;
  std::atomic<bool> lost_ = false;
  bool silent_ = false;
  std::jthread thread_;
};

}  // namespace faultline::vmm
