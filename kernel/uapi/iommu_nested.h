// SPDX-License-Identifier: BSD-3-Clause
// What the seed's calls carry of the IOMMU itself, as v7 has it: stage-1 configuration,
// invalidations, fault records (the series' own part of <linux/iommu.h>).
#pragma once

#include <cstdint>

#include "kernel/uapi/abi.h"

namespace faultline::uapi {

// ---- stage 1: PASID table ----------------------------------------------------------------------

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

// ---- invalidation ------------------------------------------------------------------------------

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

// ---- fault records, version 1 -------------------------------------------------------------------

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
