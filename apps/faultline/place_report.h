// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <string>

#include "engine/placement.h"
#include "engine/topology.h"

namespace faultline {

/// "0-3,8"
[[nodiscard]] std::string cpu_list(const std::vector<unsigned>& cpus);

/// A plan for people: every choice with its reason and what it was preferred to.
[[nodiscard]] std::string plan_text(const engine::Topology& topology, const engine::Plan& plan);

/// The same for programs (doc/operation.md lists the keys).
[[nodiscard]] std::string plan_json(const engine::Topology& topology, const engine::Plan& plan);

}  // namespace faultline
