// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <algorithm>
#include <cstdio>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "apps/wiring/host_guest.h"
#include "apps/wiring/wiring.h"
#include "engine/journal.h"
#include "engine/viommu/feature_set.h"
#include "kernel/base/result.h"
#include "kernel/iommufd/guest_iommu.h"
#include "kernel/iommufd/sink.h"
#include "kernel/iommufd/sources.h"
#include "kernel/sys.h"
#include "kernel/vfio/profile.h"

namespace faultline {

/// What a guest may be offered on this hardware. Page requests by PRI never reach a guest of
/// mainline; the virtual SMMU writes its MSIs by itself.
inline viommu::Features features_of(const iommufd::Offer& offer) noexcept {
  viommu::Features f;
  f.sid_bits = offer.sid_bits;
  f.ssid_bits = offer.ssid_bits;
  f.oas_bits = offer.oas_bits;
  f.granule_4k = offer.granule_4k;
  f.granule_16k = offer.granule_16k;
  f.granule_64k = offer.granule_64k;
  f.ranges = offer.ranges;
  f.ats = offer.ats;
  f.stalls = offer.stalls;
  f.two_level_contexts = offer.two_level_contexts;
  f.coherent = offer.coherent;
  return f;
}

/// The host's side of one guest on mainline's iommufd.
///
/// Sys      must outlive this object
/// thread   one at a time
template <Syscalls Sys>
class IommufdWiring {
 public:
  using Sources = iommufd::EventSources<Sys>;
  using SinkType = iommufd::Sink<Sys>;

  /// No ABI is negotiated: there is one.
  static unsigned abi_of(Sources& /*sources*/) noexcept { return 0; }

  /// Open and bind the guest's devices, by their names, and make its IOMMU over its memory.
  static Result<std::unique_ptr<IommufdWiring>> open(Sys& sys, const HostGuest& guest) {
    iommufd::Parts parts;
    for (const HostDevice& d : guest.devices) parts.devices.push_back({d.name, d.vsid});
    // All of RAM but the register page, which is no memory to a device.
    const iommufd::GuestRange ram{.gpa = HostGuest::kBase,
                                  .size = guest.bytes - HostGuest::kRegisterBytes,
                                  .at = guest.memory};
    return make(sys, std::move(parts), {&ram, 1});
  }

  /// Over devices that somebody else opened, or names.
  ///
  /// parts, memory   of iommufd::GuestIommu::make()
  static Result<std::unique_ptr<IommufdWiring>> make(Sys& sys, iommufd::Parts parts,
                                                     std::span<const iommufd::GuestRange> memory) {
    auto iommu = iommufd::GuestIommu<Sys>::make(sys, std::move(parts), memory);
    if (!iommu) return tl::unexpected(std::move(iommu.error()));
    return std::unique_ptr<IommufdWiring>(new IommufdWiring(std::move(*iommu)));
  }

  /// As open_sources(), and how events are watched is printed.
  Result<Sources> sources(vfio::AbiChoice /*abi*/, engine::Journal& journal) {
    auto opened = open_sources(journal);
    if (opened) std::printf("events: %s\n", opened->watch().describe().c_str());
    return opened;
  }
  /// `journal` says where an earlier engine stopped, if one did.
  Result<Sources> open_sources(engine::Journal& journal) {
    iommufd::SourceFiles files;
    std::vector<SourcePosition> positions;
    for (std::size_t i = 0; i < iommu_->size(); ++i) {
      files.devices.push_back({iommu_->vsid(i), iommu_->device(i).id()});
      if (journal.in_use()) positions.push_back(journal.event().resume_position(i));
    }
    files.veventq = iommu_->events_fd();
    files.fault_queue = iommu_->faults_fd();
    return Sources::open(iommu_->sys(), std::move(files), iommufd::WatchChoice::kAuto, positions);
  }
  SinkType sink() { return SinkType(*iommu_); }

  [[nodiscard]] viommu::Features features() const noexcept { return features_of(iommu_->offer()); }
  [[nodiscard]] iommufd::GuestIommu<Sys>& iommu() noexcept { return *iommu_; }

 private:
  explicit IommufdWiring(std::unique_ptr<iommufd::GuestIommu<Sys>> iommu)
      : iommu_(std::move(iommu)) {}

  std::unique_ptr<iommufd::GuestIommu<Sys>> iommu_;
};

/// The host's side of all guests of a run, on mainline's iommufd.
template <Syscalls Sys>
using IommufdSide = HostSide<Sys, IommufdWiring<Sys>>;

}  // namespace faultline
