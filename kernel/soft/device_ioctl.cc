// SPDX-License-Identifier: BSD-3-Clause
// The ioctls of a device file.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "kernel/base/units.h"
#include "kernel/soft/files.h"
#include "kernel/uapi/vfio_nested.h"

namespace faultline::soft {
namespace {

constexpr std::uint32_t kIrqInfoNoResize = 1U << 3U;
constexpr std::uint16_t kCapVersion = 1;

/// A chain of capabilities as vfio_info_cap_add() makes it: packed, each pointing to the next,
/// offsets from the start of vfio_region_info.
class Chain {
 public:
  template <class Cap>
  void add(std::uint16_t id, Cap cap) {
    const auto at = static_cast<std::uint32_t>(sizeof(uapi::vfio_region_info) + bytes_.size());
    if (!bytes_.empty()) {
      std::memcpy(&bytes_[last_ + offsetof(uapi::vfio_info_cap_header, next)], &at, sizeof at);
    }
    last_ = bytes_.size();
    cap.header = {id, kCapVersion, 0};
    append(&cap, sizeof cap);
  }
  /// What follows the struct of the capability added last.
  void append(const void* from, std::size_t size) {
    const auto* bytes = static_cast<const std::byte*>(from);
    bytes_.insert(bytes_.end(), bytes, bytes + size);
  }
  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
  std::size_t last_ = 0;
};

}  // namespace

int DeviceFile::ioctl(unsigned long request, UserCall& call) noexcept {
  switch (request) {
    case uapi::kVfioDeviceGetInfo:
      return get_info(call);
    case uapi::kVfioDeviceGetRegionInfo:
      return get_region_info(call);
    case uapi::kVfioDeviceGetIrqInfo:
      return get_irq_info(call);
    case uapi::kVfioDeviceSetIrqs:
      return set_irqs(call);
    case uapi::kVfioDeviceReset:
      device_.reset();
      return 0;
    default:
      return -ENOTTY;
  }
}

int DeviceFile::get_info(UserCall& call) {
  uapi::vfio_device_info info{};
  if (const int e = copy_argument(call, info, kernel_.config().mutation); e != 0) return e;
  info.flags = uapi::kVfioDeviceFlagsReset | uapi::kVfioDeviceFlagsPci;
  info.num_regions = kRegions;
  info.num_irqs = uapi::kVfioPciNumIrqs;
  return call.copy_out(0, &info, sizeof info);
}

std::vector<std::byte> DeviceFile::capabilities(std::uint32_t index) {
  FaultPort& port = device_.port();
  const bool producer = index == kProducer;
  const bool as_producer = producer != mutated(Mutation::kWrongSubtype);
  const std::uint32_t subtype = as_producer ? uapi::kVfioRegionSubtypeNestedFaultProd
                                            : uapi::kVfioRegionSubtypeNestedFaultCons;
  Chain chain;
  chain.add(uapi::kVfioRegionInfoCapType,
            uapi::vfio_region_info_cap_type{{}, uapi::kVfioRegionTypeNested, subtype});
  const bool mappable = producer || kernel_.config().max_fault_abi >= 2;
  if (mappable && !mutated(Mutation::kNoSparseCapability)) {
    uapi::vfio_region_sparse_mmap_area area{0, port.consumer_size()};
    if (producer) area = {kPage4K, kPage4K};
    if (producer && port.abi() == 2) area = {0, port.producer_size()};
    chain.add(uapi::kVfioRegionInfoCapSparseMmap, uapi::vfio_region_info_cap_sparse_mmap{{}, 1, 0});
    chain.append(&area, sizeof area);
  }
  if (producer && !mutated(Mutation::kNoFaultCapability)) {
    chain.add(uapi::kVfioRegionInfoCapProducerFault,
              uapi::vfio_region_info_cap_fault{{}, kernel_.config().max_fault_abi});
  }
  return chain.take();
}

int DeviceFile::get_region_info(UserCall& call) {
  uapi::vfio_region_info info{};
  if (const int e = copy_argument(call, info, kernel_.config().mutation); e != 0) return e;
  constexpr std::uint32_t kVga = 8;
  if (info.index >= kRegions || info.index == kVga) return -EINVAL;
  info.flags = 0;
  info.cap_offset = 0;
  info.size = 0;
  info.offset = std::uint64_t{info.index} << kOffsetShift;
  std::vector<std::byte> caps;
  switch (info.index) {
    case kBar:
      info.size = device_.bar().size();
      info.flags = uapi::kVfioRegionInfoFlagRead | uapi::kVfioRegionInfoFlagWrite |
                   uapi::kVfioRegionInfoFlagMmap;
      break;
    case kConfig:
      info.size = 256;
      info.flags = uapi::kVfioRegionInfoFlagRead | uapi::kVfioRegionInfoFlagWrite;
      break;
    case kProducer:
      info.size = device_.port().producer_size();
      info.flags = uapi::kVfioRegionInfoFlagRead | uapi::kVfioRegionInfoFlagMmap;
      if (mutated(Mutation::kProducerWritable)) info.flags |= uapi::kVfioRegionInfoFlagWrite;
      caps = capabilities(info.index);
      break;
    case kConsumer:
      info.size = device_.port().consumer_size();
      info.flags = uapi::kVfioRegionInfoFlagWrite;
      if (kernel_.config().max_fault_abi >= 2) info.flags |= uapi::kVfioRegionInfoFlagMmap;
      caps = capabilities(info.index);
      break;
    default:
      break;
  }
  if (!caps.empty()) {
    const auto needed = static_cast<std::uint32_t>(sizeof info + caps.size());
    info.flags |= uapi::kVfioRegionInfoFlagCaps;
    if (info.argsz < needed) {
      info.argsz = needed;  // the caller comes again with as much
    } else {
      if (const int e = call.copy_out(sizeof info, caps.data(), caps.size()); e != 0) return e;
      info.cap_offset = sizeof info;
    }
  }
  return call.copy_out(0, &info, sizeof info);
}

int DeviceFile::get_irq_info(UserCall& call) {
  uapi::vfio_irq_info info{};
  if (const int e = copy_argument(call, info, kernel_.config().mutation); e != 0) return e;
  if (info.index >= uapi::kVfioPciNumIrqs) return -EINVAL;
  info.flags = uapi::kVfioIrqInfoEventfd | kIrqInfoNoResize;
  info.count = info.index == uapi::kVfioPciDmaFaultIrqIndex ? 1 : 0;
  return call.copy_out(0, &info, sizeof info);
}

int DeviceFile::set_irqs(UserCall& call) {
  constexpr std::uint32_t kData =
      uapi::kVfioIrqSetDataNone | uapi::kVfioIrqSetDataBool | uapi::kVfioIrqSetDataEventfd;
  constexpr std::uint32_t kAction =
      uapi::kVfioIrqSetActionMask | uapi::kVfioIrqSetActionUnmask | uapi::kVfioIrqSetActionTrigger;
  uapi::vfio_irq_set set{};
  if (const int e = copy_argument(call, set, kernel_.config().mutation); e != 0) return e;
  if (set.index >= uapi::kVfioPciNumIrqs || set.count >= UINT32_MAX - set.start) return -EINVAL;
  if ((set.flags & ~(kData | kAction)) != 0 && !mutated(Mutation::kFlagsUnchecked)) return -EINVAL;
  const std::uint32_t max = set.index == uapi::kVfioPciDmaFaultIrqIndex ? 1 : 0;
  if (set.start >= max || set.start + set.count > max) return -EINVAL;
  const std::uint32_t data = set.flags & kData;
  std::size_t element = 0;
  switch (data) {
    case uapi::kVfioIrqSetDataNone:
      break;
    case uapi::kVfioIrqSetDataBool:
      element = sizeof(std::uint8_t);
      break;
    case uapi::kVfioIrqSetDataEventfd:
      element = sizeof(std::int32_t);
      break;
    default:
      return -EINVAL;
  }
  if (set.argsz - sizeof set < set.count * element && !mutated(Mutation::kArgszUnchecked)) {
    return -EINVAL;
  }
  // Masking is not offered for this index.
  if ((set.flags & kAction) != uapi::kVfioIrqSetActionTrigger) return -ENOTTY;
  return set_dma_fault_irq(data, set.count, call);
}

// vfio_pci_set_ctx_trigger_single(): the three kinds of data, with and without an eventfd in place.
int DeviceFile::set_dma_fault_irq(std::uint32_t data, std::uint32_t count, UserCall& call) {
  FaultPort& port = device_.port();
  if (data == uapi::kVfioIrqSetDataNone) {
    if (!port.has_trigger()) return -EINVAL;
    if (count > 0) {
      port.signal();
    } else {
      port.set_trigger(-1);
    }
    return 0;
  }
  if (count == 0) return -EINVAL;
  if (data == uapi::kVfioIrqSetDataBool) {
    std::uint8_t fire = 0;
    if (const int e = call.copy_in(sizeof(uapi::vfio_irq_set), &fire, sizeof fire); e != 0)
      return e;
    if (fire != 0) port.signal();
    return 0;
  }
  std::int32_t fd = -1;
  if (const int e = call.copy_in(sizeof(uapi::vfio_irq_set), &fd, sizeof fd); e != 0) return e;
  if (fd < -1) return -EINVAL;
  int own = -1;
  if (fd >= 0) {
    own = call.eventfd(fd);
    if (own < 0) return own;
  }
  port.set_trigger(own);
  return 0;
}

}  // namespace faultline::soft
