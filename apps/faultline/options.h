// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "apps/faultline/merge_choices.h"

namespace CLI {
class App;
}

namespace faultline {

/// Code of an Error that is the user's: no errno. The program ends with status 2.
inline constexpr int kUsageError = -1;

/// What `faultline run` was asked for; the strings are among those that options.cc lists.
struct RunOptions {
  unsigned seconds = 15;
  unsigned guests = 1;
  unsigned devices = 2;  ///< of each guest
  unsigned shards = 0;   ///< 0: as many as placement finds cores for
  std::string policy = "merge";
  MergeChoices merge;  ///< of the policy merge
  std::string abi = "auto";
  std::string kernel = "soft";
  std::vector<std::string> host_devices;  ///< of --kernel iommufd: PCI addresses or VFIO files
  std::string rate = "fast";
  std::string idle = "auto";
  std::optional<std::string> trace;  ///< unset: the one that comes with the source
  std::optional<std::string> json;   ///< unset: none is written
  std::string plant;                 ///< empty: the engine does what it can
  std::string quirks = "none";
  std::string hugepages = "auto";
  unsigned fail_invalidations = 0;  ///< each n-th invalidation ioctl of a container fails; 0: none
  unsigned chaos = 0;               ///< kills of the engine
  bool chaos_steps = false;         ///< one kill at every named step of the journal
  bool strict_cores = false;
  bool lock_memory = false;  ///< of the guests, into RAM
  unsigned storms_ms = 0;    ///< between bursts of faults without restraint; 0: none
  unsigned sleep_after_us = 200;
  unsigned rebalance_ms = 0;  ///< between moves of all duties to the next shard; 0: none
  std::uint64_t seed = 1;

  [[nodiscard]] bool kills() const noexcept { return chaos > 0 || chaos_steps; }
};

/// Declare the options of `run` on a subcommand; parsing fills `to`.
void declare_run(CLI::App& command, RunOptions& to);

}  // namespace faultline
