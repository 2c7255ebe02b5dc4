// SPDX-License-Identifier: BSD-3-Clause
// iommufd's structs against bytes written by hand from the kernel's header, and numbers as a trace
// of a real kernel shows them.
#include <gtest/gtest.h>

#include <cstring>
#include <sstream>
#include <string>
#include <vector>

#include "kernel/uapi/iommufd_nested.h"
#include "kernel/uapi/vfio_cdev.h"

namespace faultline::uapi {
namespace {

/// Bytes as two hexadecimal digits each.
template <class T>
std::string bytes_of(const T& value) {
  std::vector<unsigned char> bytes(sizeof value);
  std::memcpy(bytes.data(), &value, sizeof value);
  std::string text;
  for (const unsigned char b : bytes) {
    text += "0123456789abcdef"[b >> 4U];
    text += "0123456789abcdef"[b & 15U];
  }
  return text;
}

/// The same of hand-written bytes; blanks are for the reader.
std::string hand(std::string text) {
  std::erase(text, ' ');
  return text;
}

TEST(UapiIommufdGolden, NumbersAreThoseThatATraceShows) {
  EXPECT_EQ(kIommuDestroy, 0x3b80UL);
  EXPECT_EQ(kIommuIoasAlloc, 0x3b81UL);
  EXPECT_EQ(kIommuIoasIovaRanges, 0x3b84UL);
  EXPECT_EQ(kIommuIoasMap, 0x3b85UL);
  EXPECT_EQ(kIommuIoasUnmap, 0x3b86UL);
  EXPECT_EQ(kIommuOption, 0x3b87UL);
  EXPECT_EQ(kIommuHwptAlloc, 0x3b89UL);
  EXPECT_EQ(kIommuGetHwInfo, 0x3b8aUL);
  EXPECT_EQ(kIommuHwptInvalidate, 0x3b8dUL);
  EXPECT_EQ(kIommuFaultQueueAlloc, 0x3b8eUL);
  EXPECT_EQ(kIommuIoasMapFile, 0x3b8fUL);
  EXPECT_EQ(kIommuViommuAlloc, 0x3b90UL);
  EXPECT_EQ(kIommuVdeviceAlloc, 0x3b91UL);
  EXPECT_EQ(kIommuVeventqAlloc, 0x3b93UL);
  EXPECT_EQ(kIommuHwQueueAlloc, 0x3b94UL);
  EXPECT_EQ(kVfioDeviceBindIommufd, 0x3b76UL);
  EXPECT_EQ(kVfioDeviceAttachIommufdPt, 0x3b77UL);
  EXPECT_EQ(kVfioDeviceDetachIommufdPt, 0x3b78UL);
}

TEST(UapiIommufdGolden, ObjectsAndAddressSpaces) {
  EXPECT_EQ(bytes_of(iommu_destroy{.size = 8, .id = 5}), hand("08000000 05000000"));
  EXPECT_EQ(bytes_of(iommu_ioas_alloc{.size = 12, .flags = 0, .out_ioas_id = 7}),
            hand("0c000000 00000000 07000000"));
  EXPECT_EQ(bytes_of(iommu_iova_range{.start = 0x1000, .last = 0xffff}),
            hand("0010000000000000 ffff000000000000"));
  EXPECT_EQ(bytes_of(iommu_ioas_iova_ranges{.size = 32,
                                            .ioas_id = 2,
                                            .num_iovas = 3,
                                            .reserved = 0,
                                            .allowed_iovas = 0x1122334455667788,
                                            .out_iova_alignment = 0x1000}),
            hand("20000000 02000000 03000000 00000000 8877665544332211 0010000000000000"));
  EXPECT_EQ(bytes_of(iommu_ioas_map{
                .size = 40,
                .flags = kIommuIoasMapFixedIova | kIommuIoasMapWriteable | kIommuIoasMapReadable,
                .ioas_id = 2,
                .reserved = 0,
                .user_va = 0x7f0000001000,
                .length = 0x200000,
                .iova = 0x40000000}),
            hand("28000000 07000000 02000000 00000000 001000000 07f0000 0000200000000000 "
                 "0000004000000000"));
  EXPECT_EQ(bytes_of(iommu_ioas_map_file{.size = 40,
                                         .flags = 7,
                                         .ioas_id = 2,
                                         .fd = 9,
                                         .start = 0x3000,
                                         .length = 0x1000,
                                         .iova = 0x40000000}),
            hand("28000000 07000000 02000000 09000000 0030000000000000 0010000000000000 "
                 "0000004000000000"));
  EXPECT_EQ(bytes_of(iommu_ioas_unmap{.size = 24, .ioas_id = 2, .iova = 0x1000, .length = 0x2000}),
            hand("18000000 02000000 0010000000000000 0020000000000000"));
  EXPECT_EQ(bytes_of(iommu_option{.size = 24,
                                  .option_id = kIommuOptionHugePages,
                                  .op = kIommuOptionOpGet,
                                  .reserved = 0,
                                  .object_id = 2,
                                  .val64 = 1}),
            hand("18000000 01000000 0100 0000 02000000 0100000000000000"));
}

TEST(UapiIommufdGolden, HardwareInformation) {
  EXPECT_EQ(bytes_of(iommu_hw_info{.size = 40,
                                   .flags = 0,
                                   .dev_id = 1,
                                   .data_len = 40,
                                   .data_uptr = 0x1000,
                                   .out_data_type = kIommuHwInfoTypeArmSmmuv3,
                                   .out_max_pasid_log2 = 0x14,
                                   .reserved = {},
                                   .out_capabilities = 1}),
            hand("28000000 00000000 01000000 28000000 0010000000000000 02000000 14 000000 "
                 "0100000000000000"));
  // As QEMU's two-stage SMMU answers.
  EXPECT_EQ(
      bytes_of(iommu_hw_info_arm_smmuv3{.flags = 0,
                                        .reserved = 0,
                                        .idr = {0x0d44101b, 0x02730010, 0, 0x00001414, 0, 0x74},
                                        .iidr = 0,
                                        .aidr = 1}),
      hand("00000000 00000000 1b10440d 10007302 00000000 14140000 00000000 74000000 00000000 "
           "01000000"));
  EXPECT_EQ(bytes_of(iommu_hw_info_vtd{
                .flags = 1, .reserved = 0, .cap_reg = 0x0102030405060708, .ecap_reg = 2}),
            hand("01000000 00000000 0807060504030201 0200000000000000"));
}

TEST(UapiIommufdGolden, PageTables) {
  EXPECT_EQ(bytes_of(iommu_hwpt_alloc{.size = 48,
                                      .flags = kIommuHwptFaultIdValid,
                                      .dev_id = 1,
                                      .pt_id = 4,
                                      .out_hwpt_id = 6,
                                      .reserved = 0,
                                      .data_type = kIommuHwptDataArmSmmuv3,
                                      .data_len = 16,
                                      .data_uptr = 0x2000,
                                      .fault_id = 8,
                                      .reserved2 = 0}),
            hand("30000000 04000000 01000000 04000000 06000000 00000000 02000000 10000000 "
                 "0020000000000000 08000000 00000000"));
  EXPECT_EQ(bytes_of(iommu_hwpt_arm_smmuv3{.ste = {0x0b, 0x2000000000000000}}),
            hand("0b00000000000000 0000000000000020"));
  EXPECT_EQ(bytes_of(iommu_hwpt_vtd_s1{
                .flags = kIommuVtdS1Wpe, .pgtbl_addr = 0x123000, .addr_width = 48, .reserved = 0}),
            hand("0400000000000000 0030120000000000 30000000 00000000"));
}

TEST(UapiIommufdGolden, VirtualIommuAndInvalidation) {
  EXPECT_EQ(bytes_of(iommu_viommu_alloc{.size = 40,
                                        .flags = 0,
                                        .type = kIommuViommuTypeArmSmmuv3,
                                        .dev_id = 1,
                                        .hwpt_id = 3,
                                        .out_viommu_id = 4,
                                        .data_len = 0,
                                        .reserved = 0,
                                        .data_uptr = 0}),
            hand("28000000 00000000 01000000 01000000 03000000 04000000 00000000 00000000 "
                 "0000000000000000"));
  EXPECT_EQ(bytes_of(iommu_vdevice_alloc{
                .size = 24, .viommu_id = 4, .dev_id = 1, .out_vdevice_id = 5, .virt_id = 0x1234}),
            hand("18000000 04000000 01000000 05000000 3412000000000000"));
  EXPECT_EQ(bytes_of(iommu_hwpt_invalidate{.size = 32,
                                           .hwpt_id = 4,
                                           .data_uptr = 0x5000,
                                           .data_type = kIommuViommuInvalidateDataArmSmmuv3,
                                           .entry_len = 16,
                                           .entry_num = 63,
                                           .reserved = 0}),
            hand("20000000 04000000 0050000000000000 01000000 10000000 3f000000 00000000"));
  EXPECT_EQ(bytes_of(iommu_viommu_arm_smmuv3_invalidate{.cmd = {0x0001000000000011, 0}}),
            hand("1100000000000100 0000000000000000"));
  EXPECT_EQ(
      bytes_of(iommu_hwpt_vtd_s1_invalidate{
          .addr = 0, .npages = ~std::uint64_t{0}, .flags = kIommuVtdInvFlagsLeaf, .reserved = 0}),
      hand("0000000000000000 ffffffffffffffff 01000000 00000000"));
}

TEST(UapiIommufdGolden, FaultsAndEvents) {
  EXPECT_EQ(
      bytes_of(iommu_fault_alloc{.size = 16, .flags = 0, .out_fault_id = 9, .out_fault_fd = 0x15}),
      hand("10000000 00000000 09000000 15000000"));
  EXPECT_EQ(bytes_of(iommu_hwpt_pgfault{
                .flags = kIommuPgfaultFlagsPasidValid | kIommuPgfaultFlagsLastPage,
                .dev_id = 1,
                .pasid = 2,
                .grpid = 3,
                .perm = kIommuPgfaultPermWrite,
                .reserved = 0,
                .addr = 0x12345000,
                .length = 0x1000,
                .cookie = 0x11}),
            hand("03000000 01000000 02000000 03000000 02000000 00000000 0050341200000000 "
                 "00100000 11000000"));
  EXPECT_EQ(bytes_of(iommu_hwpt_page_response{.cookie = 0x11, .code = kIommufdPageRespInvalid}),
            hand("11000000 01000000"));
  EXPECT_EQ(bytes_of(iommu_veventq_alloc{.size = 32,
                                         .flags = 0,
                                         .viommu_id = 4,
                                         .type = kIommuVeventqTypeArmSmmuv3,
                                         .veventq_depth = 64,
                                         .out_veventq_id = 10,
                                         .out_veventq_fd = 0x16,
                                         .reserved = 0}),
            hand("20000000 00000000 04000000 01000000 40000000 0a000000 16000000 00000000"));
  // Both as read from a real kernel: an event of vSID 0x1234, and the loss of everything up to 43.
  EXPECT_EQ(bytes_of(iommufd_vevent_header{.flags = 0, .sequence = 0}) +
                bytes_of(iommu_vevent_arm_smmuv3{
                    .evt = {0x0000123400000010, 0x0000020000000000, 0x12345040, 0}}),
            hand("0000000000000000 1000000034120000 0000000000020000 4050341200000000 "
                 "0000000000000000"));
  EXPECT_EQ(bytes_of(iommufd_vevent_header{.flags = kIommuVeventqFlagLostEvents, .sequence = 43}),
            hand("01000000 2b000000"));
}

TEST(UapiIommufdGolden, DeviceFiles) {
  EXPECT_EQ(
      bytes_of(vfio_device_bind_iommufd{.argsz = 16, .flags = 0, .iommufd = 3, .out_devid = 1}),
      hand("10000000 00000000 03000000 01000000"));
  EXPECT_EQ(bytes_of(vfio_device_attach_iommufd_pt{.argsz = 12, .flags = 0, .pt_id = 6}),
            hand("0c000000 00000000 06000000"));
  EXPECT_EQ(bytes_of(vfio_device_detach_iommufd_pt{.argsz = 8, .flags = 0}),
            hand("08000000 00000000"));
}

}  // namespace
}  // namespace faultline::uapi
