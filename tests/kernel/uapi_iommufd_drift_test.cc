// SPDX-License-Identifier: BSD-3-Clause
// iommufd as mirrored against the system's header. Which parts that header has depends on its age:
// enumerators cannot be asked for by the preprocessor, so each part is guarded by the ioctl macro
// that came with it.
#include <gtest/gtest.h>
#include <linux/iommufd.h>
#include <linux/vfio.h>

#include "kernel/uapi/iommufd_nested.h"
#include "kernel/uapi/vfio_cdev.h"

namespace {

namespace ours = faultline::uapi;

#define SAME_FIELD(type, field)                                                             \
  EXPECT_EQ(offsetof(ours::type, field), offsetof(struct type, field)) << #type "." #field; \
  EXPECT_EQ(sizeof(ours::type::field), sizeof(type::field)) << #type "." #field
#define SAME_VALUE(ours_name, name) \
  EXPECT_EQ(std::uint64_t{ours::ours_name}, static_cast<std::uint64_t>(name)) << #name

TEST(UapiIommufdDrift, ObjectsAndAddressSpaces) {
  SAME_VALUE(kIommuDestroy, IOMMU_DESTROY);
  SAME_VALUE(kIommuIoasAlloc, IOMMU_IOAS_ALLOC);
  SAME_VALUE(kIommuIoasIovaRanges, IOMMU_IOAS_IOVA_RANGES);
  SAME_VALUE(kIommuIoasMap, IOMMU_IOAS_MAP);
  SAME_VALUE(kIommuIoasUnmap, IOMMU_IOAS_UNMAP);
  SAME_VALUE(kIommuOption, IOMMU_OPTION);
  SAME_VALUE(kIommuIoasMapFixedIova, IOMMU_IOAS_MAP_FIXED_IOVA);
  SAME_VALUE(kIommuIoasMapWriteable, IOMMU_IOAS_MAP_WRITEABLE);
  SAME_VALUE(kIommuIoasMapReadable, IOMMU_IOAS_MAP_READABLE);
  SAME_VALUE(kIommuOptionRlimitMode, IOMMU_OPTION_RLIMIT_MODE);
  SAME_VALUE(kIommuOptionHugePages, IOMMU_OPTION_HUGE_PAGES);
  EXPECT_EQ(sizeof(ours::iommu_destroy), sizeof(struct iommu_destroy));
  SAME_FIELD(iommu_destroy, id);
  EXPECT_EQ(sizeof(ours::iommu_ioas_alloc), sizeof(struct iommu_ioas_alloc));
  SAME_FIELD(iommu_ioas_alloc, out_ioas_id);
  EXPECT_EQ(sizeof(ours::iommu_ioas_iova_ranges), sizeof(struct iommu_ioas_iova_ranges));
  SAME_FIELD(iommu_ioas_iova_ranges, num_iovas);
  SAME_FIELD(iommu_ioas_iova_ranges, allowed_iovas);
  SAME_FIELD(iommu_ioas_iova_ranges, out_iova_alignment);
  SAME_FIELD(iommu_iova_range, start);
  SAME_FIELD(iommu_iova_range, last);
  EXPECT_EQ(sizeof(ours::iommu_ioas_map), sizeof(struct iommu_ioas_map));
  SAME_FIELD(iommu_ioas_map, flags);
  SAME_FIELD(iommu_ioas_map, ioas_id);
  SAME_FIELD(iommu_ioas_map, user_va);
  SAME_FIELD(iommu_ioas_map, length);
  SAME_FIELD(iommu_ioas_map, iova);
  EXPECT_EQ(sizeof(ours::iommu_ioas_unmap), sizeof(struct iommu_ioas_unmap));
  SAME_FIELD(iommu_ioas_unmap, ioas_id);
  SAME_FIELD(iommu_ioas_unmap, iova);
  SAME_FIELD(iommu_ioas_unmap, length);
  EXPECT_EQ(sizeof(ours::iommu_option), sizeof(struct iommu_option));
  SAME_FIELD(iommu_option, option_id);
  SAME_FIELD(iommu_option, op);
  SAME_FIELD(iommu_option, object_id);
  SAME_FIELD(iommu_option, val64);
}

#ifdef IOMMU_IOAS_MAP_FILE
TEST(UapiIommufdDrift, MapFile) {
  SAME_VALUE(kIommuIoasMapFile, IOMMU_IOAS_MAP_FILE);
  EXPECT_EQ(sizeof(ours::iommu_ioas_map_file), sizeof(struct iommu_ioas_map_file));
  SAME_FIELD(iommu_ioas_map_file, flags);
  SAME_FIELD(iommu_ioas_map_file, ioas_id);
  SAME_FIELD(iommu_ioas_map_file, fd);
  SAME_FIELD(iommu_ioas_map_file, start);
  SAME_FIELD(iommu_ioas_map_file, length);
  SAME_FIELD(iommu_ioas_map_file, iova);
}
#endif

#ifdef IOMMU_FAULT_QUEUE_ALLOC
TEST(UapiIommufdDrift, PageTablesAndFaultQueue) {
  SAME_VALUE(kIommuHwptAlloc, IOMMU_HWPT_ALLOC);
  SAME_VALUE(kIommuGetHwInfo, IOMMU_GET_HW_INFO);
  SAME_VALUE(kIommuHwptInvalidate, IOMMU_HWPT_INVALIDATE);
  SAME_VALUE(kIommuFaultQueueAlloc, IOMMU_FAULT_QUEUE_ALLOC);
  SAME_VALUE(kIommuHwptAllocNestParent, IOMMU_HWPT_ALLOC_NEST_PARENT);
  SAME_VALUE(kIommuHwptFaultIdValid, IOMMU_HWPT_FAULT_ID_VALID);
  SAME_VALUE(kIommuHwptDataVtdS1, IOMMU_HWPT_DATA_VTD_S1);
  SAME_VALUE(kIommuHwInfoTypeIntelVtd, IOMMU_HW_INFO_TYPE_INTEL_VTD);
  SAME_VALUE(kIommuHwCapDirtyTracking, IOMMU_HW_CAP_DIRTY_TRACKING);
  SAME_VALUE(kIommuHwptInvalidateDataVtdS1, IOMMU_HWPT_INVALIDATE_DATA_VTD_S1);
  SAME_VALUE(kIommuVtdInvFlagsLeaf, IOMMU_VTD_INV_FLAGS_LEAF);
  SAME_VALUE(kIommuPgfaultFlagsPasidValid, IOMMU_PGFAULT_FLAGS_PASID_VALID);
  SAME_VALUE(kIommuPgfaultFlagsLastPage, IOMMU_PGFAULT_FLAGS_LAST_PAGE);
  SAME_VALUE(kIommuPgfaultPermRead, IOMMU_PGFAULT_PERM_READ);
  SAME_VALUE(kIommuPgfaultPermWrite, IOMMU_PGFAULT_PERM_WRITE);
  SAME_VALUE(kIommuPgfaultPermExec, IOMMU_PGFAULT_PERM_EXEC);
  SAME_VALUE(kIommuPgfaultPermPriv, IOMMU_PGFAULT_PERM_PRIV);
  SAME_VALUE(kIommufdPageRespSuccess, IOMMUFD_PAGE_RESP_SUCCESS);
  SAME_VALUE(kIommufdPageRespInvalid, IOMMUFD_PAGE_RESP_INVALID);
  EXPECT_EQ(sizeof(ours::iommu_hwpt_alloc), sizeof(struct iommu_hwpt_alloc));
  SAME_FIELD(iommu_hwpt_alloc, dev_id);
  SAME_FIELD(iommu_hwpt_alloc, pt_id);
  SAME_FIELD(iommu_hwpt_alloc, out_hwpt_id);
  SAME_FIELD(iommu_hwpt_alloc, data_type);
  SAME_FIELD(iommu_hwpt_alloc, data_len);
  SAME_FIELD(iommu_hwpt_alloc, data_uptr);
  SAME_FIELD(iommu_hwpt_alloc, fault_id);
  EXPECT_EQ(sizeof(ours::iommu_hwpt_vtd_s1), sizeof(struct iommu_hwpt_vtd_s1));
  SAME_FIELD(iommu_hwpt_vtd_s1, flags);
  SAME_FIELD(iommu_hwpt_vtd_s1, pgtbl_addr);
  SAME_FIELD(iommu_hwpt_vtd_s1, addr_width);
  EXPECT_EQ(sizeof(ours::iommu_hw_info), sizeof(struct iommu_hw_info));
  SAME_FIELD(iommu_hw_info, dev_id);
  SAME_FIELD(iommu_hw_info, data_len);
  SAME_FIELD(iommu_hw_info, data_uptr);
  SAME_FIELD(iommu_hw_info, out_data_type);
  SAME_FIELD(iommu_hw_info, out_capabilities);
  EXPECT_EQ(sizeof(ours::iommu_hw_info_vtd), sizeof(struct iommu_hw_info_vtd));
  SAME_FIELD(iommu_hw_info_vtd, cap_reg);
  SAME_FIELD(iommu_hw_info_vtd, ecap_reg);
  EXPECT_EQ(sizeof(ours::iommu_hwpt_invalidate), sizeof(struct iommu_hwpt_invalidate));
  SAME_FIELD(iommu_hwpt_invalidate, hwpt_id);
  SAME_FIELD(iommu_hwpt_invalidate, data_uptr);
  SAME_FIELD(iommu_hwpt_invalidate, data_type);
  SAME_FIELD(iommu_hwpt_invalidate, entry_len);
  SAME_FIELD(iommu_hwpt_invalidate, entry_num);
  SAME_FIELD(iommu_hwpt_vtd_s1_invalidate, addr);
  SAME_FIELD(iommu_hwpt_vtd_s1_invalidate, npages);
  SAME_FIELD(iommu_hwpt_vtd_s1_invalidate, flags);
  EXPECT_EQ(sizeof(ours::iommu_fault_alloc), sizeof(struct iommu_fault_alloc));
  SAME_FIELD(iommu_fault_alloc, out_fault_id);
  SAME_FIELD(iommu_fault_alloc, out_fault_fd);
  EXPECT_EQ(sizeof(ours::iommu_hwpt_pgfault), sizeof(struct iommu_hwpt_pgfault));
  SAME_FIELD(iommu_hwpt_pgfault, dev_id);
  SAME_FIELD(iommu_hwpt_pgfault, pasid);
  SAME_FIELD(iommu_hwpt_pgfault, grpid);
  SAME_FIELD(iommu_hwpt_pgfault, perm);
  SAME_FIELD(iommu_hwpt_pgfault, addr);
  SAME_FIELD(iommu_hwpt_pgfault, length);
  SAME_FIELD(iommu_hwpt_pgfault, cookie);
  SAME_FIELD(iommu_hwpt_page_response, cookie);
  SAME_FIELD(iommu_hwpt_page_response, code);
}
#endif

#ifdef IOMMU_VEVENTQ_ALLOC
TEST(UapiIommufdDrift, VirtualIommuAndEvents) {
  SAME_VALUE(kIommuViommuAlloc, IOMMU_VIOMMU_ALLOC);
  SAME_VALUE(kIommuVdeviceAlloc, IOMMU_VDEVICE_ALLOC);
  SAME_VALUE(kIommuVeventqAlloc, IOMMU_VEVENTQ_ALLOC);
  SAME_VALUE(kIommuHwptDataArmSmmuv3, IOMMU_HWPT_DATA_ARM_SMMUV3);
  SAME_VALUE(kIommuHwInfoTypeArmSmmuv3, IOMMU_HW_INFO_TYPE_ARM_SMMUV3);
  SAME_VALUE(kIommuViommuTypeArmSmmuv3, IOMMU_VIOMMU_TYPE_ARM_SMMUV3);
  SAME_VALUE(kIommuViommuInvalidateDataArmSmmuv3, IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3);
  SAME_VALUE(kIommuVeventqTypeArmSmmuv3, IOMMU_VEVENTQ_TYPE_ARM_SMMUV3);
  SAME_VALUE(kIommuVeventqFlagLostEvents, IOMMU_VEVENTQ_FLAG_LOST_EVENTS);
  EXPECT_EQ(sizeof(ours::iommu_hw_info_arm_smmuv3), sizeof(struct iommu_hw_info_arm_smmuv3));
  SAME_FIELD(iommu_hw_info_arm_smmuv3, idr);
  SAME_FIELD(iommu_hw_info_arm_smmuv3, iidr);
  SAME_FIELD(iommu_hw_info_arm_smmuv3, aidr);
  SAME_FIELD(iommu_hwpt_arm_smmuv3, ste);
  EXPECT_EQ(sizeof(ours::iommu_viommu_alloc), sizeof(struct iommu_viommu_alloc));
  SAME_FIELD(iommu_viommu_alloc, type);
  SAME_FIELD(iommu_viommu_alloc, dev_id);
  SAME_FIELD(iommu_viommu_alloc, hwpt_id);
  SAME_FIELD(iommu_viommu_alloc, out_viommu_id);
  EXPECT_EQ(sizeof(ours::iommu_vdevice_alloc), sizeof(struct iommu_vdevice_alloc));
  SAME_FIELD(iommu_vdevice_alloc, viommu_id);
  SAME_FIELD(iommu_vdevice_alloc, dev_id);
  SAME_FIELD(iommu_vdevice_alloc, out_vdevice_id);
  SAME_FIELD(iommu_vdevice_alloc, virt_id);
  SAME_FIELD(iommu_viommu_arm_smmuv3_invalidate, cmd);
  EXPECT_EQ(sizeof(ours::iommu_veventq_alloc), sizeof(struct iommu_veventq_alloc));
  SAME_FIELD(iommu_veventq_alloc, viommu_id);
  SAME_FIELD(iommu_veventq_alloc, type);
  SAME_FIELD(iommu_veventq_alloc, veventq_depth);
  SAME_FIELD(iommu_veventq_alloc, out_veventq_id);
  SAME_FIELD(iommu_veventq_alloc, out_veventq_fd);
  EXPECT_EQ(sizeof(ours::iommufd_vevent_header), sizeof(struct iommufd_vevent_header));
  SAME_FIELD(iommufd_vevent_header, flags);
  SAME_FIELD(iommufd_vevent_header, sequence);
  SAME_FIELD(iommu_vevent_arm_smmuv3, evt);
}
#endif

#ifdef VFIO_DEVICE_BIND_IOMMUFD
TEST(UapiIommufdDrift, DeviceFiles) {
  SAME_VALUE(kVfioDeviceBindIommufd, VFIO_DEVICE_BIND_IOMMUFD);
  SAME_VALUE(kVfioDeviceAttachIommufdPt, VFIO_DEVICE_ATTACH_IOMMUFD_PT);
  SAME_VALUE(kVfioDeviceDetachIommufdPt, VFIO_DEVICE_DETACH_IOMMUFD_PT);
  SAME_VALUE(kVfioPciConfigRegionIndex, VFIO_PCI_CONFIG_REGION_INDEX);
  SAME_FIELD(vfio_device_bind_iommufd, iommufd);
  SAME_FIELD(vfio_device_bind_iommufd, out_devid);
  SAME_FIELD(vfio_device_attach_iommufd_pt, pt_id);
  SAME_FIELD(vfio_device_detach_iommufd_pt, flags);
}
#endif

}  // namespace
