// SPDX-License-Identifier: BSD-3-Clause
// Mainline's iommufd, first part: ioctl numbers, address spaces, what the hardware is, page tables.
// Mirrored structs keep the kernel's names, its macros become constants. The first u32 of every
// argument is its size; a kernel that knows a larger one reads the rest as zero.
// Source: include/uapi/linux/iommufd.h up to Linux 7.2.
#pragma once

#include <cstdint>

#include "kernel/uapi/abi.h"

namespace faultline::uapi {

// ---- ioctl numbers: _IO(';', 0x80 + n)
// -----------------------------------------------------------

constexpr unsigned long iommufd_io(unsigned n) {
  return (0x3bUL << 8U) | (0x80U + n);
}

inline constexpr unsigned long kIommuDestroy = iommufd_io(0x00);
inline constexpr unsigned long kIommuIoasAlloc = iommufd_io(0x01);
inline constexpr unsigned long kIommuIoasAllowIovas = iommufd_io(0x02);
inline constexpr unsigned long kIommuIoasCopy = iommufd_io(0x03);
inline constexpr unsigned long kIommuIoasIovaRanges = iommufd_io(0x04);
inline constexpr unsigned long kIommuIoasMap = iommufd_io(0x05);
inline constexpr unsigned long kIommuIoasUnmap = iommufd_io(0x06);
inline constexpr unsigned long kIommuOption = iommufd_io(0x07);
inline constexpr unsigned long kIommuVfioIoas = iommufd_io(0x08);
inline constexpr unsigned long kIommuHwptAlloc = iommufd_io(0x09);
inline constexpr unsigned long kIommuGetHwInfo = iommufd_io(0x0a);
inline constexpr unsigned long kIommuHwptSetDirtyTracking = iommufd_io(0x0b);
inline constexpr unsigned long kIommuHwptGetDirtyBitmap = iommufd_io(0x0c);
inline constexpr unsigned long kIommuHwptInvalidate = iommufd_io(0x0d);   ///< 6.8; vIOMMU 6.13
inline constexpr unsigned long kIommuFaultQueueAlloc = iommufd_io(0x0e);  ///< 6.11
inline constexpr unsigned long kIommuIoasMapFile = iommufd_io(0x0f);      ///< 6.13
inline constexpr unsigned long kIommuViommuAlloc = iommufd_io(0x10);      ///< 6.13
inline constexpr unsigned long kIommuVdeviceAlloc = iommufd_io(0x11);     ///< 6.13
inline constexpr unsigned long kIommuIoasChangeProcess = iommufd_io(0x12);
inline constexpr unsigned long kIommuVeventqAlloc = iommufd_io(0x13);  ///< 6.15
inline constexpr unsigned long kIommuHwQueueAlloc = iommufd_io(0x14);

// ---- objects and address spaces
// -------------------------------------------------------------------

struct iommu_destroy {
  std::uint32_t size;
  std::uint32_t id;
};
ABI_STRUCT(iommu_destroy, 8);
ABI_FIELD(iommu_destroy, size, 0, 4);
ABI_FIELD(iommu_destroy, id, 4, 4);

struct iommu_ioas_alloc {
  std::uint32_t size;
  std::uint32_t flags;
  std::uint32_t out_ioas_id;
};
ABI_STRUCT(iommu_ioas_alloc, 12);
ABI_FIELD(iommu_ioas_alloc, size, 0, 4);
ABI_FIELD(iommu_ioas_alloc, flags, 4, 4);
ABI_FIELD(iommu_ioas_alloc, out_ioas_id, 8, 4);

struct iommu_iova_range {
  std::uint64_t start;
  std::uint64_t last;  ///< inclusive
};
ABI_STRUCT(iommu_iova_range, 16);
ABI_FIELD(iommu_iova_range, start, 0, 8);
ABI_FIELD(iommu_iova_range, last, 8, 8);

/// EMSGSIZE and the number wanted in num_iovas when the array is too short.
struct iommu_ioas_iova_ranges {
  std::uint32_t size;
  std::uint32_t ioas_id;
  std::uint32_t num_iovas;
  std::uint32_t reserved;
  std::uint64_t allowed_iovas;
  std::uint64_t out_iova_alignment;
};
ABI_STRUCT(iommu_ioas_iova_ranges, 32);
ABI_FIELD(iommu_ioas_iova_ranges, size, 0, 4);
ABI_FIELD(iommu_ioas_iova_ranges, ioas_id, 4, 4);
ABI_FIELD(iommu_ioas_iova_ranges, num_iovas, 8, 4);
ABI_FIELD(iommu_ioas_iova_ranges, reserved, 12, 4);
ABI_FIELD(iommu_ioas_iova_ranges, allowed_iovas, 16, 8);
ABI_FIELD(iommu_ioas_iova_ranges, out_iova_alignment, 24, 8);

inline constexpr std::uint32_t kIommuIoasMapFixedIova = 1U << 0U;
inline constexpr std::uint32_t kIommuIoasMapWriteable = 1U << 1U;
inline constexpr std::uint32_t kIommuIoasMapReadable = 1U << 2U;

struct iommu_ioas_map {
  std::uint32_t size;
  std::uint32_t flags;
  std::uint32_t ioas_id;
  std::uint32_t reserved;
  std::uint64_t user_va;
  std::uint64_t length;
  std::uint64_t iova;  ///< under nesting: a GPA
};
ABI_STRUCT(iommu_ioas_map, 40);
ABI_FIELD(iommu_ioas_map, size, 0, 4);
ABI_FIELD(iommu_ioas_map, flags, 4, 4);
ABI_FIELD(iommu_ioas_map, ioas_id, 8, 4);
ABI_FIELD(iommu_ioas_map, reserved, 12, 4);
ABI_FIELD(iommu_ioas_map, user_va, 16, 8);
ABI_FIELD(iommu_ioas_map, length, 24, 8);
ABI_FIELD(iommu_ioas_map, iova, 32, 8);

struct iommu_ioas_map_file {
  std::uint32_t size;
  std::uint32_t flags;
  std::uint32_t ioas_id;
  std::int32_t fd;
  std::uint64_t start;  ///< offset in the file
  std::uint64_t length;
  std::uint64_t iova;
};
ABI_STRUCT(iommu_ioas_map_file, 40);
ABI_FIELD(iommu_ioas_map_file, size, 0, 4);
ABI_FIELD(iommu_ioas_map_file, flags, 4, 4);
ABI_FIELD(iommu_ioas_map_file, ioas_id, 8, 4);
ABI_FIELD(iommu_ioas_map_file, fd, 12, 4);
ABI_FIELD(iommu_ioas_map_file, start, 16, 8);
ABI_FIELD(iommu_ioas_map_file, length, 24, 8);
ABI_FIELD(iommu_ioas_map_file, iova, 32, 8);

struct iommu_ioas_unmap {
  std::uint32_t size;
  std::uint32_t ioas_id;
  std::uint64_t iova;
  std::uint64_t length;  ///< out: bytes unmapped
};
ABI_STRUCT(iommu_ioas_unmap, 24);
ABI_FIELD(iommu_ioas_unmap, size, 0, 4);
ABI_FIELD(iommu_ioas_unmap, ioas_id, 4, 4);
ABI_FIELD(iommu_ioas_unmap, iova, 8, 8);
ABI_FIELD(iommu_ioas_unmap, length, 16, 8);

inline constexpr std::uint32_t kIommuOptionRlimitMode = 0;  ///< object 0; needs CAP_SYS_RESOURCE
inline constexpr std::uint32_t kIommuOptionHugePages = 1;   ///< object: the IOAS
inline constexpr std::uint16_t kIommuOptionOpSet = 0;
inline constexpr std::uint16_t kIommuOptionOpGet = 1;

struct iommu_option {
  std::uint32_t size;
  std::uint32_t option_id;
  std::uint16_t op;
  std::uint16_t reserved;
  std::uint32_t object_id;
  std::uint64_t val64;
};
ABI_STRUCT(iommu_option, 24);
ABI_FIELD(iommu_option, size, 0, 4);
ABI_FIELD(iommu_option, option_id, 4, 4);
ABI_FIELD(iommu_option, op, 8, 2);
ABI_FIELD(iommu_option, reserved, 10, 2);
ABI_FIELD(iommu_option, object_id, 12, 4);
ABI_FIELD(iommu_option, val64, 16, 8);

// ---- what the hardware is
// --------------------------------------------------------------------------

inline constexpr std::uint32_t kIommuHwInfoTypeNone = 0;
inline constexpr std::uint32_t kIommuHwInfoTypeIntelVtd = 1;
inline constexpr std::uint32_t kIommuHwInfoTypeArmSmmuv3 = 2;
inline constexpr std::uint32_t kIommuHwInfoTypeTegra241Cmdqv = 3;
inline constexpr std::uint32_t kIommuHwInfoTypeAmd = 4;

inline constexpr std::uint64_t kIommuHwCapDirtyTracking = 1U << 0U;
inline constexpr std::uint64_t kIommuHwCapPciPasidExec = 1U << 1U;
inline constexpr std::uint64_t kIommuHwCapPciPasidPriv = 1U << 2U;
inline constexpr std::uint64_t kIommuHwCapPciAtsNotSupported = 1U << 3U;

struct iommu_hw_info {
  std::uint32_t size;
  std::uint32_t flags;
  std::uint32_t dev_id;
  std::uint32_t data_len;  ///< in: of our buffer; out: of what the kernel has
  std::uint64_t data_uptr;
  std::uint32_t out_data_type;
  std::uint8_t out_max_pasid_log2;
  std::uint8_t reserved[3];
  std::uint64_t out_capabilities;
};
ABI_STRUCT(iommu_hw_info, 40);
ABI_FIELD(iommu_hw_info, size, 0, 4);
ABI_FIELD(iommu_hw_info, flags, 4, 4);
ABI_FIELD(iommu_hw_info, dev_id, 8, 4);
ABI_FIELD(iommu_hw_info, data_len, 12, 4);
ABI_FIELD(iommu_hw_info, data_uptr, 16, 8);
ABI_FIELD(iommu_hw_info, out_data_type, 24, 4);
ABI_FIELD(iommu_hw_info, out_max_pasid_log2, 28, 1);
ABI_FIELD(iommu_hw_info, reserved, 29, 3);
ABI_FIELD(iommu_hw_info, out_capabilities, 32, 8);

struct iommu_hw_info_arm_smmuv3 {
  std::uint32_t flags;
  std::uint32_t reserved;
  std::uint32_t idr[6];
  std::uint32_t iidr;
  std::uint32_t aidr;
};
ABI_STRUCT(iommu_hw_info_arm_smmuv3, 40);
ABI_FIELD(iommu_hw_info_arm_smmuv3, flags, 0, 4);
ABI_FIELD(iommu_hw_info_arm_smmuv3, reserved, 4, 4);
ABI_FIELD(iommu_hw_info_arm_smmuv3, idr, 8, 24);
ABI_FIELD(iommu_hw_info_arm_smmuv3, iidr, 32, 4);
ABI_FIELD(iommu_hw_info_arm_smmuv3, aidr, 36, 4);

struct iommu_hw_info_vtd {
  std::uint32_t flags;
  std::uint32_t reserved;
  std::uint64_t cap_reg;
  std::uint64_t ecap_reg;
};
ABI_STRUCT(iommu_hw_info_vtd, 24);
ABI_FIELD(iommu_hw_info_vtd, flags, 0, 4);
ABI_FIELD(iommu_hw_info_vtd, reserved, 4, 4);
ABI_FIELD(iommu_hw_info_vtd, cap_reg, 8, 8);
ABI_FIELD(iommu_hw_info_vtd, ecap_reg, 16, 8);

// ---- page tables
// -----------------------------------------------------------------------------------

inline constexpr std::uint32_t kIommuHwptAllocNestParent = 1U << 0U;
inline constexpr std::uint32_t kIommuHwptAllocDirtyTracking = 1U << 1U;
inline constexpr std::uint32_t kIommuHwptFaultIdValid = 1U << 2U;
inline constexpr std::uint32_t kIommuHwptAllocPasid = 1U << 3U;

inline constexpr std::uint32_t kIommuHwptDataNone = 0;
inline constexpr std::uint32_t kIommuHwptDataVtdS1 = 1;
inline constexpr std::uint32_t kIommuHwptDataArmSmmuv3 = 2;

struct iommu_hwpt_alloc {
  std::uint32_t size;
  std::uint32_t flags;
  std::uint32_t dev_id;
  std::uint32_t pt_id;  ///< IOAS, parent HWPT or vIOMMU
  std::uint32_t out_hwpt_id;
  std::uint32_t reserved;
  std::uint32_t data_type;
  std::uint32_t data_len;
  std::uint64_t data_uptr;
  std::uint32_t fault_id;
  std::uint32_t reserved2;
};
ABI_STRUCT(iommu_hwpt_alloc, 48);
ABI_FIELD(iommu_hwpt_alloc, size, 0, 4);
ABI_FIELD(iommu_hwpt_alloc, flags, 4, 4);
ABI_FIELD(iommu_hwpt_alloc, dev_id, 8, 4);
ABI_FIELD(iommu_hwpt_alloc, pt_id, 12, 4);
ABI_FIELD(iommu_hwpt_alloc, out_hwpt_id, 16, 4);
ABI_FIELD(iommu_hwpt_alloc, reserved, 20, 4);
ABI_FIELD(iommu_hwpt_alloc, data_type, 24, 4);
ABI_FIELD(iommu_hwpt_alloc, data_len, 28, 4);
ABI_FIELD(iommu_hwpt_alloc, data_uptr, 32, 8);
ABI_FIELD(iommu_hwpt_alloc, fault_id, 40, 4);
ABI_FIELD(iommu_hwpt_alloc, reserved2, 44, 4);

inline constexpr std::uint64_t kIommuVtdS1Sre = 1U << 0U;
inline constexpr std::uint64_t kIommuVtdS1Eafe = 1U << 1U;
inline constexpr std::uint64_t kIommuVtdS1Wpe = 1U << 2U;

struct iommu_hwpt_vtd_s1 {
  std::uint64_t flags;
  std::uint64_t pgtbl_addr;
  std::uint32_t addr_width;
  std::uint32_t reserved;
};
ABI_STRUCT(iommu_hwpt_vtd_s1, 24);
ABI_FIELD(iommu_hwpt_vtd_s1, flags, 0, 8);
ABI_FIELD(iommu_hwpt_vtd_s1, pgtbl_addr, 8, 8);
ABI_FIELD(iommu_hwpt_vtd_s1, addr_width, 16, 4);
ABI_FIELD(iommu_hwpt_vtd_s1, reserved, 20, 4);

/// The first two words of the guest's stream table entry, little-endian.
struct iommu_hwpt_arm_smmuv3 {
  std::uint64_t ste[2];
};
ABI_STRUCT(iommu_hwpt_arm_smmuv3, 16);
ABI_FIELD(iommu_hwpt_arm_smmuv3, ste, 0, 16);

}  // namespace faultline::uapi
