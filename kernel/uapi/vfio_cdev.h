// SPDX-License-Identifier: BSD-3-Clause
// VFIO's device files (/dev/vfio/devices/vfioN, Linux 6.6) and how they join an iommufd. Numbers
// and region structs shared with the group interface are in vfio_nested.h. Source:
// include/uapi/linux/vfio.h up to Linux 7.2.
#pragma once

#include <cstdint>

#include "kernel/uapi/abi.h"
#include "kernel/uapi/vfio_nested.h"

namespace faultline::uapi {

inline constexpr unsigned long kVfioDeviceBindIommufd = vfio_io(18);
inline constexpr unsigned long kVfioDeviceAttachIommufdPt = vfio_io(19);
inline constexpr unsigned long kVfioDeviceDetachIommufdPt = vfio_io(20);

/// PCI: where the config space is, and what is in it (region index as the kernel fixes it).
inline constexpr std::uint32_t kVfioPciBar0RegionIndex = 0;
inline constexpr std::uint32_t kVfioPciConfigRegionIndex = 7;

/// The device belongs to this iommufd from then on, until its file is closed.
struct vfio_device_bind_iommufd {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::int32_t iommufd;
  std::uint32_t out_devid;
};
ABI_STRUCT(vfio_device_bind_iommufd, 16);
ABI_FIELD(vfio_device_bind_iommufd, argsz, 0, 4);
ABI_FIELD(vfio_device_bind_iommufd, flags, 4, 4);
ABI_FIELD(vfio_device_bind_iommufd, iommufd, 8, 4);
ABI_FIELD(vfio_device_bind_iommufd, out_devid, 12, 4);

/// On an attached device this replaces the page table in one step.
struct vfio_device_attach_iommufd_pt {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint32_t pt_id;  ///< IOAS or HWPT; out: the HWPT
};
ABI_STRUCT(vfio_device_attach_iommufd_pt, 12);
ABI_FIELD(vfio_device_attach_iommufd_pt, argsz, 0, 4);
ABI_FIELD(vfio_device_attach_iommufd_pt, flags, 4, 4);
ABI_FIELD(vfio_device_attach_iommufd_pt, pt_id, 8, 4);

struct vfio_device_detach_iommufd_pt {
  std::uint32_t argsz;
  std::uint32_t flags;
};
ABI_STRUCT(vfio_device_detach_iommufd_pt, 8);
ABI_FIELD(vfio_device_detach_iommufd_pt, argsz, 0, 4);
ABI_FIELD(vfio_device_detach_iommufd_pt, flags, 4, 4);

}  // namespace faultline::uapi
