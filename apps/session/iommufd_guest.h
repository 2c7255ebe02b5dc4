// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cerrno>
#include <memory>
#include <utility>
#include <vector>

#include "apps/session/guest_host.h"
#include "apps/session/guest_mapping.h"
#include "apps/session/iommufd_objects.h"
#include "apps/wiring/iommufd_wiring.h"
#include "engine/journal.h"
#include "engine/viommu/feature_set.h"
#include "engine/viommu/registers.h"
#include "kernel/base/result.h"
#include "kernel/sys.h"

namespace faultline::session {

/// A guest on mainline's iommufd: its VMM passes an open /dev/iommu and the files of its devices,
/// not bound yet. Everything else is made here, stage 2 over the guest's memory included, and goes
/// with the guest.
///
/// Sys   must outlive this object
template <Syscalls Sys>
class IommufdGuest {
 public:
  using Wires = IommufdWiring<Sys>;
  using Sources = typename Wires::Sources;
  using SinkType = typename Wires::SinkType;

  /// fds   are taken out of the request
  /// With objects of an earlier life it goes on with those; the stage-1 tables that were attached
  /// then are replaced by recovery, and stay in the kernel until /dev/iommu is closed.
  static Result<IommufdGuest> open(Sys& sys, GuestRequest& request) {
    auto memory = GuestMapping<Sys>::map(sys, request.memory);
    if (!memory) return tl::unexpected(std::move(memory.error()));
    iommufd::Parts parts;
    parts.iommufd = std::exchange(request.backend_fds.front(), -1);
    for (DeviceRequest& d : request.devices) {
      parts.devices.push_back({d.name, d.vsid, std::exchange(d.fds.front(), -1)});
    }
    if (!request.objects.empty()) {
      auto ok = take_objects(request.objects, request.object_fds, parts);
      // Whoever makes the wires closes what is in its parts.
      if (ok) request.object_fds.clear();
      if (!ok) {
        close_all(sys, parts);
        return tl::unexpected(std::move(ok.error()));
      }
    }
    std::vector<iommufd::GuestRange> ram;
    for (const engine::MemoryRegion& region : memory->regions()) {
      add_ram(ram, region, request.registers);
    }
    auto wires = Wires::make(sys, std::move(parts), ram);
    if (!wires) return tl::unexpected(std::move(wires.error()));
    return IommufdGuest(std::move(*memory), std::move(*wires));
  }

  [[nodiscard]] const std::vector<engine::MemoryRegion>& regions() const noexcept {
    return memory_.regions();
  }
  [[nodiscard]] viommu::Features features() const noexcept { return wires_->features(); }
  Result<Sources> sources(engine::Journal& journal) { return wires_->open_sources(journal); }
  SinkType sink() { return wires_->sink(); }
  [[nodiscard]] KeptObjects objects() { return objects_of(wires_->iommu().parts()); }
  void keep() noexcept { wires_->iommu().keep(); }

 private:
  IommufdGuest(GuestMapping<Sys> memory, std::unique_ptr<Wires> wires)
      : memory_(std::move(memory)), wires_(std::move(wires)) {}

  static void close_all(Sys& sys, const iommufd::Parts& parts) {
    if (parts.iommufd >= 0) sys.close(parts.iommufd);
    for (const auto& d : parts.devices) {
      if (d.fd >= 0) sys.close(d.fd);
    }
  }
  /// A region but for the register page, which is no memory to a device.
  static void add_ram(std::vector<iommufd::GuestRange>& ram, const engine::MemoryRegion& region,
                      Gpa registers) {
    const std::uint64_t end = region.gpa.value + region.size;
    const std::uint64_t hole = std::clamp(registers.value, region.gpa.value, end);
    const std::uint64_t after =
        std::clamp(registers.value + viommu::kRegisterBytes, region.gpa.value, end);
    const auto piece = [&](std::uint64_t from, std::uint64_t to) {
      if (from >= to) return;
      ram.push_back({.gpa = Gpa{from},
                     .size = to - from,
                     .at = static_cast<unsigned char*>(region.host) + (from - region.gpa.value)});
    };
    piece(region.gpa.value, hole);
    piece(after, end);
  }

  GuestMapping<Sys> memory_;
  std::unique_ptr<Wires> wires_;
};

}  // namespace faultline::session
