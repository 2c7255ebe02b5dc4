// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/merge/options.h"
#include "kernel/base/clock.h"
#include "kernel/base/units.h"

namespace faultline::viommu {
struct Features;
}  // namespace faultline::viommu

namespace faultline::engine {

/// How the guest's register writes reach the engine.
enum class RegisterMode : std::uint8_t {
  kExitless,  ///< the register page is the guest's memory; every register is polled
  kTrapped,   ///< the VMM handles the writes and leaves the values in the page
};

/// Which rule makes submissions of commands.
enum class PolicyKind : std::uint8_t { kForwardEach, kBatchUntilSync, kMerge };

struct MemoryRegion {
  Gpa gpa;
  std::size_t size = 0;
  void* host = nullptr;  ///< where it is mapped in this process
  int memfd = -1;        ///< checked for F_SEAL_SHRINK when >= 0
};

/// One assigned device; index in GuestSpec::devices = index in the sources and the sink.
struct DeviceSpec {
  std::string name;  ///< PCI address, for the operator
  StreamId vsid;     ///< what the guest calls it
};

/// An MSI to something that is no memory of the guest, and who is told instead.
struct MsiRoute {
  Gpa address;
  std::uint32_t data = 0;
  int eventfd = -1;
};

/// One guest = one virtual SMMU, as a VMM (or the embedded run) describes it.
struct GuestSpec {
  std::string name;
  std::vector<MemoryRegion> memory;
  Gpa registers;  ///< of the 128 KiB register page
  RegisterMode mode = RegisterMode::kExitless;
  PolicyKind policy = PolicyKind::kMerge;
  merge::MergeOptions merge;  ///< of kMerge
  std::vector<DeviceSpec> devices;
  int evtq_eventfd = -1;    ///< signalled for the event queue's interrupt; -1: none
  int gerror_eventfd = -1;  ///< signalled for GERROR; -1: none
  int sync_eventfd = -1;    ///< signalled for CMD_SYNC CS=IRQ without an MSI address; -1: none
  /// Made readable after a write to a register (RegisterMode::kTrapped); -1: nobody tells, and the
  /// registers are polled as an exitless guest's are.
  int doorbell_eventfd = -1;
  std::vector<MsiRoute> routes;  ///< looked at for an MSI whose address is no memory of the guest
  Nanos register_poll_ns = 50'000;  ///< longest time in which nobody looks at registers that do not
                                    ///< ring, when the shard sleeps
  std::vector<unsigned> vcpus;      ///< host CPUs that the guest's vCPUs run on; empty: unknown
  /// What its devices' host offers it, less what its sink cannot do; null: as
  /// EngineOptions::features. Read by Engine::add_guest() only.
  const viommu::Features* features = nullptr;
};

}  // namespace faultline::engine
