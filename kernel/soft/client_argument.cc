// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/soft/client_argument.h"

#include <algorithm>
#include <cstring>

#include "kernel/uapi/vfio_nested.h"

namespace faultline::soft {
namespace {

constexpr std::size_t kMaxOut = 4096;      // longer than any capability chain of ours
constexpr std::size_t kMaxElements = 256;  // of SET_IRQS

// A struct that begins with argsz. With a smaller argsz the caller may own no more than that word,
// and the kernel's answer needs no more.
ArgumentShape sized(const void* argument, std::size_t minimum) {
  std::uint32_t argsz = 0;
  std::memcpy(&argsz, argument, sizeof argsz);
  ArgumentShape shape;
  shape.number = false;
  shape.in = argsz >= minimum ? minimum : sizeof argsz;
  shape.out = std::min<std::size_t>(argsz, kMaxOut);
  return shape;
}

ArgumentShape set_irqs(const void* argument) {
  uapi::vfio_irq_set set{};
  ArgumentShape shape = sized(argument, sizeof set);
  if (shape.in < sizeof set) return shape;
  std::memcpy(&set, argument, sizeof set);
  std::size_t element = 0;
  if ((set.flags & uapi::kVfioIrqSetDataBool) != 0) element = sizeof(std::uint8_t);
  if ((set.flags & uapi::kVfioIrqSetDataEventfd) != 0) element = sizeof(std::int32_t);
  const std::size_t data = element * std::min<std::size_t>(set.count, kMaxElements);
  if (set.argsz - sizeof set >= data) {
    shape.in += data;
    if (element == sizeof(std::int32_t) && data > 0) shape.fd_at = sizeof set;
  }
  return shape;
}

}  // namespace

ArgumentShape shape_of(unsigned long request, const void* argument) noexcept {
  ArgumentShape shape;
  if (argument == nullptr) return shape;
  switch (request) {
    case uapi::kVfioGroupSetContainer:
      shape.number = false;
      shape.in = sizeof(std::int32_t);
      shape.fd_at = 0;
      return shape;
    case uapi::kVfioGroupGetDeviceFd:
      shape.number = false;
      shape.in = strnlen(static_cast<const char*>(argument), kMaxOut) + 1;
      return shape;
    case uapi::kVfioGroupGetStatus:
      return sized(argument, sizeof(uapi::vfio_group_status));
    case uapi::kVfioDeviceGetInfo:
      return sized(argument, sizeof(uapi::vfio_device_info));
    case uapi::kVfioDeviceGetRegionInfo:
      return sized(argument, sizeof(uapi::vfio_region_info));
    case uapi::kVfioDeviceGetIrqInfo:
      return sized(argument, sizeof(uapi::vfio_irq_info));
    case uapi::kVfioDeviceSetIrqs:
      return set_irqs(argument);
    case uapi::kVfioIommuGetInfo:
      return sized(argument, sizeof(uapi::vfio_iommu_type1_info));
    case uapi::kVfioIommuMapDma:
      shape = sized(argument, sizeof(uapi::vfio_iommu_type1_dma_map));
      shape.memory = shape.in == sizeof(uapi::vfio_iommu_type1_dma_map);
      return shape;
    case uapi::kVfioIommuUnmapDma:
      return sized(argument, sizeof(uapi::vfio_iommu_type1_dma_unmap));
    case uapi::kVfioIommuAttachPasidTable:
      return sized(argument, sizeof(uapi::vfio_iommu_type1_attach_pasid_table));
    case uapi::kVfioIommuCacheInvalidate:
      return sized(argument, sizeof(uapi::vfio_iommu_type1_cache_invalidate));
    case uapi::kVfioIommuBindMsi:
      return sized(argument, sizeof(uapi::vfio_iommu_type1_bind_msi));
    case uapi::kVfioIommuUnbindMsi:
      return sized(argument, sizeof(uapi::vfio_iommu_type1_unbind_msi));
    default:
      return shape;
  }
}

}  // namespace faultline::soft
