// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <string>
#include <utility>

#include "kernel/base/result.h"
#include "kernel/iommufd/device.h"
#include "kernel/iommufd/hardware.h"
#include "kernel/iommufd/iommufd.h"
#include "kernel/sys.h"

namespace faultline {

/// What a device's IOMMU is, and whether a guest can get a virtual one of it.
struct DeviceAnswer {
  std::string hardware;  ///< empty: see `why_not`
  std::string offer;     ///< what a guest may be offered
  std::string why_not;   ///< one line; empty: a guest can have it
};

/// Bind the device, ask, and try a stage 2 and a vIOMMU, which only an IOMMU that keeps memory
/// coherent has (CANWBS, S2FWB). Everything is given back; the device's DMA is never touched.
///
/// device   PCI address or /dev/vfio/devices/vfioN
/// cost     eight system calls
template <Syscalls Sys>
DeviceAnswer ask_device(Sys& sys, const std::string& device) {
  DeviceAnswer answer;
  const auto stop = [&answer](const Error& error) {
    answer.why_not = error.message();
    return answer;
  };
  auto iommufd = iommufd::Iommufd<Sys>::open(sys);
  if (!iommufd) return stop(iommufd.error());
  auto bound = iommufd::Device<Sys>::open(sys, iommufd->fd(), device);
  if (!bound) return stop(bound.error());
  const auto hardware = iommufd->hardware(bound->id(), device);
  if (!hardware) return stop(hardware.error());
  answer.hardware = hardware->describe();
  const iommufd::Offer offer = offer_of(*hardware);
  if (!offer.possible) {
    answer.why_not = "not an SMMUv3 with both stages";
    return answer;
  }
  answer.offer = std::to_string(offer.oas_bits) + "-bit addresses, pages";
  answer.offer += offer.granule_4k ? " 4K" : "";
  answer.offer += offer.granule_16k ? " 16K" : "";
  answer.offer += offer.granule_64k ? " 64K" : "";
  if (offer.ranges) answer.offer += ", ranges";
  if (offer.ats) answer.offer += ", ATS";
  if (offer.stalls) answer.offer += ", page requests by stalling";
  auto ioas = iommufd->alloc_ioas(device);
  if (!ioas) return stop(ioas.error());
  auto parent = iommufd->alloc_nest_parent(bound->id(), ioas->id(), device);
  if (!parent) return stop(parent.error());
  auto viommu = iommufd->alloc_viommu(bound->id(), parent->id(), device);
  if (!viommu) return stop(viommu.error());
  return answer;
}

}  // namespace faultline
