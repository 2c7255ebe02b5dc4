// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <string>
#include <vector>

#include "engine/placement.h"
#include "engine/topology.h"

namespace CLI {
class App;
}

namespace faultline {

/// What `faultline place` was asked.
struct PlaceCommand {
  std::string topology = "live";     ///< or the path of an hwloc XML
  int node = -1;                     ///< -1: that of most devices
  unsigned shards = 0;               ///< 0: as many as are useful
  bool strict_cores = false;         ///< refuse more shards than polling cores
  std::string cpus;                  ///< CPU list; empty: any
  std::string isolated;              ///< CPU list, in addition to what the machine itself says
  std::vector<std::string> devices;  ///< PCI addresses, dealt to the guests
  unsigned guests = 0;               ///< how many of no name
  std::vector<std::string> guest;    ///< "NAME key=value ..."
  std::string json;                  ///< file
  std::string picture;               ///< file
};

void declare_place(CLI::App& command, PlaceCommand& to);

/// One --guest: "NAME [vcpus=LIST] [devices=ADDRESS,ADDRESS] [faults=N] [commands=N]".
///
/// errors  kUsageError with what is wrong and what could stand there
Result<engine::GuestPlacement> parse_guest(const std::string& text);

/// The guests that a command line describes. errors: as parse_guest; a name twice; a device that
/// `topology` has not
Result<std::vector<engine::GuestPlacement>> guests_of(const PlaceCommand& command,
                                                      const engine::Topology& topology);

/// Print the plan, and write what was asked for besides.
Result<void> place_command(const PlaceCommand& command);

}  // namespace faultline
