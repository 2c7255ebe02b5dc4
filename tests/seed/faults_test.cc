// SPDX-License-Identifier: BSD-3-Clause
// Sentences 6 to 17, 22 and 24: fault regions, negotiation, queue, eventfd.
#include <poll.h>
#include <sys/eventfd.h>

#include "tests/seed/rig.h"

namespace faultline::seed {
namespace {

TEST(Faults, OfStageOneReachTheQueue) {
  Rig rig;
  rig.start_with_faults();
  EXPECT_EQ(rig.header().prod, 0U);
  rig.fault(0xdead'b000);
  EXPECT_EQ(rig.header().prod, 1U);
  EXPECT_NE(rig.read_status(0xdead'c000), soft::DmaStatus::kOk);
  EXPECT_EQ(rig.header().prod, 2U);
}

TEST(Faults, OfStageTwoStayWithTheHost) {
  Rig rig;
  rig.start_with_faults();
  rig.map_page(0x5000, Rig::kRamGpa + Rig::kRamSize);  // a GPA that nothing backs
  EXPECT_NE(rig.read_status(0x5000), soft::DmaStatus::kOk);
  EXPECT_EQ(rig.header().prod, 0U);
}

TEST(Regions, AreFoundByTypeAndSubtype) {
  Rig rig;
  rig.start();
  rig.find_fault_regions();
  EXPECT_GE(rig.prod_->info.index, uapi::kVfioPciNumRegions);
  EXPECT_GE(rig.cons_->info.index, uapi::kVfioPciNumRegions);
  EXPECT_EQ(rig.prod_->info.size, 2U * 4096U);
  EXPECT_EQ(rig.cons_->info.size, sizeof(uapi::vfio_region_fault_cons));
}

TEST(Regions, ProducerIsReadOnlyAndConsumerWriteOnly) {
  Rig rig;
  rig.start_with_faults();
  const std::uint32_t access = uapi::kVfioRegionInfoFlagRead | uapi::kVfioRegionInfoFlagWrite;
  EXPECT_EQ(rig.prod_->info.flags & access, uapi::kVfioRegionInfoFlagRead);
  EXPECT_EQ(rig.cons_->info.flags & access, uapi::kVfioRegionInfoFlagWrite);
  const auto before = rig.header();
  std::uint32_t value = 17;
  EXPECT_LE(rig.sys_.pwrite(rig.device_, &value, 4, Rig::at(*rig.prod_, 16)), 0);
  EXPECT_EQ(rig.header().prod, before.prod);
  EXPECT_LE(rig.sys_.pread(rig.device_, &value, 4, Rig::at(*rig.cons_, 4)), 0);
  EXPECT_EQ(value, 17U);
  EXPECT_EQ(rig.map_producer(4096, 4096, PROT_READ | PROT_WRITE), nullptr);
}

TEST(Regions, ProducerTellsItsHighestAbi) {
  for (const std::uint32_t highest : {1U, 2U}) {
    Rig rig({.max_fault_abi = highest});
    rig.start();
    rig.find_fault_regions();
    const auto* cap =
        rig.prod_->find<uapi::vfio_region_info_cap_fault>(uapi::kVfioRegionInfoCapProducerFault);
    ASSERT_NE(cap, nullptr);
    EXPECT_EQ(cap->version, highest);
  }
}

TEST(Abi, VersionOneIsTaken) {
  Rig rig;
  rig.start_with_faults(1);
  EXPECT_GT(rig.header().nb_entries, 0U);
}

TEST(Abi, VersionZeroIsRefused) {
  Rig rig;
  rig.start();
  rig.find_fault_regions();
  EXPECT_EQ(rig.choose_abi(0), -EINVAL);
  EXPECT_EQ(rig.choose_abi(1), 4) << "nothing was chosen by the refused write";
}

TEST(Abi, AVersionAboveTheHighestIsRefused) {
  Rig rig({.max_fault_abi = 2});
  rig.start();
  rig.find_fault_regions();
  EXPECT_EQ(rig.choose_abi(3), -EINVAL);
  EXPECT_EQ(rig.choose_abi(0xffffffff), -EINVAL);
  EXPECT_EQ(rig.choose_abi(2), 4);
}

TEST(Abi, CannotBeChanged) {
  Rig rig({.max_fault_abi = 2});
  rig.start();
  rig.find_fault_regions();
  ASSERT_EQ(rig.choose_abi(1), 4);
  EXPECT_EQ(rig.choose_abi(2), -EINVAL);
  EXPECT_EQ(rig.choose_abi(1), 4) << "the same one again is no change";
  EXPECT_EQ(rig.header().entry_size, sizeof(uapi::iommu_fault));
}

TEST(Abi, BeforeTheChoiceTheProducerCannotBeRead) {
  Rig rig;
  rig.start();
  rig.find_fault_regions();
  uapi::vfio_region_fault_prod header{};
  EXPECT_EQ(rig.read_header(header), -EINVAL);
}

TEST(Eventfd, IsSignalledForEveryFault) {
  Rig rig;
  rig.start_with_faults();
  uapi::vfio_irq_info info{
      .argsz = sizeof info, .flags = 0, .index = uapi::kVfioPciDmaFaultIrqIndex, .count = 0};
  ASSERT_EQ(rig.sys_.ioctl(rig.device_, uapi::kVfioDeviceGetIrqInfo, &info), 0);
  EXPECT_EQ(info.count, 1U);
  EXPECT_NE(info.flags & uapi::kVfioIrqInfoEventfd, 0U);

  const int fd = rig.sys_.eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  struct {
    uapi::vfio_irq_set set;
    std::int32_t fd;
  } irq{{.argsz = 24,
         .flags = uapi::kVfioIrqSetDataEventfd | uapi::kVfioIrqSetActionTrigger,
         .index = uapi::kVfioPciDmaFaultIrqIndex,
         .start = 0,
         .count = 1},
        fd};
  ASSERT_EQ(rig.sys_.ioctl(rig.device_, uapi::kVfioDeviceSetIrqs, &irq), 0);
  std::uint64_t signalled = 0;
  EXPECT_EQ(rig.sys_.read(fd, &signalled, 8), -EAGAIN);
  for (int i = 0; i < 3; ++i) {
    rig.fault(0x7000);
    ASSERT_EQ(rig.sys_.read(fd, &signalled, 8), 8);
    EXPECT_EQ(signalled, 1U);
  }
  irq.set.index = uapi::kVfioPciDmaFaultIrqIndex + 1;
  EXPECT_EQ(rig.sys_.ioctl(rig.device_, uapi::kVfioDeviceSetIrqs, &irq), -EINVAL);
  rig.sys_.close(fd);
}

TEST(Records, OfVersionOneAreByteExact) {
  Rig rig;
  rig.start_with_faults();
  rig.map_page(0x6000, Rig::page_gpa(1), Rig::kReadOnly);
  rig.fault(0x12'3456'7000);
  EXPECT_EQ(rig.access(0x6008, true).status, soft::DmaStatus::kFaulted);
  const unsigned char* queue = rig.map_producer(4096, 4096);
  ASSERT_NE(queue, nullptr);
  // type, reserved | reason, flags, pasid, perm | addr | fetch_addr | padding of the union
  const std::array<unsigned char, 48> unmapped = {1, 0, 0, 0,    0,    0,    0,    0, 5, 0, 0,
                                                  0, 6, 0, 0,    0,    0,    0,    0, 0, 0, 0,
                                                  0, 0, 0, 0x70, 0x56, 0x34, 0x12, 0, 0, 0};
  const std::array<unsigned char, 48> read_only = {1, 0, 0,    0,    0, 0, 0, 0, 6, 0, 0,
                                                   0, 6, 0,    0,    0, 0, 0, 0, 0, 1, 0,
                                                   0, 0, 0x08, 0x60, 0, 0, 0, 0, 0, 0};
  EXPECT_EQ(std::memcmp(queue, unmapped.data(), 48), 0);
  EXPECT_EQ(std::memcmp(queue + 48, read_only.data(), 48), 0);
}

TEST(Records, OfVersionTwoAreExact) {
  Rig rig({.max_fault_abi = 2});
  rig.start_with_faults(2);
  rig.find_fault_regions();
  const auto head = rig.header();
  EXPECT_EQ(head.version, 2U);
  EXPECT_EQ(head.entry_size, 64U);
  EXPECT_EQ(head.nb_entries & (head.nb_entries - 1), 0U);
  rig.fault(0x12'3456'7000);
  rig.fault(0x12'3456'8000);
  const auto size = static_cast<std::size_t>(rig.prod_->info.size);
  const unsigned char* region = rig.map_producer(0, size);
  ASSERT_NE(region, nullptr);
  const auto* prod = reinterpret_cast<const uapi::vfio_region_fault_prod2*>(region);
  EXPECT_EQ(load_acquire(prod->prod), 2U);
  EXPECT_EQ(load_acquire(prod->lost), 0U);
  const auto* records = reinterpret_cast<const uapi::vfio_fault_record2*>(region + prod->offset);
  for (unsigned i = 0; i < 2; ++i) {
    EXPECT_EQ(records[i].sequence, i);
    EXPECT_EQ(records[i].event[0] & 0xffU, 0x10U);
    EXPECT_EQ(records[i].event[0] >> 32U, KernelUnderTest::kStreamId[0]);
    EXPECT_EQ(records[i].event[1] >> 35U & 1U, 1U) << "RnW";
    EXPECT_EQ(records[i].event[2], 0x12'3456'7000U + i * 0x1000U);
    EXPECT_EQ(records[i].flags, 0U);
  }
}

TEST(Mapping, ShowsTheQueueAndNothingElse) {
  Rig rig;
  rig.start_with_faults();
  const auto* sparse =
      rig.prod_->find<uapi::vfio_region_info_cap_sparse_mmap>(uapi::kVfioRegionInfoCapSparseMmap);
  ASSERT_NE(sparse, nullptr);
  ASSERT_EQ(sparse->nr_areas, 1U);
  const auto* area = reinterpret_cast<const uapi::vfio_region_sparse_mmap_area*>(sparse + 1);
  EXPECT_EQ(area->offset, 4096U);
  EXPECT_EQ(area->size, 4096U);
  EXPECT_NE(rig.prod_->info.flags & uapi::kVfioRegionInfoFlagMmap, 0U);
  EXPECT_EQ(rig.cons_->info.flags & uapi::kVfioRegionInfoFlagMmap, 0U);
  EXPECT_NE(rig.map_producer(area->offset, area->size), nullptr);
  EXPECT_EQ(rig.map_producer(0, 4096), nullptr) << "the header is not mappable";
  EXPECT_EQ(rig.map_producer(0, 8192), nullptr);
  EXPECT_EQ(rig.map_producer(4096, 8192), nullptr) << "beyond the region";
}

TEST(Queue, GeometryIsReadFromTheRegion) {
  Rig rig;
  rig.start_with_faults();
  const auto header = rig.header();
  EXPECT_EQ(header.nb_entries, 85U);
  EXPECT_EQ(header.entry_size, 48U);
  EXPECT_EQ(header.offset, 4096U);
}

TEST(Queue, ConsumingMakesRoom) {
  Rig rig;
  rig.start_with_faults();
  const std::uint32_t size = rig.header().nb_entries;
  for (std::uint32_t i = 0; i < size; ++i) rig.fault(0x1000 * (i + 1ULL));
  EXPECT_EQ(rig.header().prod, size - 1) << "one slot stays empty, the last fault was dropped";
  ASSERT_EQ(rig.write_cons(3), 4);
  rig.fault(0xabc000);
  EXPECT_EQ(rig.header().prod, 0U) << "the index wraps at the queue size";
  rig.fault(0xabd000);
  EXPECT_EQ(rig.header().prod, 1U);
}

TEST(Queue, AFullQueueDropsInSilence) {
  Rig rig;
  rig.start_with_faults();
  const std::uint32_t size = rig.header().nb_entries;
  for (std::uint32_t i = 0; i < size + 20; ++i) rig.fault(0x1000);
  const auto header = rig.header();
  EXPECT_EQ(header.prod, size - 1);
  EXPECT_EQ(header.nb_entries, size);
}

TEST(Queue, NothingUnconsumedIsReplaced) {
  Rig rig;
  rig.start_with_faults();
  const std::uint32_t size = rig.header().nb_entries;
  for (std::uint32_t i = 0; i < size + 5; ++i) rig.fault(0x1000 * (i + 1ULL));
  const unsigned char* queue = rig.map_producer(4096, 4096);
  ASSERT_NE(queue, nullptr);
  for (std::uint32_t i = 0; i + 1 < size; ++i) {
    uapi::iommu_fault fault{};
    copy_from_shared(&fault, queue + i * 48UL, sizeof fault);
    ASSERT_EQ(fault.event.addr, 0x1000 * (i + 1ULL)) << "slot " << i;
  }
}

TEST(Queue, AnIndexOutOfRangeChangesNothing) {
  Rig rig;
  rig.start_with_faults();
  const std::uint32_t size = rig.header().nb_entries;
  // Full with the consumer at 5, so that any other index would make room.
  for (std::uint32_t i = 0; i < 5; ++i) rig.fault(0x1000);
  ASSERT_EQ(rig.write_cons(5), 4);
  for (std::uint32_t i = 0; i + 1 < size; ++i) rig.fault(0x1000);
  ASSERT_EQ(rig.header().prod, 4U);
  for (const std::uint32_t bad : {size, size + 1, 0x7fffffffU, 0xffffffffU}) {
    rig.write_cons(bad);
    rig.fault(0x2000);
    EXPECT_EQ(rig.header().prod, 4U) << "still full after cons = " << bad;
  }
  ASSERT_EQ(rig.write_cons(6), 4);
  rig.fault(0x2000);
  EXPECT_EQ(rig.header().prod, 5U);
}

}  // namespace
}  // namespace faultline::seed
