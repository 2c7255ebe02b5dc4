// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "apps/session/guest_host.h"
#include "apps/session/guest_mapping.h"
#include "apps/wiring/wiring.h"
#include "engine/journal.h"
#include "engine/viommu/feature_set.h"
#include "kernel/base/result.h"
#include "kernel/sys.h"

namespace faultline::session {

/// A guest whose VMM opened its devices by the seed's interface: in each container nesting is
/// chosen and the guest's memory is mapped at stage 2, which stays the VMM's. The service binds
/// stage 1, invalidates, and reads faults.
///
/// Sys   must outlive this object
template <Syscalls Sys>
class VfioGuest {
 public:
  using Wires = Wiring<Sys>;
  using Sources = typename Wires::Sources;
  using SinkType = typename Wires::SinkType;

  /// fds   of its devices are taken out of the request
  static Result<VfioGuest> open(Sys& sys, GuestRequest& request) {
    auto memory = GuestMapping<Sys>::map(sys, request.memory);
    if (!memory) return tl::unexpected(std::move(memory.error()));
    std::vector<engine::DeviceSpec> devices;
    std::vector<DeviceFds> fds;
    for (DeviceRequest& d : request.devices) {
      devices.push_back({d.name, d.vsid});
      fds.push_back({d.fds[0], d.fds[1], d.fds[2]});
      d.fds.clear();
    }
    auto wires = Wires::adopt(sys, std::move(devices), fds, std::nullopt);
    if (!wires) return tl::unexpected(std::move(wires.error()));
    return VfioGuest(std::move(*memory), std::move(*wires));
  }

  [[nodiscard]] const std::vector<engine::MemoryRegion>& regions() const noexcept {
    return memory_.regions();
  }
  [[nodiscard]] viommu::Features features() const noexcept { return Wires::features(); }
  Result<Sources> sources(engine::Journal& journal) {
    return wires_->sources(vfio::AbiChoice::kAuto, journal);
  }
  SinkType sink() { return wires_->sink(); }

 private:
  VfioGuest(GuestMapping<Sys> memory, std::unique_ptr<Wires> wires)
      : memory_(std::move(memory)), wires_(std::move(wires)) {}

  GuestMapping<Sys> memory_;
  std::unique_ptr<Wires> wires_;
};

}  // namespace faultline::session
