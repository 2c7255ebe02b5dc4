// SPDX-License-Identifier: BSD-3-Clause
// The kernel's VFIO interface as the seed (v7 of the nested stage control series, on Linux 5.1)
// has it: mirrored structs keep the kernel's names, its macros become constants.
#pragma once

#include <cstdint>

#include "kernel/uapi/abi.h"
#include "kernel/uapi/iommu_nested.h"

namespace faultline::uapi {

// ---- ioctl numbers: _IO(';', 100 + n); no size is encoded, argsz carries it -------------------

constexpr unsigned long vfio_io(unsigned n) {
  return (0x3bUL << 8U) | (100U + n);
}

inline constexpr unsigned long kVfioGetApiVersion = vfio_io(0);
inline constexpr unsigned long kVfioCheckExtension = vfio_io(1);
inline constexpr unsigned long kVfioSetIommu = vfio_io(2);
inline constexpr unsigned long kVfioGroupGetStatus = vfio_io(3);
inline constexpr unsigned long kVfioGroupSetContainer = vfio_io(4);
inline constexpr unsigned long kVfioGroupUnsetContainer = vfio_io(5);
inline constexpr unsigned long kVfioGroupGetDeviceFd = vfio_io(6);
inline constexpr unsigned long kVfioDeviceGetInfo = vfio_io(7);
inline constexpr unsigned long kVfioDeviceGetRegionInfo = vfio_io(8);
inline constexpr unsigned long kVfioDeviceGetIrqInfo = vfio_io(9);
inline constexpr unsigned long kVfioDeviceSetIrqs = vfio_io(10);
inline constexpr unsigned long kVfioDeviceReset = vfio_io(11);
inline constexpr unsigned long kVfioIommuGetInfo = vfio_io(12);
inline constexpr unsigned long kVfioIommuMapDma = vfio_io(13);
inline constexpr unsigned long kVfioIommuUnmapDma = vfio_io(14);
inline constexpr unsigned long kVfioIommuAttachPasidTable = vfio_io(22);
/// The name the seed's text uses (left over from v2); the number is the same.
inline constexpr unsigned long kVfioIommuBindPasidTable = kVfioIommuAttachPasidTable;
inline constexpr unsigned long kVfioIommuDetachPasidTable = vfio_io(23);
inline constexpr unsigned long kVfioIommuCacheInvalidate = vfio_io(24);
inline constexpr unsigned long kVfioIommuBindMsi = vfio_io(25);
inline constexpr unsigned long kVfioIommuUnbindMsi = vfio_io(26);

inline constexpr int kVfioApiVersion = 0;
inline constexpr unsigned kVfioType1Iommu = 1;
inline constexpr unsigned kVfioType1v2Iommu = 3;
inline constexpr unsigned kVfioType1NestingIommu = 6;

// ---- groups, devices, regions, interrupts (mainline of 5.1) -----------------------------------

inline constexpr std::uint32_t kVfioGroupFlagsViable = 1U << 0U;
inline constexpr std::uint32_t kVfioGroupFlagsContainerSet = 1U << 1U;

struct vfio_group_status {
  std::uint32_t argsz;
  std::uint32_t flags;
};
ABI_STRUCT(vfio_group_status, 8);
ABI_FIELD(vfio_group_status, argsz, 0, 4);
ABI_FIELD(vfio_group_status, flags, 4, 4);

inline constexpr std::uint32_t kVfioDeviceFlagsReset = 1U << 0U;
inline constexpr std::uint32_t kVfioDeviceFlagsPci = 1U << 1U;

struct vfio_device_info {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint32_t num_regions;
  std::uint32_t num_irqs;
};
ABI_STRUCT(vfio_device_info, 16);
ABI_FIELD(vfio_device_info, argsz, 0, 4);
ABI_FIELD(vfio_device_info, flags, 4, 4);
ABI_FIELD(vfio_device_info, num_regions, 8, 4);
ABI_FIELD(vfio_device_info, num_irqs, 12, 4);

inline constexpr std::uint32_t kVfioRegionInfoFlagRead = 1U << 0U;
inline constexpr std::uint32_t kVfioRegionInfoFlagWrite = 1U << 1U;
inline constexpr std::uint32_t kVfioRegionInfoFlagMmap = 1U << 2U;
inline constexpr std::uint32_t kVfioRegionInfoFlagCaps = 1U << 3U;
inline constexpr std::uint32_t kVfioPciNumRegions = 9;  ///< device-specific regions start here

struct vfio_region_info {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint32_t index;
  std::uint32_t cap_offset;  ///< of the first capability, from the start of this struct
  std::uint64_t size;
  std::uint64_t offset;
};
ABI_STRUCT(vfio_region_info, 32);
ABI_FIELD(vfio_region_info, argsz, 0, 4);
ABI_FIELD(vfio_region_info, flags, 4, 4);
ABI_FIELD(vfio_region_info, index, 8, 4);
ABI_FIELD(vfio_region_info, cap_offset, 12, 4);
ABI_FIELD(vfio_region_info, size, 16, 8);
ABI_FIELD(vfio_region_info, offset, 24, 8);

struct vfio_info_cap_header {
  std::uint16_t id;
  std::uint16_t version;
  std::uint32_t next;  ///< offset of the next one from the start of the info struct; 0 = last
};
ABI_STRUCT(vfio_info_cap_header, 8);
ABI_FIELD(vfio_info_cap_header, id, 0, 2);
ABI_FIELD(vfio_info_cap_header, version, 2, 2);
ABI_FIELD(vfio_info_cap_header, next, 4, 4);

inline constexpr std::uint16_t kVfioRegionInfoCapSparseMmap = 1;
inline constexpr std::uint16_t kVfioRegionInfoCapType = 2;
inline constexpr std::uint16_t kVfioRegionInfoCapProducerFault = 6;

struct vfio_region_sparse_mmap_area {
  std::uint64_t offset;
  std::uint64_t size;
};
ABI_STRUCT(vfio_region_sparse_mmap_area, 16);
ABI_FIELD(vfio_region_sparse_mmap_area, offset, 0, 8);
ABI_FIELD(vfio_region_sparse_mmap_area, size, 8, 8);

/// Followed by nr_areas vfio_region_sparse_mmap_area.
struct vfio_region_info_cap_sparse_mmap {
  vfio_info_cap_header header;
  std::uint32_t nr_areas;
  std::uint32_t reserved;
};
ABI_STRUCT(vfio_region_info_cap_sparse_mmap, 16);
ABI_FIELD(vfio_region_info_cap_sparse_mmap, header, 0, 8);
ABI_FIELD(vfio_region_info_cap_sparse_mmap, nr_areas, 8, 4);
ABI_FIELD(vfio_region_info_cap_sparse_mmap, reserved, 12, 4);

struct vfio_region_info_cap_type {
  vfio_info_cap_header header;
  std::uint32_t type;
  std::uint32_t subtype;
};
ABI_STRUCT(vfio_region_info_cap_type, 16);
ABI_FIELD(vfio_region_info_cap_type, header, 0, 8);
ABI_FIELD(vfio_region_info_cap_type, type, 8, 4);
ABI_FIELD(vfio_region_info_cap_type, subtype, 12, 4);

inline constexpr std::uint32_t kVfioRegionTypeNested = 2;
inline constexpr std::uint32_t kVfioRegionSubtypeNestedFaultProd = 1;
inline constexpr std::uint32_t kVfioRegionSubtypeNestedFaultCons = 2;

/// PRODUCER_FAULT capability: the highest fault ABI that the kernel offers.
struct vfio_region_info_cap_fault {
  vfio_info_cap_header header;
  std::uint32_t version;
};
ABI_STRUCT(vfio_region_info_cap_fault, 12);
ABI_FIELD(vfio_region_info_cap_fault, header, 0, 8);
ABI_FIELD(vfio_region_info_cap_fault, version, 8, 4);

inline constexpr std::uint32_t kVfioPciDmaFaultIrqIndex = 5;
inline constexpr std::uint32_t kVfioPciNumIrqs = 6;
inline constexpr std::uint32_t kVfioIrqInfoEventfd = 1U << 0U;

struct vfio_irq_info {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint32_t index;
  std::uint32_t count;
};
ABI_STRUCT(vfio_irq_info, 16);
ABI_FIELD(vfio_irq_info, argsz, 0, 4);
ABI_FIELD(vfio_irq_info, flags, 4, 4);
ABI_FIELD(vfio_irq_info, index, 8, 4);
ABI_FIELD(vfio_irq_info, count, 12, 4);

inline constexpr std::uint32_t kVfioIrqSetDataNone = 1U << 0U;
inline constexpr std::uint32_t kVfioIrqSetDataBool = 1U << 1U;
inline constexpr std::uint32_t kVfioIrqSetDataEventfd = 1U << 2U;
inline constexpr std::uint32_t kVfioIrqSetActionMask = 1U << 3U;
inline constexpr std::uint32_t kVfioIrqSetActionUnmask = 1U << 4U;
inline constexpr std::uint32_t kVfioIrqSetActionTrigger = 1U << 5U;

/// Followed by `count` elements of the type that the DATA flag names (eventfd: int32).
struct vfio_irq_set {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint32_t index;
  std::uint32_t start;
  std::uint32_t count;
};
ABI_STRUCT(vfio_irq_set, 20);
ABI_FIELD(vfio_irq_set, argsz, 0, 4);
ABI_FIELD(vfio_irq_set, flags, 4, 4);
ABI_FIELD(vfio_irq_set, index, 8, 4);
ABI_FIELD(vfio_irq_set, start, 12, 4);
ABI_FIELD(vfio_irq_set, count, 16, 4);

// ---- stage 2: DMA maps ---------------------------------------------------------------------

inline constexpr std::uint32_t kVfioIommuInfoPgsizes = 1U << 0U;

struct vfio_iommu_type1_info {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint64_t iova_pgsizes;
};
ABI_STRUCT(vfio_iommu_type1_info, 16);
ABI_FIELD(vfio_iommu_type1_info, argsz, 0, 4);
ABI_FIELD(vfio_iommu_type1_info, flags, 4, 4);
ABI_FIELD(vfio_iommu_type1_info, iova_pgsizes, 8, 8);

inline constexpr std::uint32_t kVfioDmaMapFlagRead = 1U << 0U;
inline constexpr std::uint32_t kVfioDmaMapFlagWrite = 1U << 1U;

struct vfio_iommu_type1_dma_map {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint64_t vaddr;
  std::uint64_t iova;  ///< under nesting: a GPA
  std::uint64_t size;
};
ABI_STRUCT(vfio_iommu_type1_dma_map, 32);
ABI_FIELD(vfio_iommu_type1_dma_map, argsz, 0, 4);
ABI_FIELD(vfio_iommu_type1_dma_map, flags, 4, 4);
ABI_FIELD(vfio_iommu_type1_dma_map, vaddr, 8, 8);
ABI_FIELD(vfio_iommu_type1_dma_map, iova, 16, 8);
ABI_FIELD(vfio_iommu_type1_dma_map, size, 24, 8);

struct vfio_iommu_type1_dma_unmap {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint64_t iova;
  std::uint64_t size;  ///< out: bytes unmapped
};
ABI_STRUCT(vfio_iommu_type1_dma_unmap, 24);
ABI_FIELD(vfio_iommu_type1_dma_unmap, argsz, 0, 4);
ABI_FIELD(vfio_iommu_type1_dma_unmap, flags, 4, 4);
ABI_FIELD(vfio_iommu_type1_dma_unmap, iova, 8, 8);
ABI_FIELD(vfio_iommu_type1_dma_unmap, size, 16, 8);

// ---- stage 1: PASID table, invalidation, MSI (the seed, v7) -------------------------------------

struct vfio_iommu_type1_attach_pasid_table {
  std::uint32_t argsz;
  std::uint32_t flags;
  iommu_pasid_table_config config;
};
ABI_STRUCT(vfio_iommu_type1_attach_pasid_table, 40);
ABI_FIELD(vfio_iommu_type1_attach_pasid_table, argsz, 0, 4);
ABI_FIELD(vfio_iommu_type1_attach_pasid_table, flags, 4, 4);
ABI_FIELD(vfio_iommu_type1_attach_pasid_table, config, 8, 32);

struct vfio_iommu_type1_cache_invalidate {
  std::uint32_t argsz;
  std::uint32_t flags;
  iommu_cache_invalidate_info info;
};
ABI_STRUCT(vfio_iommu_type1_cache_invalidate, 56);
ABI_FIELD(vfio_iommu_type1_cache_invalidate, argsz, 0, 4);
ABI_FIELD(vfio_iommu_type1_cache_invalidate, flags, 4, 4);
ABI_FIELD(vfio_iommu_type1_cache_invalidate, info, 8, 48);

struct vfio_iommu_type1_bind_msi {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint64_t iova;
  std::uint64_t gpa;
  std::uint64_t size;
};
ABI_STRUCT(vfio_iommu_type1_bind_msi, 32);
ABI_FIELD(vfio_iommu_type1_bind_msi, argsz, 0, 4);
ABI_FIELD(vfio_iommu_type1_bind_msi, flags, 4, 4);
ABI_FIELD(vfio_iommu_type1_bind_msi, iova, 8, 8);
ABI_FIELD(vfio_iommu_type1_bind_msi, gpa, 16, 8);
ABI_FIELD(vfio_iommu_type1_bind_msi, size, 24, 8);

struct vfio_iommu_type1_unbind_msi {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint64_t iova;
};
ABI_STRUCT(vfio_iommu_type1_unbind_msi, 16);
ABI_FIELD(vfio_iommu_type1_unbind_msi, argsz, 0, 4);
ABI_FIELD(vfio_iommu_type1_unbind_msi, flags, 4, 4);
ABI_FIELD(vfio_iommu_type1_unbind_msi, iova, 8, 8);

// ---- fault regions, version 1 -----------------------------------------------------------------

inline constexpr std::uint32_t kVfioRegionFaultAbiVersion1 = 1;
inline constexpr std::uint32_t kVfioRegionFaultVersionUnset = 0xffffffffU;

/// Head of the producer region, read with pread (not mappable in version 1).
struct vfio_region_fault_prod {
  std::uint32_t version;
  std::uint32_t nb_entries;
  std::uint32_t entry_size;
  std::uint32_t offset;
  std::uint32_t prod;
};
ABI_STRUCT(vfio_region_fault_prod, 20);
ABI_FIELD(vfio_region_fault_prod, version, 0, 4);
ABI_FIELD(vfio_region_fault_prod, nb_entries, 4, 4);
ABI_FIELD(vfio_region_fault_prod, entry_size, 8, 4);
ABI_FIELD(vfio_region_fault_prod, offset, 12, 4);
ABI_FIELD(vfio_region_fault_prod, prod, 16, 4);

/// The consumer region, written with pwrite.
struct vfio_region_fault_cons {
  std::uint32_t version;
  std::uint32_t cons;
};
ABI_STRUCT(vfio_region_fault_cons, 8);
ABI_FIELD(vfio_region_fault_cons, version, 0, 4);
ABI_FIELD(vfio_region_fault_cons, cons, 4, 4);

}  // namespace faultline::uapi
