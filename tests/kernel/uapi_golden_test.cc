// SPDX-License-Identifier: BSD-3-Clause
// Every mirrored struct against bytes written by hand from the kernel's documents, so that two
// fields that changed places cannot agree with themselves.
#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <sstream>
#include <string>
#include <vector>

#include "kernel/uapi/vfio_nested.h"

namespace faultline::uapi {
namespace {

static_assert(std::endian::native == std::endian::little, "the bytes below are little-endian");

using Bytes = std::vector<unsigned char>;

template <class T>
Bytes bytes_of(const T& value) {
  Bytes bytes(sizeof value);
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

/// Hexadecimal bytes; "00*6" is six of them.
Bytes hand(const std::string& text) {
  Bytes bytes;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    const auto star = word.find('*');
    const std::size_t times = star == std::string::npos ? 1 : std::stoul(word.substr(star + 1));
    bytes.insert(bytes.end(), times,
                 static_cast<unsigned char>(std::stoul(word.substr(0, 2), nullptr, 16)));
  }
  return bytes;
}

TEST(UapiGolden, GroupAndDeviceStructs) {
  EXPECT_EQ(bytes_of(vfio_group_status{.argsz = 8, .flags = 3}), hand("08 00 00 00 03 00 00 00"));
  EXPECT_EQ(bytes_of(vfio_device_info{.argsz = 16, .flags = 2, .num_regions = 0x0b, .num_irqs = 6}),
            hand("10 00 00 00 02 00 00 00 0b 00 00 00 06 00 00 00"));
}

TEST(UapiGolden, RegionInfo) {
  EXPECT_EQ(bytes_of(vfio_region_info{.argsz = 0x60,
                                      .flags = 0x0d,
                                      .index = 9,
                                      .cap_offset = 0x20,
                                      .size = 0x2000,
                                      .offset = std::uint64_t{9} << 40U}),
            hand("60 00 00 00 0d 00 00 00 09 00 00 00 20 00 00 00 "
                 "00 20 00 00 00 00 00 00 00 00 00 00 00 09 00 00"));
}

TEST(UapiGolden, RegionCapabilities) {
  EXPECT_EQ(bytes_of(vfio_region_info_cap_type{
                .header = {.id = 2, .version = 1, .next = 0x30}, .type = 2, .subtype = 1}),
            hand("02 00 01 00 30 00 00 00 02 00 00 00 01 00 00 00"));
  EXPECT_EQ(bytes_of(vfio_region_info_cap_fault{.header = {.id = 6, .version = 1, .next = 0x40},
                                                .version = 1}),
            hand("06 00 01 00 40 00 00 00 01 00 00 00"));
  EXPECT_EQ(bytes_of(vfio_region_info_cap_sparse_mmap{
                .header = {.id = 1, .version = 1, .next = 0}, .nr_areas = 1, .reserved = 0}),
            hand("01 00 01 00 00 00 00 00 01 00 00 00 00 00 00 00"));
  EXPECT_EQ(bytes_of(vfio_region_sparse_mmap_area{.offset = 0x1000, .size = 0x2000}),
            hand("00 10 00 00 00 00 00 00 00 20 00 00 00 00 00 00"));
}

TEST(UapiGolden, Interrupts) {
  EXPECT_EQ(bytes_of(vfio_irq_info{.argsz = 16, .flags = 1, .index = 5, .count = 1}),
            hand("10 00 00 00 01 00 00 00 05 00 00 00 01 00 00 00"));
  EXPECT_EQ(bytes_of(vfio_irq_set{.argsz = 24,
                                  .flags = kVfioIrqSetDataEventfd | kVfioIrqSetActionTrigger,
                                  .index = kVfioPciDmaFaultIrqIndex,
                                  .start = 0,
                                  .count = 1}),
            hand("18 00 00 00 24 00 00 00 05 00 00 00 00 00 00 00 01 00 00 00"));
}

TEST(UapiGolden, DmaMaps) {
  EXPECT_EQ(bytes_of(vfio_iommu_type1_info{.argsz = 16, .flags = 1, .iova_pgsizes = 0x40201000}),
            hand("10 00 00 00 01 00 00 00 00 10 20 40 00 00 00 00"));
  EXPECT_EQ(bytes_of(vfio_iommu_type1_dma_map{.argsz = 32,
                                              .flags = 3,
                                              .vaddr = 0x1122334455667788,
                                              .iova = 0x40000000,
                                              .size = 0x100000}),
            hand("20 00 00 00 03 00 00 00 88 77 66 55 44 33 22 11 "
                 "00 00 00 40 00 00 00 00 00 00 10 00 00 00 00 00"));
  EXPECT_EQ(bytes_of(vfio_iommu_type1_dma_unmap{
                .argsz = 24, .flags = 0, .iova = 0x40000000, .size = 0x100000}),
            hand("18 00 00 00 00 00 00 00 00 00 00 40 00 00 00 00 00 00 10 00 00 00 00 00"));
}

TEST(UapiGolden, PasidTable) {
  vfio_iommu_type1_attach_pasid_table a{};
  a.argsz = 40;
  a.config.version = 1;
  a.config.format = kIommuPasidFormatSmmuv3;
  a.config.base_ptr = 0x0000123456789a40;
  a.config.pasid_bits = 7;
  a.config.config = kIommuPasidConfigTranslate;
  a.config.smmuv3 = {.version = 1, .s1fmt = 2, .s1dss = 1, .padding = {}};
  EXPECT_EQ(bytes_of(a), hand("28 00 00 00 00 00 00 00 01 00 00 00 01 00 00 00 "
                              "40 9a 78 56 34 12 00 00 07 01 00*6 01 00 00 00 02 01 00 00"));
}

TEST(UapiGolden, CacheInvalidateByAsid) {
  vfio_iommu_type1_cache_invalidate i{};
  i.argsz = 56;
  i.info.version = 1;
  i.info.cache = kIommuCacheInvTypeIotlb;
  i.info.granularity = kIommuInvGranuPasid;
  i.info.pasid = 0x1234;
  EXPECT_EQ(bytes_of(i), hand("38 00 00 00 00 00 00 00 01 00 00 00 01 01 00 00 "
                              "34 12 00 00 00 00 00 00 00*32"));
}

TEST(UapiGolden, CacheInvalidateByAddress) {
  vfio_iommu_type1_cache_invalidate i{};
  i.argsz = 56;
  i.info.version = 1;
  i.info.cache = kIommuCacheInvTypeDevIotlb;
  i.info.granularity = kIommuInvGranuAddr;
  i.info.addr_info = {.flags = kIommuInvAddrFlagsPasid | kIommuInvAddrFlagsLeaf,
                      .archid = 0x55,
                      .pasid = 0x66,
                      .addr = 0xffff800000001000,
                      .granule_size = 0x1000,
                      .nb_granules = 0x77};
  EXPECT_EQ(bytes_of(i), hand("38 00 00 00 00 00 00 00 01 00 00 00 02 02 00 00 "
                              "05 00 00 00 55 00 00 00 66 00 00 00 00 00 00 00 "
                              "00 10 00 00 00 80 ff ff 00 10 00 00 00 00 00 00 "
                              "77 00 00 00 00 00 00 00"));
}

TEST(UapiGolden, MsiBindings) {
  EXPECT_EQ(bytes_of(vfio_iommu_type1_bind_msi{
                .argsz = 32, .flags = 0, .iova = 0x8000000, .gpa = 0x8080000, .size = 0x1000}),
            hand("20 00 00 00 00 00 00 00 00 00 00 08 00 00 00 00 "
                 "00 00 08 08 00 00 00 00 00 10 00 00 00 00 00 00"));
  EXPECT_EQ(bytes_of(vfio_iommu_type1_unbind_msi{.argsz = 16, .flags = 0, .iova = 0x8000000}),
            hand("10 00 00 00 00 00 00 00 00 00 00 08 00 00 00 00"));
}

TEST(UapiGolden, FaultRegionHeaders) {
  EXPECT_EQ(
      bytes_of(vfio_region_fault_prod{
          .version = 0xffffffff, .nb_entries = 85, .entry_size = 48, .offset = 4096, .prod = 84}),
      hand("ff ff ff ff 55 00 00 00 30 00 00 00 00 10 00 00 54 00 00 00"));
  EXPECT_EQ(bytes_of(vfio_region_fault_cons{.version = 1, .cons = 84}),
            hand("01 00 00 00 54 00 00 00"));
}

TEST(UapiGolden, UnrecoverableFault) {
  iommu_fault f{};
  f.type = kIommuFaultDmaUnrecov;
  f.event = {.reason = kIommuFaultReasonPermission,
             .flags = kIommuFaultUnrecovPasidValid | kIommuFaultUnrecovPermValid |
                      kIommuFaultUnrecovAddrValid | kIommuFaultUnrecovFetchAddrValid,
             .pasid = 0xabcde,
             .perm = kIommuFaultPermWrite | kIommuFaultPermExec | kIommuFaultPermPriv,
             .addr = 0x1122334455667788,
             .fetch_addr = 0x99aabbccddeeff00};
  EXPECT_EQ(bytes_of(f), hand("01 00 00 00 00 00 00 00 06 00 00 00 0f 00 00 00 "
                              "de bc 0a 00 07 00 00 00 88 77 66 55 44 33 22 11 "
                              "00 ff ee dd cc bb aa 99 00*8"));
}

TEST(UapiGolden, PageRequest) {
  iommu_fault f{};
  f.type = kIommuFaultPageReq;
  f.prm = {.flags = kIommuFaultPageRequestPasidValid | kIommuFaultPageRequestLastPage |
                    kIommuFaultPageRequestPrivData,
           .pasid = 5,
           .grpid = 0x1ff,
           .perm = kIommuFaultPermWrite,
           .addr = 0x7000,
           .private_data = {0x0102030405060708, 0x090a0b0c0d0e0f10}};
  EXPECT_EQ(bytes_of(f), hand("02 00 00 00 00 00 00 00 07 00 00 00 05 00 00 00 "
                              "ff 01 00 00 01 00 00 00 00 70 00 00 00 00 00 00 "
                              "08 07 06 05 04 03 02 01 10 0f 0e 0d 0c 0b 0a 09"));
}

TEST(UapiGolden, IoctlNumbers) {
  EXPECT_EQ(kVfioGetApiVersion, 0x3b64U);
  EXPECT_EQ(kVfioCheckExtension, 0x3b65U);
  EXPECT_EQ(kVfioSetIommu, 0x3b66U);
  EXPECT_EQ(kVfioGroupGetStatus, 0x3b67U);
  EXPECT_EQ(kVfioGroupSetContainer, 0x3b68U);
  EXPECT_EQ(kVfioGroupUnsetContainer, 0x3b69U);
  EXPECT_EQ(kVfioGroupGetDeviceFd, 0x3b6aU);
  EXPECT_EQ(kVfioDeviceGetInfo, 0x3b6bU);
  EXPECT_EQ(kVfioDeviceGetRegionInfo, 0x3b6cU);
  EXPECT_EQ(kVfioDeviceGetIrqInfo, 0x3b6dU);
  EXPECT_EQ(kVfioDeviceSetIrqs, 0x3b6eU);
  EXPECT_EQ(kVfioDeviceReset, 0x3b6fU);
  EXPECT_EQ(kVfioIommuGetInfo, 0x3b70U);
  EXPECT_EQ(kVfioIommuMapDma, 0x3b71U);
  EXPECT_EQ(kVfioIommuUnmapDma, 0x3b72U);
  EXPECT_EQ(kVfioIommuAttachPasidTable, 0x3b7aU);
  EXPECT_EQ(kVfioIommuBindPasidTable, 0x3b7aU);  // the seed's name for it
  EXPECT_EQ(kVfioIommuDetachPasidTable, 0x3b7bU);
  EXPECT_EQ(kVfioIommuCacheInvalidate, 0x3b7cU);
  EXPECT_EQ(kVfioIommuBindMsi, 0x3b7dU);
  EXPECT_EQ(kVfioIommuUnbindMsi, 0x3b7eU);
}

TEST(UapiGolden, ConstantsOfV7AndNotOfItsSuccessors) {
  EXPECT_EQ(kVfioType1NestingIommu, 6U);
  EXPECT_EQ(kVfioPciNumRegions, 9U);
  EXPECT_EQ(kVfioRegionTypeNested, 2U);
  EXPECT_EQ(kVfioRegionSubtypeNestedFaultProd, 1U);
  EXPECT_EQ(kVfioRegionSubtypeNestedFaultCons, 2U);
  EXPECT_EQ(kVfioRegionInfoCapProducerFault, 6U);
  EXPECT_EQ(kVfioPciDmaFaultIrqIndex, 5U);
  EXPECT_EQ(kVfioPciNumIrqs, 6U);
  EXPECT_EQ(kVfioRegionFaultAbiVersion1, 1U);
  EXPECT_EQ(kVfioRegionFaultVersionUnset, 0xffffffffU);
  EXPECT_EQ(kIommuFaultReasonUnknown, 0U);
  EXPECT_EQ(kIommuFaultReasonPasidFetch, 1U);
  EXPECT_EQ(kIommuFaultReasonBadPasidEntry, 2U);
  EXPECT_EQ(kIommuFaultReasonPasidInvalid, 3U);
  EXPECT_EQ(kIommuFaultReasonWalkEabt, 4U);
  EXPECT_EQ(kIommuFaultReasonPteFetch, 5U);
  EXPECT_EQ(kIommuFaultReasonPermission, 6U);
  EXPECT_EQ(kIommuFaultReasonAccess, 7U);
  EXPECT_EQ(kIommuFaultReasonOorAddress, 8U);
  EXPECT_EQ(kIommuFaultDmaUnrecov, 1U);
  EXPECT_EQ(kIommuFaultPageReq, 2U);
  EXPECT_EQ(kIommuFaultPageRequestPasidValid, 1U);
  EXPECT_EQ(kIommuFaultPageRequestLastPage, 2U);
  EXPECT_EQ(kIommuFaultPageRequestPrivData, 4U);
  EXPECT_EQ(kIommuCacheInvalidateInfoVersion1, 1U);
  EXPECT_EQ(kPasidTableCfgVersion1, 1U);
  EXPECT_EQ(kPasidTableSmmuv3CfgVersion1, 1U);
  EXPECT_EQ(kIommuPasidFormatSmmuv3, 1U);
  // v8 dropped PERM_VALID and moved the two behind it; it gave READ the bit that WRITE has here.
  EXPECT_EQ(kIommuFaultUnrecovPasidValid, 1U);
  EXPECT_EQ(kIommuFaultUnrecovPermValid, 2U);
  EXPECT_EQ(kIommuFaultUnrecovAddrValid, 4U);
  EXPECT_EQ(kIommuFaultUnrecovFetchAddrValid, 8U);
  EXPECT_EQ(kIommuFaultPermWrite, 1U);
  EXPECT_EQ(kIommuFaultPermExec, 2U);
  EXPECT_EQ(kIommuFaultPermPriv, 4U);
  EXPECT_EQ(kIommuCacheInvTypeIotlb, 1U);
  EXPECT_EQ(kIommuCacheInvTypeDevIotlb, 2U);
  EXPECT_EQ(kIommuCacheInvTypePasid, 4U);
  EXPECT_EQ(kIommuInvGranuDomain, 0U);
  EXPECT_EQ(kIommuInvGranuPasid, 1U);
  EXPECT_EQ(kIommuInvGranuAddr, 2U);
  EXPECT_EQ(kIommuInvAddrFlagsPasid, 1U);
  EXPECT_EQ(kIommuInvAddrFlagsArchid, 2U);
  EXPECT_EQ(kIommuInvAddrFlagsLeaf, 4U);
  EXPECT_EQ(kIommuPasidConfigTranslate, 1U);
  EXPECT_EQ(kIommuPasidConfigBypass, 2U);
  EXPECT_EQ(kIommuPasidConfigAbort, 3U);
}

}  // namespace
}  // namespace faultline::uapi
