// SPDX-License-Identifier: BSD-3-Clause
// Mainline's iommufd, second part: what is shared with a guest. vIOMMUs, invalidation, event and
// fault queues. Source: include/uapi/linux/iommufd.h up to Linux 7.2.
#pragma once

#include <cstdint>

#include "kernel/uapi/abi.h"
#include "kernel/uapi/iommufd.h"

namespace faultline::uapi {

// ---- the guest's IOMMU and its devices
// -----------------------------------------------------------

inline constexpr std::uint32_t kIommuViommuTypeDefault = 0;
inline constexpr std::uint32_t kIommuViommuTypeArmSmmuv3 = 1;
inline constexpr std::uint32_t kIommuViommuTypeTegra241Cmdqv = 2;

struct iommu_viommu_alloc {
  std::uint32_t size;
  std::uint32_t flags;
  std::uint32_t type;
  std::uint32_t dev_id;   ///< any device behind the IOMMU
  std::uint32_t hwpt_id;  ///< the nest parent
  std::uint32_t out_viommu_id;
  std::uint32_t data_len;
  std::uint32_t reserved;
  std::uint64_t data_uptr;
};
ABI_STRUCT(iommu_viommu_alloc, 40);
ABI_FIELD(iommu_viommu_alloc, size, 0, 4);
ABI_FIELD(iommu_viommu_alloc, flags, 4, 4);
ABI_FIELD(iommu_viommu_alloc, type, 8, 4);
ABI_FIELD(iommu_viommu_alloc, dev_id, 12, 4);
ABI_FIELD(iommu_viommu_alloc, hwpt_id, 16, 4);
ABI_FIELD(iommu_viommu_alloc, out_viommu_id, 20, 4);
ABI_FIELD(iommu_viommu_alloc, data_len, 24, 4);
ABI_FIELD(iommu_viommu_alloc, reserved, 28, 4);
ABI_FIELD(iommu_viommu_alloc, data_uptr, 32, 8);

struct iommu_vdevice_alloc {
  std::uint32_t size;
  std::uint32_t viommu_id;
  std::uint32_t dev_id;
  std::uint32_t out_vdevice_id;
  std::uint64_t virt_id;  ///< SMMUv3: the guest's StreamID
};
ABI_STRUCT(iommu_vdevice_alloc, 24);
ABI_FIELD(iommu_vdevice_alloc, size, 0, 4);
ABI_FIELD(iommu_vdevice_alloc, viommu_id, 4, 4);
ABI_FIELD(iommu_vdevice_alloc, dev_id, 8, 4);
ABI_FIELD(iommu_vdevice_alloc, out_vdevice_id, 12, 4);
ABI_FIELD(iommu_vdevice_alloc, virt_id, 16, 8);

// ---- invalidation
// -----------------------------------------------------------------------------------

inline constexpr std::uint32_t kIommuHwptInvalidateDataVtdS1 = 0;
inline constexpr std::uint32_t kIommuViommuInvalidateDataArmSmmuv3 = 1;

/// entry_num is written back in every case. On an error of the SMMUv3 driver it counts commands
/// that were never issued: it must not be used to go on from.
struct iommu_hwpt_invalidate {
  std::uint32_t size;
  std::uint32_t hwpt_id;  ///< a nested HWPT (VT-d) or a vIOMMU (SMMUv3)
  std::uint64_t data_uptr;
  std::uint32_t data_type;
  std::uint32_t entry_len;
  std::uint32_t entry_num;
  std::uint32_t reserved;
};
ABI_STRUCT(iommu_hwpt_invalidate, 32);
ABI_FIELD(iommu_hwpt_invalidate, size, 0, 4);
ABI_FIELD(iommu_hwpt_invalidate, hwpt_id, 4, 4);
ABI_FIELD(iommu_hwpt_invalidate, data_uptr, 8, 8);
ABI_FIELD(iommu_hwpt_invalidate, data_type, 16, 4);
ABI_FIELD(iommu_hwpt_invalidate, entry_len, 20, 4);
ABI_FIELD(iommu_hwpt_invalidate, entry_num, 24, 4);
ABI_FIELD(iommu_hwpt_invalidate, reserved, 28, 4);

/// One command as the guest writes them; the kernel replaces VMID and SID.
struct iommu_viommu_arm_smmuv3_invalidate {
  std::uint64_t cmd[2];
};
ABI_STRUCT(iommu_viommu_arm_smmuv3_invalidate, 16);
ABI_FIELD(iommu_viommu_arm_smmuv3_invalidate, cmd, 0, 16);

inline constexpr std::uint32_t kIommuVtdInvFlagsLeaf = 1U << 0U;

/// addr 0 with npages ~0: the whole page table.
struct iommu_hwpt_vtd_s1_invalidate {
  std::uint64_t addr;
  std::uint64_t npages;
  std::uint32_t flags;
  std::uint32_t reserved;
};
ABI_STRUCT(iommu_hwpt_vtd_s1_invalidate, 24);
ABI_FIELD(iommu_hwpt_vtd_s1_invalidate, addr, 0, 8);
ABI_FIELD(iommu_hwpt_vtd_s1_invalidate, npages, 8, 8);
ABI_FIELD(iommu_hwpt_vtd_s1_invalidate, flags, 16, 4);
ABI_FIELD(iommu_hwpt_vtd_s1_invalidate, reserved, 20, 4);

// ---- recoverable faults
// -----------------------------------------------------------------------------

struct iommu_fault_alloc {
  std::uint32_t size;
  std::uint32_t flags;
  std::uint32_t out_fault_id;
  std::uint32_t out_fault_fd;
};
ABI_STRUCT(iommu_fault_alloc, 16);
ABI_FIELD(iommu_fault_alloc, size, 0, 4);
ABI_FIELD(iommu_fault_alloc, flags, 4, 4);
ABI_FIELD(iommu_fault_alloc, out_fault_id, 8, 4);
ABI_FIELD(iommu_fault_alloc, out_fault_fd, 12, 4);

inline constexpr std::uint32_t kIommuPgfaultFlagsPasidValid = 1U << 0U;
inline constexpr std::uint32_t kIommuPgfaultFlagsLastPage = 1U << 1U;
inline constexpr std::uint32_t kIommuPgfaultPermRead = 1U << 0U;
inline constexpr std::uint32_t kIommuPgfaultPermWrite = 1U << 1U;
inline constexpr std::uint32_t kIommuPgfaultPermExec = 1U << 2U;
inline constexpr std::uint32_t kIommuPgfaultPermPriv = 1U << 3U;

/// What a read of the fault queue's file yields: whole groups of them.
struct iommu_hwpt_pgfault {
  std::uint32_t flags;
  std::uint32_t dev_id;
  std::uint32_t pasid;
  std::uint32_t grpid;
  std::uint32_t perm;
  std::uint32_t reserved;
  std::uint64_t addr;
  std::uint32_t length;
  std::uint32_t cookie;
};
ABI_STRUCT(iommu_hwpt_pgfault, 40);
ABI_FIELD(iommu_hwpt_pgfault, flags, 0, 4);
ABI_FIELD(iommu_hwpt_pgfault, dev_id, 4, 4);
ABI_FIELD(iommu_hwpt_pgfault, pasid, 8, 4);
ABI_FIELD(iommu_hwpt_pgfault, grpid, 12, 4);
ABI_FIELD(iommu_hwpt_pgfault, perm, 16, 4);
ABI_FIELD(iommu_hwpt_pgfault, reserved, 20, 4);
ABI_FIELD(iommu_hwpt_pgfault, addr, 24, 8);
ABI_FIELD(iommu_hwpt_pgfault, length, 32, 4);
ABI_FIELD(iommu_hwpt_pgfault, cookie, 36, 4);

inline constexpr std::uint32_t kIommufdPageRespSuccess = 0;
inline constexpr std::uint32_t kIommufdPageRespInvalid = 1;

/// What a write to it takes: an array of them, ended by the first bad one.
struct iommu_hwpt_page_response {
  std::uint32_t cookie;
  std::uint32_t code;
};
ABI_STRUCT(iommu_hwpt_page_response, 8);
ABI_FIELD(iommu_hwpt_page_response, cookie, 0, 4);
ABI_FIELD(iommu_hwpt_page_response, code, 4, 4);

// ---- events
// -----------------------------------------------------------------------------------------

inline constexpr std::uint32_t kIommuVeventqTypeDefault = 0;
inline constexpr std::uint32_t kIommuVeventqTypeArmSmmuv3 = 1;
inline constexpr std::uint32_t kIommuVeventqTypeTegra241Cmdqv = 2;
/// Deepest queue that every kernel takes.
inline constexpr std::uint32_t kIommuVeventqMostDepth = 1U << 19U;

struct iommu_veventq_alloc {
  std::uint32_t size;
  std::uint32_t flags;
  std::uint32_t viommu_id;
  std::uint32_t type;
  std::uint32_t veventq_depth;
  std::uint32_t out_veventq_id;
  std::uint32_t out_veventq_fd;
  std::uint32_t reserved;
};
ABI_STRUCT(iommu_veventq_alloc, 32);
ABI_FIELD(iommu_veventq_alloc, size, 0, 4);
ABI_FIELD(iommu_veventq_alloc, flags, 4, 4);
ABI_FIELD(iommu_veventq_alloc, viommu_id, 8, 4);
ABI_FIELD(iommu_veventq_alloc, type, 12, 4);
ABI_FIELD(iommu_veventq_alloc, veventq_depth, 16, 4);
ABI_FIELD(iommu_veventq_alloc, out_veventq_id, 20, 4);
ABI_FIELD(iommu_veventq_alloc, out_veventq_fd, 24, 4);
ABI_FIELD(iommu_veventq_alloc, reserved, 28, 4);

inline constexpr std::uint32_t kIommuVeventqFlagLostEvents = 1U << 0U;
/// Sequence numbers go from 0 to this and start again.
inline constexpr std::uint32_t kIommuVeventqLastSequence = 0x7fffffffU;

/// In front of every record; alone when events were lost at the tail.
struct iommufd_vevent_header {
  std::uint32_t flags;
  std::uint32_t sequence;
};
ABI_STRUCT(iommufd_vevent_header, 8);
ABI_FIELD(iommufd_vevent_header, flags, 0, 4);
ABI_FIELD(iommufd_vevent_header, sequence, 4, 4);

/// The SMMU's event; its StreamID is the guest's.
struct iommu_vevent_arm_smmuv3 {
  std::uint64_t evt[4];
};
ABI_STRUCT(iommu_vevent_arm_smmuv3, 32);
ABI_FIELD(iommu_vevent_arm_smmuv3, evt, 0, 32);

}  // namespace faultline::uapi
