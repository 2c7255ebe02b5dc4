// SPDX-License-Identifier: BSD-3-Clause
// hwloc's own topology, for the two files that talk to hwloc.
#pragma once

#include <hwloc.h>

#include <memory>
#include <string>

#include "kernel/base/result.h"

namespace faultline::engine {

struct DestroyTopology {
  void operator()(hwloc_topology* t) const noexcept { hwloc_topology_destroy(t); }
};
using TopologyHandle = std::unique_ptr<hwloc_topology, DestroyTopology>;

/// Load this machine, with its PCI functions. errors: hwloc cannot
Result<TopologyHandle> load_machine();

/// Load an XML file. errors: unreadable, or not an hwloc XML
Result<TopologyHandle> load_xml(const std::string& path);

}  // namespace faultline::engine
