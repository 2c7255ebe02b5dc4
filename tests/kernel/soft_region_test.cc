// SPDX-License-Identifier: BSD-3-Clause
// Regions and interrupts of a device: information, capability chains, negotiation, mapping.
#include <cerrno>
#include <cstring>
#include <map>

#include "kernel/uapi/fault_abi2.h"
#include "tests/kernel/soft_worlds.h"

namespace faultline::soft {
namespace {

SoftKernelConfig abi1_only() {
  SoftKernelConfig config = one_device();
  config.max_fault_abi = 1;
  return config;
}

struct Region {
  int result = 0;
  uapi::vfio_region_info info{};
  std::map<std::uint16_t, std::vector<std::byte>> caps;  ///< by id, from the header on

  [[nodiscard]] std::uint32_t word(std::uint16_t id, std::size_t at) const {
    std::uint32_t w = 0;
    std::memcpy(&w, caps.at(id).data() + at, sizeof w);
    return w;
  }
  [[nodiscard]] uapi::vfio_region_sparse_mmap_area area() const {
    uapi::vfio_region_sparse_mmap_area a{};
    std::memcpy(&a, caps.at(uapi::kVfioRegionInfoCapSparseMmap).data() + 16, sizeof a);
    return a;
  }
};

template <class R>
Region region(R& rig, std::uint32_t index, std::uint32_t argsz = 512) {
  alignas(8) std::byte buffer[512] = {};
  Region r;
  r.info.argsz = argsz;
  r.info.index = index;
  std::memcpy(buffer, &r.info, sizeof r.info);
  r.result = rig.sys.ioctl(rig.device, uapi::kVfioDeviceGetRegionInfo, buffer);
  std::memcpy(&r.info, buffer, sizeof r.info);
  if (r.result != 0) return r;
  std::uint32_t at = r.info.cap_offset;
  for (int i = 0; at != 0 && i < 10; ++i) {
    uapi::vfio_info_cap_header h{};
    std::memcpy(&h, buffer + at, sizeof h);
    r.caps[h.id].assign(buffer + at, buffer + sizeof buffer);
    EXPECT_EQ(h.version, 1U);
    at = h.next;
  }
  return r;
}

template <class Where>
class SoftRegion : public testing::Test {};
TYPED_TEST_SUITE(SoftRegion, Worlds);

TYPED_TEST(SoftRegion, DeviceInfoCountsTheFaultRegionsAndInterrupt) {
  Rig<TypeParam> rig;
  uapi::vfio_device_info info{sizeof info, 0, 0, 0};
  EXPECT_EQ(rig.sys.ioctl(rig.device, uapi::kVfioDeviceGetInfo, &info), 0);
  EXPECT_EQ(info.num_regions, 11U);
  EXPECT_EQ(info.num_irqs, 6U);
  EXPECT_EQ(info.flags, uapi::kVfioDeviceFlagsPci | uapi::kVfioDeviceFlagsReset);
  info.argsz = 15;
  EXPECT_EQ(rig.sys.ioctl(rig.device, uapi::kVfioDeviceGetInfo, &info), -EINVAL);
}

TYPED_TEST(SoftRegion, V7RegionsHaveTheSizesOfV7) {
  Rig<TypeParam> rig(abi1_only());
  const Region prod = region(rig, 9);
  EXPECT_EQ(prod.info.size, 8192U);
  EXPECT_EQ(prod.info.offset, std::uint64_t{9} << 40U);
  EXPECT_EQ(prod.info.flags, uapi::kVfioRegionInfoFlagRead | uapi::kVfioRegionInfoFlagMmap |
                                 uapi::kVfioRegionInfoFlagCaps);
  EXPECT_EQ(prod.word(uapi::kVfioRegionInfoCapType, 8), uapi::kVfioRegionTypeNested);
  EXPECT_EQ(prod.word(uapi::kVfioRegionInfoCapType, 12), uapi::kVfioRegionSubtypeNestedFaultProd);
  EXPECT_EQ(prod.word(uapi::kVfioRegionInfoCapProducerFault, 8), 1U);
  EXPECT_EQ(prod.word(uapi::kVfioRegionInfoCapSparseMmap, 8), 1U);
  EXPECT_EQ(prod.area().offset, 4096U);
  EXPECT_EQ(prod.area().size, 4096U);
  const Region cons = region(rig, 10);
  EXPECT_EQ(cons.info.size, 8U);
  EXPECT_EQ(cons.info.flags, uapi::kVfioRegionInfoFlagWrite | uapi::kVfioRegionInfoFlagCaps);
  EXPECT_EQ(cons.word(uapi::kVfioRegionInfoCapType, 12), uapi::kVfioRegionSubtypeNestedFaultCons);
  EXPECT_FALSE(cons.caps.contains(uapi::kVfioRegionInfoCapSparseMmap));
}

TYPED_TEST(SoftRegion, TooSmallArgszTellsHowMuchIsNeeded) {
  Rig<TypeParam> rig;
  EXPECT_EQ(region(rig, 9, 31).result, -EINVAL);
  const Region small = region(rig, 9, 32);
  EXPECT_EQ(small.result, 0);
  EXPECT_EQ(small.info.cap_offset, 0U);
  EXPECT_NE(small.info.flags & uapi::kVfioRegionInfoFlagCaps, 0U);
  ASSERT_GT(small.info.argsz, 32U);
  EXPECT_EQ(region(rig, 9, small.info.argsz - 1).info.cap_offset, 0U);
  EXPECT_EQ(region(rig, 9, small.info.argsz).caps.size(), 3U);
}

TYPED_TEST(SoftRegion, OtherRegionsAreTheBarAConfigSpaceAndNothing) {
  Rig<TypeParam> rig;
  EXPECT_EQ(region(rig, 0).info.size, kDmaBarSize);
  EXPECT_EQ(region(rig, 1).info.size, 0U);
  EXPECT_EQ(region(rig, 7).info.size, 256U);
  EXPECT_EQ(region(rig, 8).result, -EINVAL);
  EXPECT_EQ(region(rig, 11).result, -EINVAL);
  std::uint32_t magic = 0;
  EXPECT_EQ(rig.sys.pread(rig.device, &magic, 4, 0), 4);
  EXPECT_EQ(magic, kDmaBarMagic);
  EXPECT_EQ(rig.sys.pread(rig.device, &magic, 4, off_t{11} << 40U), -EINVAL);
  EXPECT_EQ(rig.sys.pread(rig.device, &magic, 4, off_t{1} << 40U), -EINVAL);
}

TYPED_TEST(SoftRegion, TheProducerCannotBeReadBeforeAnAbiIsChosen) {
  Rig<TypeParam> rig;
  std::byte header[20];
  EXPECT_EQ(rig.sys.pread(rig.device, header, 20, rig.kProd), -EINVAL);
  EXPECT_EQ(rig.choose(1), 4);
  EXPECT_EQ(rig.sys.pread(rig.device, header, 20, rig.kProd), 20);
  EXPECT_EQ(rig.sys.pread(rig.device, header, 8, rig.kCons), 0);
  EXPECT_EQ(rig.sys.pwrite(rig.device, header, 8, rig.kProd), 0);
}

TYPED_TEST(SoftRegion, TheAbiIsChosenOnceAndWithinWhatIsOffered) {
  Rig<TypeParam> rig;
  EXPECT_EQ(rig.choose(0), -EINVAL);
  EXPECT_EQ(rig.choose(3), -EINVAL);
  EXPECT_EQ(rig.choose(1), 4);
  EXPECT_EQ(rig.choose(1), 4);
  EXPECT_EQ(rig.choose(2), -EINVAL);
  EXPECT_EQ(rig.header().nb_entries, 85U);
  EXPECT_EQ(rig.header().entry_size, 48U);
  EXPECT_EQ(rig.header().offset, 4096U);
  EXPECT_EQ(rig.header().version, uapi::kVfioRegionFaultVersionUnset);
}

TYPED_TEST(SoftRegion, Abi2IsNotToBeHadWhereItIsNotOffered) {
  Rig<TypeParam> rig(abi1_only());
  EXPECT_EQ(rig.choose(2), -EINVAL);
  EXPECT_EQ(rig.choose(1), 4);
}

TYPED_TEST(SoftRegion, OnlyTheQueuePageIsMappedWithAbi1) {
  Rig<TypeParam> rig;
  rig.choose(1);
  const auto mmap = [&](std::size_t size, off_t at, int prot) {
    return rig.sys.mmap(nullptr, size, prot, MAP_SHARED, rig.device, at);
  };
  EXPECT_EQ(mmap(4096, rig.kProd, PROT_READ), -EINVAL);
  EXPECT_EQ(mmap(8192, rig.kProd, PROT_READ), -EINVAL);
  EXPECT_EQ(mmap(8192, rig.kProd + 4096, PROT_READ), -EINVAL);
  EXPECT_EQ(mmap(4096, rig.kProd + 4096, PROT_READ | PROT_WRITE), -EINVAL);
  const std::intptr_t queue = mmap(4096, rig.kProd + 4096, PROT_READ);
  ASSERT_FALSE(mmap_failed(queue));
  // Nor can it be made writable later.
  EXPECT_NE(mprotect(reinterpret_cast<void*>(queue), 4096, PROT_READ | PROT_WRITE), 0);
  rig.sys.munmap(reinterpret_cast<void*>(queue), 4096);
}

TYPED_TEST(SoftRegion, WithAbi2BothRegionsAreMappedWhole) {
  Rig<TypeParam> rig;
  EXPECT_EQ(region(rig, 9).area().offset, 4096U);  // as long as nothing is chosen
  EXPECT_EQ(rig.choose(2), 4);
  const Region prod = region(rig, 9);
  EXPECT_EQ(prod.info.size, 17U * 4096);
  EXPECT_EQ(prod.area().offset, 0U);
  EXPECT_EQ(prod.area().size, 17U * 4096);
  EXPECT_EQ(prod.word(uapi::kVfioRegionInfoCapProducerFault, 8), 2U);
  EXPECT_EQ(region(rig, 10).area().size, 4096U);
  const auto* header = static_cast<const uapi::vfio_region_fault_prod2*>(
      rig.map(rig.device, 17 * 4096, rig.kProd, PROT_READ));
  EXPECT_EQ(load_acquire(header->version), 2U);
  EXPECT_EQ(load_acquire(header->nb_entries), 1024U);
  rig.map(rig.device, 4096, rig.kCons, PROT_READ | PROT_WRITE);
}

TYPED_TEST(SoftRegion, TheFaultInterruptIsIndexFive) {
  Rig<TypeParam> rig;
  uapi::vfio_irq_info info{sizeof info, 0, 5, 0};
  EXPECT_EQ(rig.sys.ioctl(rig.device, uapi::kVfioDeviceGetIrqInfo, &info), 0);
  EXPECT_EQ(info.count, 1U);
  EXPECT_NE(info.flags & uapi::kVfioIrqInfoEventfd, 0U);
  info.index = 6;
  EXPECT_EQ(rig.sys.ioctl(rig.device, uapi::kVfioDeviceGetIrqInfo, &info), -EINVAL);
}

TYPED_TEST(SoftRegion, SetIrqsRefusesWhatV7Refuses) {
  Rig<TypeParam> rig;
  struct {
    uapi::vfio_irq_set set;
    std::int32_t fd;
  } a{};
  const int fd = rig.sys.eventfd(0, EFD_NONBLOCK);
  const auto set = [&](std::uint32_t flags, std::uint32_t index, std::uint32_t start,
                       std::uint32_t count, std::int32_t number, std::uint32_t argsz = sizeof a) {
    a = {{argsz, flags, index, start, count}, number};
    return rig.sys.ioctl(rig.device, uapi::kVfioDeviceSetIrqs, &a);
  };
  constexpr std::uint32_t kTrigger = uapi::kVfioIrqSetActionTrigger;
  constexpr std::uint32_t kFd = uapi::kVfioIrqSetDataEventfd | kTrigger;
  EXPECT_EQ(set(kFd, 5, 1, 1, fd), -EINVAL);
  EXPECT_EQ(set(kFd, 5, 0, 2, fd), -EINVAL);
  EXPECT_EQ(set(kFd, 4, 0, 1, fd), -EINVAL);
  EXPECT_EQ(set(kFd, 6, 0, 1, fd), -EINVAL);
  EXPECT_EQ(set(kFd, 5, 0, 0, fd), -EINVAL);
  EXPECT_EQ(set(kFd | 1, 5, 0, 1, fd), -EINVAL);
  EXPECT_EQ(set(kFd | 0x100, 5, 0, 1, fd), -EINVAL);
  EXPECT_EQ(set(kFd, 5, 0, 1, fd, sizeof a.set), -EINVAL);
  EXPECT_EQ(set(uapi::kVfioIrqSetDataEventfd | uapi::kVfioIrqSetActionMask, 5, 0, 1, fd), -ENOTTY);
  EXPECT_EQ(set(kFd, 5, 0, 1, rig.device), TypeParam::kForeignDescriptor);
  EXPECT_EQ(set(kFd, 5, 0, 1, 1 << 22), -EBADF);
  EXPECT_EQ(set(uapi::kVfioIrqSetDataNone | kTrigger, 5, 0, 1, 0), -EINVAL);  // nothing to signal
  EXPECT_EQ(set(kFd, 5, 0, 1, fd), 0);
  EXPECT_EQ(set(uapi::kVfioIrqSetDataNone | kTrigger, 5, 0, 1, 0), 0);
  EXPECT_EQ(set(uapi::kVfioIrqSetDataBool | kTrigger, 5, 0, 1, 1), 0);
  std::uint64_t signals = 0;
  EXPECT_EQ(rig.sys.read(fd, &signals, sizeof signals), 8);
  EXPECT_EQ(signals, 2U);
  EXPECT_EQ(set(kFd, 5, 0, 1, -1), 0);
  EXPECT_EQ(set(uapi::kVfioIrqSetDataNone | kTrigger, 5, 0, 1, 0), -EINVAL);
  rig.sys.close(fd);
}

TYPED_TEST(SoftRegion, ResetEmptiesTheBar) {
  Rig<TypeParam> rig;
  rig.read(rig.kRam);
  EXPECT_EQ(rig.sys.ioctl(rig.device, uapi::kVfioDeviceReset, nullptr), 0);
  EXPECT_EQ(load_acquire(dma_header(rig.bar).completion_head), 0U);
  rig.dma = std::make_unique<DmaClient>(rig.bar);
  EXPECT_EQ(rig.read(rig.kRam).status, DmaStatus::kOk);
}

TYPED_TEST(SoftRegion, ANewOpenOfTheDeviceStartsWithoutAbi) {
  Rig<TypeParam> rig;
  EXPECT_EQ(rig.choose(1), 4);
  rig.sys.close(rig.device);
  rig.device = rig.calls.get_device(rig.group, "0000:00:01.0");
  std::byte header[20];
  EXPECT_EQ(rig.sys.pread(rig.device, header, 20, rig.kProd), -EINVAL);
  EXPECT_EQ(rig.choose(2), 4);
}

}  // namespace
}  // namespace faultline::soft
