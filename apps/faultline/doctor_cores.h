// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <vector>

#include "apps/faultline/doctor.h"

namespace faultline {

/// What polling needs of cores and nodes: hugepages and memory of each node, isolation, interrupts,
/// SMT siblings, governors, and devices far from isolated cores. Nothing in it keeps a backend from
/// running. Empty where the host lists no nodes.
[[nodiscard]] std::vector<Finding> examine_cores(const Host& host);

}  // namespace faultline
