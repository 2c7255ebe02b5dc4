// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/vfio/device.h"

#include <gmock/gmock.h>

#include "kernel/vfio/fault_queue.h"
#include "tests/kernel/vfio_fixture.h"

namespace faultline::testing {
namespace {

using ::testing::HasSubstr;
using vfio::AbiChoice;

constexpr std::uint32_t kRead = uapi::kVfioRegionInfoFlagRead;
constexpr std::uint32_t kWrite = uapi::kVfioRegionInfoFlagWrite;
constexpr std::uint32_t kMmap = uapi::kVfioRegionInfoFlagMmap;
constexpr auto kProd = FakeVfio::kProdIndex;
constexpr auto kCons = FakeVfio::kConsIndex;

struct VfioDevice : VfioFixture {
  std::string queue_error(AbiChoice choice = AbiChoice::kAuto) {
    auto queue = vfio::open_fault_queue(devices.at(0), choice);
    return queue ? "" : queue.error().message();
  }
  void SetUp() override { ASSERT_EQ(open_device(), ""); }
};

TEST_F(VfioDevice, SaysWhichDeviceIsMissing) {
  const auto missing = Device::open(sys, *container, "0000:02:00.0");
  EXPECT_THAT(missing.error().message(), HasSubstr("0000:02:00.0"));
  EXPECT_THAT(missing.error().message(), HasSubstr("vfio-pci"));
}

TEST_F(VfioDevice, ClosesWhatIsNoDevice) {
  sys.inject(Call::kIoctl, 1, -ENOTTY, uapi::kVfioDeviceGetInfo);
  EXPECT_THAT(Device::open(sys, *container, "0000:01:00.0").error().message(),
              HasSubstr("not a VFIO device"));
}

TEST_F(VfioDevice, FindsRegionsByTypeAndSubtype) {
  const auto prod = devices[0].find_region(2, 1);
  ASSERT_TRUE(prod);
  EXPECT_EQ(prod->index, kProd);
  EXPECT_EQ(prod->size, 8192U);
  const auto cons = devices[0].find_region(2, 2);
  ASSERT_TRUE(cons);
  EXPECT_EQ(cons->index, kCons);
  EXPECT_THAT(devices[0].find_region(2, 3).error().message(), HasSubstr("no region of type 2"));
}

TEST_F(VfioDevice, GivesUpOnADescriptionThatGrowsWithEveryQuestion) {
  kernel.regions_grow = true;
  sys.forget_counts();
  EXPECT_THAT(devices[0].region(kProd).error().message(), HasSubstr("keeps growing"));
  EXPECT_LE(sys.count(uapi::kVfioDeviceGetRegionInfo), 8);
}

TEST_F(VfioDevice, FollowsADescriptionThatGrewOnce) {
  int asked = 0;
  const auto ioctl = sys.on_ioctl;
  sys.on_ioctl = [&](int fd, unsigned long request, void* argument) {
    if (request == uapi::kVfioDeviceGetRegionInfo && ++asked == 2) {
      kernel.region_override[kProd] = ChainBuilder()
                                          .add(99, 1, std::vector<std::uint32_t>(40))
                                          .type(2, 1)
                                          .answer(kProd, kRead, 8);
    }
    return ioctl(fd, request, argument);
  };
  const auto region = devices[0].region(kProd);
  ASSERT_TRUE(region) << region.error().message();
  EXPECT_EQ(asked, 3);
  EXPECT_EQ(region->subtype, 1U);
}

TEST_F(VfioDevice, RefusesADescriptionOfAbsurdSize) {
  sys.on_ioctl = [](int, unsigned long, void* argument) {
    static_cast<uapi::vfio_region_info*>(argument)->argsz = 1U << 30U;
    return 0;
  };
  EXPECT_THAT(devices[0].region(kProd).error().message(), HasSubstr("1073741824 bytes"));
}

TEST_F(VfioDevice, NamesTheDeviceWhenTheChainIsHostile) {
  auto bytes = ChainBuilder().type(2, 1).answer(kProd, kRead, 8192);
  bytes[36] = 33;  // the next capability
  kernel.region_override[kProd] = bytes;
  EXPECT_THAT(queue_error(), HasSubstr("0000:01:00.0"));
  EXPECT_THAT(queue_error(), HasSubstr("bad capability chain"));
}

TEST_F(VfioDevice, MapsABar) {
  EXPECT_TRUE(devices[0].map_region(0));
  EXPECT_THAT(devices[0].map_region(1).error().message(), HasSubstr("cannot be mapped"));
  sys.inject(Call::kMmap, 1, -ENOMEM);
  EXPECT_THAT(devices[0].map_region(0).error().message(), HasSubstr("mmap"));
}

TEST_F(VfioDevice, SetsTheFaultEventfd) {
  EXPECT_TRUE(devices[0].set_fault_eventfd(55));
  EXPECT_EQ(kernel.irq_eventfd, 55);
  EXPECT_TRUE(devices[0].set_fault_eventfd(-1));
  EXPECT_EQ(kernel.irq_eventfd, -1);
}

TEST_F(VfioDevice, SaysWhyTheFaultEventfdCannotBeSet) {
  kernel.irq_count = 0;
  EXPECT_THAT(devices[0].set_fault_eventfd(5).error().message(), HasSubstr("cannot signal"));
  kernel.irq_count = 1;
  kernel.irq_flags = 0;
  EXPECT_THAT(devices[0].set_fault_eventfd(5).error().message(), HasSubstr("cannot signal"));
  kernel.irq_flags = uapi::kVfioIrqInfoEventfd;
  sys.inject(Call::kIoctl, 1, -EINVAL, uapi::kVfioDeviceGetIrqInfo);
  EXPECT_THAT(devices[0].set_fault_eventfd(5).error().message(), HasSubstr("GET_IRQ_INFO"));
  sys.inject(Call::kIoctl, 1, -EBUSY, uapi::kVfioDeviceSetIrqs);
  EXPECT_THAT(devices[0].set_fault_eventfd(5).error().message(), HasSubstr("SET_IRQS"));
}

TEST_F(VfioDevice, SaysThatTheKernelDoesNotReportFaults) {
  kernel.num_irqs = uapi::kVfioPciDmaFaultIrqIndex;
  const auto old = Device::open(sys, *container, "0000:01:00.0");
  ASSERT_TRUE(old);
  EXPECT_THAT(const_cast<Device&>(*old).set_fault_eventfd(5).error().message(),
              HasSubstr("no DMA_FAULT interrupt"));
}

TEST_F(VfioDevice, NegotiatesVersion1WhereThatIsAll) {
  auto queue = vfio::open_fault_queue(devices[0]);
  ASSERT_TRUE(queue) << queue.error().message();
  EXPECT_EQ(queue->geometry.abi, 1U);
  EXPECT_EQ(queue->geometry.entries, 85U);
  EXPECT_EQ(queue->geometry.entry_size, 48U);
  EXPECT_TRUE(queue->negotiated_now);
  EXPECT_EQ(queue->producer.size(), 4096U);
  EXPECT_EQ(kernel.abi, 1U);
}

TEST_F(VfioDevice, NegotiatesTheHighestThatBothKnow) {
  kernel.max_abi = 2;
  auto queue = vfio::open_fault_queue(devices[0]);
  ASSERT_TRUE(queue) << queue.error().message();
  EXPECT_EQ(queue->geometry.abi, 2U);
  EXPECT_EQ(queue->geometry.entries, 1024U);
  EXPECT_EQ(queue->producer.size(), 17 * 4096U);
  EXPECT_TRUE(queue->consumer);
}

TEST_F(VfioDevice, NegotiatesVersion1WhereItIsChosen) {
  kernel.max_abi = 2;
  auto queue = vfio::open_fault_queue(devices[0], AbiChoice::kV1);
  ASSERT_TRUE(queue) << queue.error().message();
  EXPECT_EQ(queue->geometry.abi, 1U);
}

TEST_F(VfioDevice, RefusesAVersionThatTheKernelDoesNotOffer) {
  EXPECT_THAT(queue_error(AbiChoice::kV2), HasSubstr("offers 1 at most"));
  EXPECT_EQ(kernel.abi, 0U);
}

TEST_F(VfioDevice, NeverAsksForVersionZero) {
  kernel.region_override[kProd] = ChainBuilder()
                                      .type(2, 1)
                                      .producer_fault(0)
                                      .area(4096, 4096)
                                      .answer(kProd, kRead | kMmap, 8192);
  EXPECT_THAT(queue_error(), HasSubstr("ABI 0"));
  EXPECT_EQ(sys.count(Call::kPwrite), 0);
}

TEST_F(VfioDevice, TakesOverAnAbiThatWasChosenBefore) {
  ASSERT_EQ(queue_error(), "");
  sys.forget_counts();
  auto again = vfio::open_fault_queue(devices[0]);
  ASSERT_TRUE(again);
  EXPECT_FALSE(again->negotiated_now);
  EXPECT_EQ(sys.count(Call::kPwrite), 0);  // fixed once set
}

TEST_F(VfioDevice, ChoosesNothingWhenItCannotTellWhetherThatWasDone) {
  ASSERT_EQ(queue_error(), "");
  kernel.cons1 = 7;
  sys.forget_counts();
  sys.inject(Call::kPread, 1, -EINTR);
  EXPECT_THAT(queue_error(), HasSubstr("cannot read the producer header"));
  EXPECT_EQ(sys.count(Call::kPwrite), 0);
  EXPECT_EQ(kernel.cons1, 7U);
}

TEST_F(VfioDevice, SaysThatAnotherAbiIsFixedAlready) {
  kernel.max_abi = 2;
  ASSERT_EQ(queue_error(AbiChoice::kV1), "");
  EXPECT_THAT(queue_error(AbiChoice::kV2), HasSubstr("ABI 1 is in force"));
  auto automatic = vfio::open_fault_queue(devices[0]);
  ASSERT_TRUE(automatic);
  EXPECT_EQ(automatic->geometry.abi, 1U);
}

TEST_F(VfioDevice, ReportsANegotiationThatIsRefusedOrCutShort) {
  sys.inject(Call::kPwrite, 1, -EINVAL);
  EXPECT_THAT(queue_error(), HasSubstr("refused fault ABI 1"));
  sys.inject(Call::kPwrite, 1, 4);
  EXPECT_THAT(queue_error(), HasSubstr("took 4 of 8"));
  sys.inject(Call::kPread, 2, -EIO);
  EXPECT_THAT(queue_error(), HasSubstr("cannot read the producer header"));
  sys.inject(Call::kPread, 1, 19);
  EXPECT_THAT(queue_error(), HasSubstr("only 19 bytes"));
  sys.inject(Call::kMmap, 1, -EINVAL);
  EXPECT_THAT(queue_error(), HasSubstr("fault queue: mmap"));
}

TEST_F(VfioDevice, SaysWhichRegionIsMissing) {
  kernel.region_override[kCons] = ChainBuilder().answer(kCons, kWrite, 8);
  EXPECT_THAT(queue_error(), HasSubstr("no consumer fault region"));
  kernel.region_override[kProd] = ChainBuilder().answer(kProd, kRead, 8192);
  EXPECT_THAT(queue_error(), HasSubstr("no producer fault region"));
}

TEST_F(VfioDevice, NeedsTheProducerFaultCapability) {
  kernel.region_override[kProd] =
      ChainBuilder().type(2, 1).area(4096, 4096).answer(kProd, kRead | kMmap, 8192);
  EXPECT_THAT(queue_error(), HasSubstr("no PRODUCER_FAULT"));
}

TEST_F(VfioDevice, TellsLaterRevisionsByTheirRegions) {
  const auto good = ChainBuilder().type(2, 1).producer_fault(1).area(4096, 4096);
  kernel.region_override[kProd] = good.answer(kProd, kRead | kWrite | kMmap, 9 * 4096);
  EXPECT_THAT(queue_error(), HasSubstr("v9 or later"));
  kernel.region_override[kProd] = good.answer(kProd, kMmap, 8192);
  EXPECT_THAT(queue_error(), HasSubstr("cannot be read"));
  kernel.region_override.erase(kProd);
  kernel.region_override[kCons] = ChainBuilder().type(2, 2).answer(kCons, kWrite | kMmap, 16384);
  EXPECT_THAT(queue_error(), HasSubstr("v9 or later"));
  kernel.region_override[kCons] = ChainBuilder().type(2, 2).answer(kCons, kRead, 8);
  EXPECT_THAT(queue_error(), HasSubstr("cannot be written"));
}

TEST_F(VfioDevice, RefusesGeometryThatMakesNoSense) {
  using Header = uapi::vfio_region_fault_prod;
  constexpr std::uint32_t kUnset = 0xffffffffU;
  for (const Header header : {
           Header{kUnset, 85, 47, 4096, 0},         // smaller than a record
           Header{kUnset, 85, 50, 4096, 0},         // slots not aligned
           Header{kUnset, 85, 1U << 31U, 4096, 0},  // absurd
           Header{kUnset, 0, 48, 4096, 0},          // nothing
           Header{kUnset, 1, 48, 4096, 0},          // one slot is always empty
           Header{kUnset, kUnset, 48, 4096, 0},     // absurd
           Header{kUnset, 85, 48, 0, 0},            // over the header
           Header{kUnset, 85, 48, 4097, 0},         // misaligned
           Header{kUnset, 85, 48, 4096 + 48, 0},    // leaves its area
           Header{kUnset, 86, 48, 4096, 0},         // leaves its area
           Header{kUnset, 85, 48, 0xfffff000U, 0},  // far outside
           Header{kUnset, 85, 48, 24, 0},           // in the page that is not mappable
       }) {
    kernel.header_override = header;
    EXPECT_THAT(queue_error(), HasSubstr("makes no sense"))
        << header.nb_entries << " of " << header.entry_size << " at " << header.offset;
  }
  kernel.header_override.reset();
  EXPECT_EQ(queue_error(), "");
}

TEST_F(VfioDevice, TakesAnyGeometryThatDoes) {
  kernel.header_override = {0xffffffffU, 50, 72, 4096 + 16, 0};
  auto queue = vfio::open_fault_queue(devices[0]);
  ASSERT_TRUE(queue) << queue.error().message();
  EXPECT_EQ(queue->ring(), queue->producer.data() + 16);
}

TEST_F(VfioDevice, RefusesAVersion2RingThatIsNoPowerOfTwoOrHasOtherRecords) {
  kernel.max_abi = 2;
  kernel.header_override = {2, 1000, 64, 4096, 0};
  EXPECT_THAT(queue_error(), HasSubstr("power of two"));
  kernel.header_override = {2, 512, 128, 4096, 0};
  EXPECT_THAT(queue_error(), HasSubstr("instead of 64"));
  kernel.header_override = {2, 512, 64, 4096 + 64, 0};
  EXPECT_THAT(queue_error(), HasSubstr("at offset"));
  kernel.header_override = {2, 2048, 64, 4096, 0};
  EXPECT_THAT(queue_error(), HasSubstr("not in one mappable area"));
}

TEST_F(VfioDevice, RefusesAMappableAreaThatIsNotMadeOfPages) {
  kernel.region_override[kProd] = ChainBuilder()
                                      .type(2, 1)
                                      .producer_fault(1)
                                      .area(4096, 4090)
                                      .answer(kProd, kRead | kMmap, 8192);
  EXPECT_THAT(queue_error(), HasSubstr("not made of pages"));
}

TEST_F(VfioDevice, NeedsAMappableConsumerPageForVersion2) {
  kernel.max_abi = 2;
  kernel.region_override[kCons] = ChainBuilder().type(2, 2).answer(kCons, kWrite, 8);
  EXPECT_THAT(queue_error(), HasSubstr("consumer index cannot be mapped"));
  kernel.region_override.clear();
  sys.inject(Call::kMmap, 2, -EPERM);
  EXPECT_THAT(queue_error(), HasSubstr("consumer index: mmap"));
}

}  // namespace
}  // namespace faultline::testing
