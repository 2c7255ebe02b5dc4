// SPDX-License-Identifier: BSD-3-Clause
// What mainline still has of the interface, against the system's header: numbers and layouts must
// not have drifted apart. Only what Debian's header defines can be compared; v7's own additions
// never were in mainline.
#include <gtest/gtest.h>
#include <linux/vfio.h>

#include "kernel/uapi/vfio_nested.h"

namespace {

namespace ours = faultline::uapi;

#define SAME_FIELD(type, field)                                                             \
  EXPECT_EQ(offsetof(ours::type, field), offsetof(struct type, field)) << #type "." #field; \
  EXPECT_EQ(sizeof(ours::type::field), sizeof(type::field)) << #type "." #field

TEST(UapiDrift, IoctlsHaveTheSystemsNumbers) {
  EXPECT_EQ(ours::kVfioGetApiVersion, VFIO_GET_API_VERSION);
  EXPECT_EQ(ours::kVfioCheckExtension, VFIO_CHECK_EXTENSION);
  EXPECT_EQ(ours::kVfioSetIommu, VFIO_SET_IOMMU);
  EXPECT_EQ(ours::kVfioGroupGetStatus, VFIO_GROUP_GET_STATUS);
  EXPECT_EQ(ours::kVfioGroupSetContainer, VFIO_GROUP_SET_CONTAINER);
  EXPECT_EQ(ours::kVfioGroupUnsetContainer, VFIO_GROUP_UNSET_CONTAINER);
  EXPECT_EQ(ours::kVfioGroupGetDeviceFd, VFIO_GROUP_GET_DEVICE_FD);
  EXPECT_EQ(ours::kVfioDeviceGetInfo, VFIO_DEVICE_GET_INFO);
  EXPECT_EQ(ours::kVfioDeviceGetRegionInfo, VFIO_DEVICE_GET_REGION_INFO);
  EXPECT_EQ(ours::kVfioDeviceGetIrqInfo, VFIO_DEVICE_GET_IRQ_INFO);
  EXPECT_EQ(ours::kVfioDeviceSetIrqs, VFIO_DEVICE_SET_IRQS);
  EXPECT_EQ(ours::kVfioDeviceReset, VFIO_DEVICE_RESET);
  EXPECT_EQ(ours::kVfioIommuGetInfo, VFIO_IOMMU_GET_INFO);
  EXPECT_EQ(ours::kVfioIommuMapDma, VFIO_IOMMU_MAP_DMA);
  EXPECT_EQ(ours::kVfioIommuUnmapDma, VFIO_IOMMU_UNMAP_DMA);
}

TEST(UapiDrift, ConstantsHaveTheSystemsValues) {
  EXPECT_EQ(ours::kVfioApiVersion, VFIO_API_VERSION);
  EXPECT_EQ(ours::kVfioType1Iommu, static_cast<unsigned>(VFIO_TYPE1_IOMMU));
  EXPECT_EQ(ours::kVfioType1v2Iommu, static_cast<unsigned>(VFIO_TYPE1v2_IOMMU));
#ifdef VFIO_TYPE1_NESTING_IOMMU  // renamed when nesting was removed
  EXPECT_EQ(ours::kVfioType1NestingIommu, static_cast<unsigned>(VFIO_TYPE1_NESTING_IOMMU));
#endif
  EXPECT_EQ(ours::kVfioGroupFlagsViable, static_cast<unsigned>(VFIO_GROUP_FLAGS_VIABLE));
  EXPECT_EQ(ours::kVfioGroupFlagsContainerSet,
            static_cast<unsigned>(VFIO_GROUP_FLAGS_CONTAINER_SET));
  EXPECT_EQ(ours::kVfioRegionInfoFlagRead, static_cast<unsigned>(VFIO_REGION_INFO_FLAG_READ));
  EXPECT_EQ(ours::kVfioRegionInfoFlagWrite, static_cast<unsigned>(VFIO_REGION_INFO_FLAG_WRITE));
  EXPECT_EQ(ours::kVfioRegionInfoFlagMmap, static_cast<unsigned>(VFIO_REGION_INFO_FLAG_MMAP));
  EXPECT_EQ(ours::kVfioRegionInfoFlagCaps, static_cast<unsigned>(VFIO_REGION_INFO_FLAG_CAPS));
  EXPECT_EQ(ours::kVfioRegionInfoCapSparseMmap, VFIO_REGION_INFO_CAP_SPARSE_MMAP);
  EXPECT_EQ(ours::kVfioRegionInfoCapType, VFIO_REGION_INFO_CAP_TYPE);
  EXPECT_EQ(ours::kVfioIrqSetDataEventfd, static_cast<unsigned>(VFIO_IRQ_SET_DATA_EVENTFD));
  EXPECT_EQ(ours::kVfioIrqSetActionTrigger, static_cast<unsigned>(VFIO_IRQ_SET_ACTION_TRIGGER));
  EXPECT_EQ(ours::kVfioIrqInfoEventfd, static_cast<unsigned>(VFIO_IRQ_INFO_EVENTFD));
  EXPECT_EQ(ours::kVfioPciNumRegions, static_cast<unsigned>(VFIO_PCI_NUM_REGIONS));
  // The seed's interrupt is the one behind mainline's last.
  EXPECT_EQ(ours::kVfioPciDmaFaultIrqIndex, static_cast<unsigned>(VFIO_PCI_NUM_IRQS));
  EXPECT_EQ(ours::kVfioDmaMapFlagRead, static_cast<unsigned>(VFIO_DMA_MAP_FLAG_READ));
  EXPECT_EQ(ours::kVfioDmaMapFlagWrite, static_cast<unsigned>(VFIO_DMA_MAP_FLAG_WRITE));
}

TEST(UapiDrift, StructsHaveTheSystemsLayout) {
  SAME_FIELD(vfio_group_status, argsz);
  SAME_FIELD(vfio_group_status, flags);
  SAME_FIELD(vfio_device_info, argsz);
  SAME_FIELD(vfio_device_info, flags);
  SAME_FIELD(vfio_device_info, num_regions);
  SAME_FIELD(vfio_device_info, num_irqs);
  EXPECT_EQ(sizeof(ours::vfio_region_info), sizeof(struct vfio_region_info));
  SAME_FIELD(vfio_region_info, argsz);
  SAME_FIELD(vfio_region_info, flags);
  SAME_FIELD(vfio_region_info, index);
  SAME_FIELD(vfio_region_info, cap_offset);
  SAME_FIELD(vfio_region_info, size);
  SAME_FIELD(vfio_region_info, offset);
  EXPECT_EQ(sizeof(ours::vfio_info_cap_header), sizeof(struct vfio_info_cap_header));
  SAME_FIELD(vfio_info_cap_header, id);
  SAME_FIELD(vfio_info_cap_header, version);
  SAME_FIELD(vfio_info_cap_header, next);
  EXPECT_EQ(sizeof(ours::vfio_region_info_cap_sparse_mmap),
            sizeof(struct vfio_region_info_cap_sparse_mmap));
  SAME_FIELD(vfio_region_info_cap_sparse_mmap, nr_areas);
  SAME_FIELD(vfio_region_sparse_mmap_area, offset);
  SAME_FIELD(vfio_region_sparse_mmap_area, size);
  SAME_FIELD(vfio_region_info_cap_type, type);
  SAME_FIELD(vfio_region_info_cap_type, subtype);
  EXPECT_EQ(sizeof(ours::vfio_irq_info), sizeof(struct vfio_irq_info));
  SAME_FIELD(vfio_irq_info, index);
  SAME_FIELD(vfio_irq_info, count);
  EXPECT_EQ(sizeof(ours::vfio_irq_set), offsetof(struct vfio_irq_set, data));
  SAME_FIELD(vfio_irq_set, flags);
  SAME_FIELD(vfio_irq_set, index);
  SAME_FIELD(vfio_irq_set, start);
  SAME_FIELD(vfio_irq_set, count);
  EXPECT_EQ(sizeof(ours::vfio_iommu_type1_dma_map), sizeof(struct vfio_iommu_type1_dma_map));
  SAME_FIELD(vfio_iommu_type1_dma_map, vaddr);
  SAME_FIELD(vfio_iommu_type1_dma_map, iova);
  SAME_FIELD(vfio_iommu_type1_dma_map, size);
  EXPECT_EQ(sizeof(ours::vfio_iommu_type1_dma_unmap),
            offsetof(struct vfio_iommu_type1_dma_unmap, data));
  SAME_FIELD(vfio_iommu_type1_dma_unmap, iova);
  SAME_FIELD(vfio_iommu_type1_dma_unmap, size);
}

}  // namespace
