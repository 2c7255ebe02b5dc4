// SPDX-License-Identifier: BSD-3-Clause
// Sentences 23 and 25 to 27: what version 7's code did that its document does not say.
#include "tests/seed/rig.h"

namespace faultline::seed {
namespace {

const KernelOptions kV7{.max_fault_abi = 1, .quirks_v7 = true, .atc_entries = 0, .access_hook = {}};

TEST(Quirk, ProducerVersionIsNeverFilledIn) {
  Rig rig(kV7);
  rig.start_with_faults();
  EXPECT_EQ(rig.header().version, uapi::kVfioRegionFaultVersionUnset);
}

TEST(Quirk, ReasonIsZeroAndFetchAddressShifted) {
  Rig rig(kV7);
  rig.start_with_faults();
  rig.fault(0x7000);
  // A context descriptor pointer beyond RAM: stage 2 refuses it and the guest hears nothing. A
  // table that is not where it should be inside RAM is an ordinary translation fault, so the
  // reason of an unmapped address is what shows the defect.
  const unsigned char* queue = rig.map_producer(4096, 4096);
  ASSERT_NE(queue, nullptr);
  uapi::iommu_fault fault{};
  copy_from_shared(&fault, queue, sizeof fault);
  EXPECT_EQ(fault.event.reason, 0U);
  EXPECT_EQ(fault.event.addr, 0x7000U);
}

TEST(Quirk, FullComesEarlyAfterAWrap) {
  Rig rig(kV7);
  rig.start_with_faults();
  const std::uint32_t size = rig.header().nb_entries;
  ASSERT_EQ(size, 85U);
  // Go to prod = cons = 44, from where the masked rule first says "full" after 41 records.
  for (std::uint32_t i = 0; i < 44; ++i) rig.fault(0x1000);
  ASSERT_EQ(rig.write_cons(44), 4);
  for (std::uint32_t i = 0; i < size; ++i) rig.fault(0x2000);
  const std::uint32_t stored = (rig.header().prod + size - 44) % size;
  std::uint32_t expected = 0;
  for (std::uint32_t prod = 44; expected < size; prod = (prod + 1) % size, ++expected) {
    if (((44U - (prod + 1)) & (size - 1)) < 1) break;  // CIRC_SPACE as the code has it
  }
  EXPECT_EQ(stored, expected);
  EXPECT_LT(stored, size - 1);
}

TEST(Quirk, GranularitiesAreRefusedAsByV7) {
  Rig rig(kV7);
  rig.start_nested();
  rig.page(1) = 1;
  rig.page(2) = 2;
  rig.map_page(0x5000, Rig::page_gpa(1));
  ASSERT_EQ(rig.access(0x5000).value, 1U);
  rig.map_page(0x5000, Rig::page_gpa(2));
  EXPECT_EQ(rig.invalidate(uapi::kIommuCacheInvTypeIotlb, uapi::kIommuInvGranuDomain, 0), -EINVAL);
  ASSERT_EQ(rig.access(0x5000).value, 1U);
  EXPECT_EQ(rig.invalidate(uapi::kIommuCacheInvTypeDevIotlb, uapi::kIommuInvGranuPasid, Rig::kAsid),
            -ENOENT);
  EXPECT_EQ(rig.invalidate(uapi::kIommuCacheInvTypeIotlb | uapi::kIommuCacheInvTypePasid,
                           uapi::kIommuInvGranuPasid, Rig::kAsid),
            -ENOENT);
  EXPECT_EQ(rig.access(0x5000).value, 2U) << "the IOTLB part was done before the refusal";
}

}  // namespace
}  // namespace faultline::seed
