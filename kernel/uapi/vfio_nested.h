// SPDX-License-Identifier: BSD-3-Clause
// The kernel's VFIO interface as the seed (v7 of the nested stage control series, on Linux 5.1)
// has it: mirrored structs keep the kernel's names, its macros become constants.
#pragma once

#include <cstdint>

#include "kernel/uapi/abi.h"

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

inline constexpr std::uint32_t kPasidTableSmmuv3CfgVersion1 = 1;
inline constexpr std::uint32_t kPasidTableCfgVersion1 = 1;
inline constexpr std::uint32_t kIommuPasidFormatSmmuv3 = 1;
inline constexpr std::uint8_t kIommuPasidConfigTranslate = 1;
inline constexpr std::uint8_t kIommuPasidConfigBypass = 2;
inline constexpr std::uint8_t kIommuPasidConfigAbort = 3;

struct iommu_pasid_smmuv3 {
  std::uint32_t version;
  std::uint8_t s1fmt;
  std::uint8_t s1dss;
  std::uint8_t padding[2];
};
ABI_STRUCT(iommu_pasid_smmuv3, 8);
ABI_FIELD(iommu_pasid_smmuv3, version, 0, 4);
ABI_FIELD(iommu_pasid_smmuv3, s1fmt, 4, 1);
ABI_FIELD(iommu_pasid_smmuv3, s1dss, 5, 1);
ABI_FIELD(iommu_pasid_smmuv3, padding, 6, 2);

struct iommu_pasid_table_config {
  std::uint32_t version;
  std::uint32_t format;
  std::uint64_t base_ptr;  ///< GPA
  std::uint8_t pasid_bits;
  std::uint8_t config;
  std::uint8_t padding[6];
  iommu_pasid_smmuv3 smmuv3;  ///< the kernel's union has this one member
};
ABI_STRUCT(iommu_pasid_table_config, 32);
ABI_FIELD(iommu_pasid_table_config, version, 0, 4);
ABI_FIELD(iommu_pasid_table_config, format, 4, 4);
ABI_FIELD(iommu_pasid_table_config, base_ptr, 8, 8);
ABI_FIELD(iommu_pasid_table_config, pasid_bits, 16, 1);
ABI_FIELD(iommu_pasid_table_config, config, 17, 1);
ABI_FIELD(iommu_pasid_table_config, padding, 18, 6);
ABI_FIELD(iommu_pasid_table_config, smmuv3, 24, 8);

struct vfio_iommu_type1_attach_pasid_table {
  std::uint32_t argsz;
  std::uint32_t flags;
  iommu_pasid_table_config config;
};
ABI_STRUCT(vfio_iommu_type1_attach_pasid_table, 40);
ABI_FIELD(vfio_iommu_type1_attach_pasid_table, argsz, 0, 4);
ABI_FIELD(vfio_iommu_type1_attach_pasid_table, flags, 4, 4);
ABI_FIELD(vfio_iommu_type1_attach_pasid_table, config, 8, 32);

inline constexpr std::uint32_t kIommuCacheInvalidateInfoVersion1 = 1;
inline constexpr std::uint8_t kIommuCacheInvTypeIotlb = 1U << 0U;
inline constexpr std::uint8_t kIommuCacheInvTypeDevIotlb = 1U << 1U;
inline constexpr std::uint8_t kIommuCacheInvTypePasid = 1U << 2U;
inline constexpr std::uint8_t kIommuInvGranuDomain = 0;
inline constexpr std::uint8_t kIommuInvGranuPasid = 1;
inline constexpr std::uint8_t kIommuInvGranuAddr = 2;
inline constexpr std::uint32_t kIommuInvAddrFlagsPasid = 1U << 0U;
inline constexpr std::uint32_t kIommuInvAddrFlagsArchid = 1U << 1U;
inline constexpr std::uint32_t kIommuInvAddrFlagsLeaf = 1U << 2U;

struct iommu_inv_addr_info {
  std::uint32_t flags;
  std::uint32_t archid;
  std::uint64_t pasid;  ///< v7: the ASID
  std::uint64_t addr;
  std::uint64_t granule_size;  ///< bytes; 0 makes the kernel run away
  std::uint64_t nb_granules;   ///< 0 makes the kernel run away
};
ABI_STRUCT(iommu_inv_addr_info, 40);
ABI_FIELD(iommu_inv_addr_info, flags, 0, 4);
ABI_FIELD(iommu_inv_addr_info, archid, 4, 4);
ABI_FIELD(iommu_inv_addr_info, pasid, 8, 8);
ABI_FIELD(iommu_inv_addr_info, addr, 16, 8);
ABI_FIELD(iommu_inv_addr_info, granule_size, 24, 8);
ABI_FIELD(iommu_inv_addr_info, nb_granules, 32, 8);

struct iommu_cache_invalidate_info {
  std::uint32_t version;
  std::uint8_t cache;
  std::uint8_t granularity;
  std::uint8_t padding[2];
  union {
    std::uint64_t pasid;  ///< PASID granularity; v7: the ASID
    iommu_inv_addr_info addr_info;
  };
};
ABI_STRUCT(iommu_cache_invalidate_info, 48);
ABI_FIELD(iommu_cache_invalidate_info, version, 0, 4);
ABI_FIELD(iommu_cache_invalidate_info, cache, 4, 1);
ABI_FIELD(iommu_cache_invalidate_info, granularity, 5, 1);
ABI_FIELD(iommu_cache_invalidate_info, padding, 6, 2);
ABI_FIELD(iommu_cache_invalidate_info, pasid, 8, 8);
ABI_FIELD(iommu_cache_invalidate_info, addr_info, 8, 40);

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

inline constexpr std::uint32_t kIommuFaultDmaUnrecov = 1;
inline constexpr std::uint32_t kIommuFaultPageReq = 2;
inline constexpr std::uint32_t kIommuFaultReasonUnknown = 0;  ///< all that v7's code ever stores
inline constexpr std::uint32_t kIommuFaultReasonPasidFetch = 1;
inline constexpr std::uint32_t kIommuFaultReasonBadPasidEntry = 2;
inline constexpr std::uint32_t kIommuFaultReasonPasidInvalid = 3;
inline constexpr std::uint32_t kIommuFaultReasonWalkEabt = 4;
inline constexpr std::uint32_t kIommuFaultReasonPteFetch = 5;
inline constexpr std::uint32_t kIommuFaultReasonPermission = 6;
inline constexpr std::uint32_t kIommuFaultReasonAccess = 7;
inline constexpr std::uint32_t kIommuFaultReasonOorAddress = 8;
inline constexpr std::uint32_t kIommuFaultUnrecovPasidValid = 1U << 0U;
inline constexpr std::uint32_t kIommuFaultUnrecovPermValid = 1U << 1U;
inline constexpr std::uint32_t kIommuFaultUnrecovAddrValid = 1U << 2U;
inline constexpr std::uint32_t kIommuFaultUnrecovFetchAddrValid = 1U << 3U;
inline constexpr std::uint32_t kIommuFaultPermWrite = 1U << 0U;
inline constexpr std::uint32_t kIommuFaultPermExec = 1U << 1U;
inline constexpr std::uint32_t kIommuFaultPermPriv = 1U << 2U;
inline constexpr std::uint32_t kIommuFaultPageRequestPasidValid = 1U << 0U;
inline constexpr std::uint32_t kIommuFaultPageRequestLastPage = 1U << 1U;
inline constexpr std::uint32_t kIommuFaultPageRequestPrivData = 1U << 2U;

struct iommu_fault_unrecoverable {
  std::uint32_t reason;
  std::uint32_t flags;
  std::uint32_t pasid;
  std::uint32_t perm;
  std::uint64_t addr;
  std::uint64_t fetch_addr;
};
ABI_STRUCT(iommu_fault_unrecoverable, 32);
ABI_FIELD(iommu_fault_unrecoverable, reason, 0, 4);
ABI_FIELD(iommu_fault_unrecoverable, flags, 4, 4);
ABI_FIELD(iommu_fault_unrecoverable, pasid, 8, 4);
ABI_FIELD(iommu_fault_unrecoverable, perm, 12, 4);
ABI_FIELD(iommu_fault_unrecoverable, addr, 16, 8);
ABI_FIELD(iommu_fault_unrecoverable, fetch_addr, 24, 8);

struct iommu_fault_page_request {
  std::uint32_t flags;
  std::uint32_t pasid;
  std::uint32_t grpid;
  std::uint32_t perm;
  std::uint64_t addr;
  std::uint64_t private_data[2];
};
ABI_STRUCT(iommu_fault_page_request, 40);
ABI_FIELD(iommu_fault_page_request, flags, 0, 4);
ABI_FIELD(iommu_fault_page_request, pasid, 4, 4);
ABI_FIELD(iommu_fault_page_request, grpid, 8, 4);
ABI_FIELD(iommu_fault_page_request, perm, 12, 4);
ABI_FIELD(iommu_fault_page_request, addr, 16, 8);
ABI_FIELD(iommu_fault_page_request, private_data, 24, 16);

struct iommu_fault {
  std::uint32_t type;
  std::uint32_t reserved;
  union {
    iommu_fault_unrecoverable event;
    iommu_fault_page_request prm;
  };
};
ABI_STRUCT(iommu_fault, 48);
ABI_FIELD(iommu_fault, type, 0, 4);
ABI_FIELD(iommu_fault, reserved, 4, 4);
ABI_FIELD(iommu_fault, event, 8, 32);
ABI_FIELD(iommu_fault, prm, 8, 40);

}  // namespace faultline::uapi
