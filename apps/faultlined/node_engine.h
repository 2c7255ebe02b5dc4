// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "apps/session/guest_host.h"
#include "config/options.h"
#include "engine/budget.h"
#include "engine/cold_lane.h"
#include "engine/lcore.h"
#include "engine/placement.h"
#include "engine/topology.h"
#include "kernel/base/result.h"

namespace faultline::daemon {

/// Where shards go on this machine, by the configuration. Guests come later.
///
/// errors   one line: a node or CPU that is not there, too few cores
Result<engine::Plan> plan_node(const config::Options& options, const engine::Topology& topology);

/// Whether this machine has what the configuration asks of it: node, CPUs, cores, the idle policy.
Result<void> check_node(const config::Options& options);

/// What each guest of the node may take, by the configuration.
[[nodiscard]] engine::Budget budget_of(const config::Options& options) noexcept;

/// The engine of one node: its lcores and what runs on them.
class NodeEngine {
 public:
  /// Start it. Housekeeping is where the calling thread is from then on.
  ///
  /// cost     about 0.3 s
  /// errors   one line; nothing is left running
  static Result<std::unique_ptr<NodeEngine>> start(const config::Options& options);
  NodeEngine(const NodeEngine&) = delete;
  NodeEngine& operator=(const NodeEngine&) = delete;
  ~NodeEngine();

  [[nodiscard]] session::GuestHost& host() noexcept { return *host_; }
  [[nodiscard]] const engine::Plan& plan() const noexcept { return plan_; }
  /// "0, 2": the CPUs of the shards.
  [[nodiscard]] std::string cores() const;

 private:
  NodeEngine() = default;

  engine::Plan plan_;
  std::unique_ptr<engine::ColdLane> lane_;
  std::unique_ptr<engine::Lcores> lcores_;
  std::unique_ptr<session::GuestHost> host_;
};

}  // namespace faultline::daemon
