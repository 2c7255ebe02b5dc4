// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/faultline/engine_host.h"
#include "apps/wiring/host_guest.h"
#include "apps/wiring/wiring.h"
#include "engine/journal_step.h"
#include "kernel/base/result.h"
#include "kernel/base/units.h"

namespace faultline {

/// What the engine's process of a chaos run is told: everything as descriptors that it inherits.
struct Description {
  struct Guest {
    HostGuest host;  ///< `memory` is not passed on
    std::vector<DeviceFds> fds;
    int journal = -1;
  };
  int kernel = -1;  ///< SoftProcess::socket()
  int go = -1;      ///< readable when this engine shall take over; until then it is a spare
  int status = -1;  ///< memory of an EngineStatus
  EngineChoices choices;
  vfio::KernelProfile profile;
  engine::KillAtStep kill;  ///< where it kills itself
  std::vector<Guest> guests;

  /// Every descriptor in it: what a child has to inherit.
  [[nodiscard]] std::vector<int> descriptors() const;
};

/// Written by the engine's process, read by its supervisor: one page of shared memory.
struct EngineStatus {
  static constexpr std::size_t kGuests = 64;
  std::uint32_t spare;    ///< 1: all that takes long is done, waiting for `go`
  std::uint32_t running;  ///< 1: every guest is served
  std::uint32_t abi;
  std::uint32_t shards;
  std::uint64_t ioctls[kGuests];  ///< of this life, a few ms old
};

std::string to_json(const Description& description);

/// errors   text that to_json() did not make
Result<Description> description_from_json(const std::string& text);

}  // namespace faultline
