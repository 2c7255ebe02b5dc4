// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernel/base/shared.h"
#include "kernel/uapi/fault_abi2.h"
#include "kernel/uapi/vfio_nested.h"
#include "tests/kernel/chain_builder.h"
#include "tests/support/scripted_sys.h"

namespace faultline::testing {

/// A v7 kernel with one group and one device, written down independently rather than shared with
/// kernel/soft; knobs make it err. Faults come from produce…(); the truth of what it dropped is
/// kept.
class FakeVfio {
 public:
  static constexpr std::uint32_t kProdIndex = 9;
  static constexpr std::uint32_t kConsIndex = 10;
  static constexpr std::uint32_t kPage = 4096;
  static constexpr std::uint32_t kEntries1 = kPage / 48;

  // ---- knobs ----
  int api_version = 0;
  int nesting = 1;
  std::uint32_t group_flags = uapi::kVfioGroupFlagsViable;
  bool v8 = false;         ///< refuses the plain ASID
  bool tlb_domain = true;  ///< off with the next two: v7 as it was
  bool cd_cache = true;
  bool dev_iotlb = true;
  std::uint32_t max_abi = 1;
  bool masked = true;             ///< ABI 1: v7's full rule
  std::uint32_t entries2 = 1024;  ///< ABI 2
  std::uint32_t num_irqs = uapi::kVfioPciNumIrqs;
  std::uint32_t irq_flags = uapi::kVfioIrqInfoEventfd;
  std::uint32_t irq_count = 1;
  std::optional<uapi::vfio_region_fault_prod> header_override;
  /// Instead of what the kernel would answer for a region.
  std::map<std::uint32_t, std::vector<unsigned char>> region_override;
  bool regions_grow = false;  ///< every answer is one capability longer than was said

  // ---- state ----
  std::uint32_t abi = 0;
  std::uint32_t prod1 = 0, cons1 = 0;
  std::uint32_t stage1_binds = 0;
  int irq_eventfd = -1;
  std::uint64_t dropped = 0;
  std::uint64_t produced = 0;
  std::vector<uapi::vfio_iommu_type1_cache_invalidate> invalidations;
  std::vector<uapi::vfio_iommu_type1_attach_pasid_table> binds;

  explicit FakeVfio(ScriptedSys& sys) : sys_(sys), memory_(new Memory) {
    std::memset(memory_.get(), 0, sizeof(Memory));
    sys.on_open = [this](const std::string& path) { return open(path); };
    sys.on_ioctl = [this](int fd, unsigned long r, void* a) { return ioctl(fd, r, a); };
    sys.on_mmap = [this](int, std::size_t size, int, std::uint64_t at) { return mmap(size, at); };
    sys.on_pread = [this](int, void* out, std::size_t n, std::uint64_t at) {
      return pread(out, n, at);
    };
    sys.on_pwrite = [this](int, const void* in, std::size_t n, std::uint64_t at) {
      return pwrite(in, n, at);
    };
  }

  // ---- the producer ----

  /// A record whose address tells which one it is; `same` makes all bytes equal from fault to
  /// fault.
  static uapi::iommu_fault fault(std::uint64_t tag) {
    uapi::iommu_fault f{};
    f.type = uapi::kIommuFaultDmaUnrecov;
    f.event.reason = 5;
    f.event.flags = uapi::kIommuFaultUnrecovAddrValid | uapi::kIommuFaultUnrecovPermValid;
    f.event.perm = uapi::kIommuFaultPermWrite;
    f.event.addr = tag;
    return f;
  }

  [[nodiscard]] bool full1() const {
    if (masked) return ((cons1 - prod1 - 1U) & (kEntries1 - 1U)) == 0;
    return (prod1 + 1) % kEntries1 == cons1;
  }
  void write_slot1(const uapi::iommu_fault& f) {
    std::array<std::uint64_t, 6> words{};
    std::memcpy(words.data(), &f, sizeof f);
    copy_to_shared(memory_->prod + kPage + prod1 * std::size_t{48}, words.data(), 48);
  }
  void publish1(bool signal = true) {
    prod1 = (prod1 + 1) % kEntries1;
    ++produced;
    if (signal) sys_.signal(irq_eventfd);
  }
  /// False: dropped, in silence.
  bool produce1(const uapi::iommu_fault& f) {
    if (abi != 1 || full1()) {
      ++dropped;
      return false;
    }
    write_slot1(f);
    publish1();
    return true;
  }
  bool produce1(std::uint64_t tag) { return produce1(fault(tag)); }

  [[nodiscard]] uapi::vfio_region_fault_prod2& header2() {
    return *reinterpret_cast<uapi::vfio_region_fault_prod2*>(memory_->prod);
  }
  [[nodiscard]] uapi::vfio_region_fault_cons2& cons2() {
    return *reinterpret_cast<uapi::vfio_region_fault_cons2*>(memory_->cons);
  }
  [[nodiscard]] uapi::vfio_fault_record2& slot2(std::uint64_t n) {
    return reinterpret_cast<uapi::vfio_fault_record2*>(memory_->prod + kPage)[n & (entries2 - 1)];
  }
  bool produce2(std::uint64_t tag) {
    auto& h = header2();
    const std::uint64_t c = load_acquire(cons2().cons);
    if (h.prod - c <= entries2) good_cons2_ = c;
    if (h.prod - good_cons2_ >= entries2) {
      store_release(h.lost, h.lost + 1);
      ++dropped;
      return false;
    }
    uapi::vfio_fault_record2 r{};
    r.sequence = h.prod + h.lost;
    r.event[0] = 0x10;
    r.event[2] = tag;
    copy_to_shared(&slot2(h.prod), &r, sizeof r);
    store_release(h.prod, h.prod + 1);
    ++produced;
    return true;
  }

 private:
  struct alignas(kPage) Memory {
    unsigned char prod[17 * kPage];
    unsigned char cons[kPage];
    unsigned char bar[2 * kPage];
  };

  int open(const std::string& path) {
    if (path == "/dev/vfio/vfio") return container_ = sys_.new_fd();
    if (path == "/dev/vfio/7") return group_ = sys_.new_fd();
    return -ENOENT;
  }

  int ioctl(int fd, unsigned long request, void* argument) {
    if (fd == group_) return group_ioctl(request, argument);
    if (fd == container_) return container_ioctl(request, argument);
    return device_ioctl(request, argument);
  }

  int group_ioctl(unsigned long request, void* argument) {
    if (request == uapi::kVfioGroupGetStatus) {
      static_cast<uapi::vfio_group_status*>(argument)->flags = group_flags;
      return 0;
    }
    if (request == uapi::kVfioGroupSetContainer) {
      if (*static_cast<int*>(argument) != container_) return -EINVAL;
      joined_ = true;
      return 0;
    }
    if (request == uapi::kVfioGroupGetDeviceFd) {
      if (!nested_) return -EINVAL;
      return std::string(static_cast<char*>(argument)) == "0000:01:00.0" ? sys_.new_fd() : -ENODEV;
    }
    return -ENOTTY;
  }

  int container_ioctl(unsigned long request, void* argument) {
    using namespace uapi;
    const auto number = reinterpret_cast<std::uintptr_t>(argument);
    switch (request) {
      case kVfioGetApiVersion:
        return api_version;
      case kVfioCheckExtension:
        return number == kVfioType1NestingIommu ? nesting : 0;
      case kVfioSetIommu:
        if (!joined_ || number != kVfioType1NestingIommu || nesting == 0) return -ENODEV;
        nested_ = true;
        return 0;
      default:
        break;
    }
    if (!nested_) return -EINVAL;
    switch (request) {
      case kVfioIommuMapDma:
      case kVfioIommuUnmapDma:
      case kVfioIommuBindMsi:
      case kVfioIommuUnbindMsi:
      case kVfioIommuDetachPasidTable:
        return 0;
      case kVfioIommuAttachPasidTable: {
        const auto& a = *static_cast<vfio_iommu_type1_attach_pasid_table*>(argument);
        if (a.argsz < sizeof a || a.flags != 0 || a.config.version != 1) return -EINVAL;
        if (a.config.config == kIommuPasidConfigTranslate && a.config.pasid_bits != 0) {
          return -EINVAL;
        }
        binds.push_back(a);
        return 0;
      }
      case kVfioIommuCacheInvalidate:
        return invalidate(*static_cast<vfio_iommu_type1_cache_invalidate*>(argument));
      default:
        return -ENOTTY;
    }
  }

  int invalidate(const uapi::vfio_iommu_type1_cache_invalidate& a) {
    using namespace uapi;
    if (a.argsz < sizeof a || a.flags != 0 || a.info.version != 1) return -EINVAL;
    invalidations.push_back(a);
    if (a.info.cache == kIommuCacheInvTypeIotlb) {
      if (a.info.granularity == kIommuInvGranuPasid) {
        return v8 && (a.info.pasid & 1U) != 0 ? -EINVAL : 0;
      }
      if (a.info.granularity == kIommuInvGranuAddr) return 0;
      return tlb_domain ? 0 : -EINVAL;
    }
    if (a.info.cache == kIommuCacheInvTypePasid) return cd_cache ? 0 : -ENOENT;
    return dev_iotlb ? 0 : -ENOENT;
  }

  std::vector<unsigned char> describe(std::uint32_t index) {
    using namespace uapi;
    if (auto at = region_override.find(index); at != region_override.end()) return at->second;
    if (index == kProdIndex) {
      const std::uint32_t size = (max_abi == 1 ? 2 : 17) * kPage;
      ChainBuilder chain;
      chain.type(kVfioRegionTypeNested, kVfioRegionSubtypeNestedFaultProd);
      chain.producer_fault(max_abi);
      if (abi == 2) {
        chain.area(0, size);
      } else {
        chain.area(kPage, kPage);
      }
      return chain.answer(index, kVfioRegionInfoFlagRead | kVfioRegionInfoFlagMmap, size);
    }
    if (index == kConsIndex) {
      ChainBuilder chain;
      chain.type(kVfioRegionTypeNested, kVfioRegionSubtypeNestedFaultCons);
      if (max_abi == 1) return chain.answer(index, kVfioRegionInfoFlagWrite, 8);
      return chain.answer(index, kVfioRegionInfoFlagWrite | kVfioRegionInfoFlagMmap, kPage);
    }
    const std::uint64_t size = index == 0 ? 2 * kPage : 0;
    return ChainBuilder().answer(
        index, kVfioRegionInfoFlagRead | kVfioRegionInfoFlagWrite | kVfioRegionInfoFlagMmap, size);
  }

  int device_ioctl(unsigned long request, void* argument) {
    using namespace uapi;
    if (request == kVfioDeviceGetInfo) {
      auto& info = *static_cast<vfio_device_info*>(argument);
      info.flags = kVfioDeviceFlagsPci;
      info.num_regions = kConsIndex + 1;
      info.num_irqs = num_irqs;
      return 0;
    }
    if (request == kVfioDeviceGetRegionInfo) {
      vfio_region_info asked{};
      std::memcpy(&asked, argument, sizeof asked);
      if (asked.index > kConsIndex) return -EINVAL;
      std::vector<unsigned char> answer = describe(asked.index);
      if (regions_grow) answer.resize(asked.argsz + std::size_t{16});
      vfio_region_info info{};
      std::memcpy(&info, answer.data(), sizeof info);
      if (regions_grow) info.argsz = static_cast<std::uint32_t>(answer.size());
      // What does not fit is not written, as in the kernel: the caller is told the size.
      if (asked.argsz < answer.size()) info.cap_offset = 0;
      std::memcpy(answer.data(), &info, sizeof info);
      std::memcpy(argument, answer.data(),
                  asked.argsz < answer.size() ? sizeof info : answer.size());
      return 0;
    }
    if (request == kVfioDeviceGetIrqInfo) {
      auto& info = *static_cast<vfio_irq_info*>(argument);
      info.flags = irq_flags;
      info.count = irq_count;
      return 0;
    }
    if (request == kVfioDeviceSetIrqs) {
      const auto& set = *static_cast<vfio_irq_set*>(argument);
      if (set.argsz != 24 || set.index != kVfioPciDmaFaultIrqIndex || set.start != 0 ||
          set.count != 1 || set.flags != (kVfioIrqSetDataEventfd | kVfioIrqSetActionTrigger)) {
        return -EINVAL;
      }
      std::memcpy(&irq_eventfd, static_cast<unsigned char*>(argument) + sizeof set, 4);
      return 0;
    }
    return -ENOTTY;
  }

  std::intptr_t mmap(std::size_t size, std::uint64_t at) {
    const std::uint64_t region = at >> 40U;
    const std::uint64_t offset = at & ((std::uint64_t{1} << 40U) - 1);
    unsigned char* base = region == kProdIndex   ? memory_->prod
                          : region == kConsIndex ? memory_->cons
                                                 : memory_->bar;
    const std::size_t whole = region == kProdIndex   ? sizeof memory_->prod
                              : region == kConsIndex ? sizeof memory_->cons
                                                     : sizeof memory_->bar;
    // Version 1's header page is never mapped.
    if (offset + size > whole || (region == kProdIndex && abi != 2 && offset < kPage)) {
      return -EINVAL;
    }
    return reinterpret_cast<std::intptr_t>(base + offset);
  }

  ssize_t pread(void* out, std::size_t n, std::uint64_t at) {
    const std::uint64_t pos = at - (std::uint64_t{kProdIndex} << 40U);
    if (abi == 0 || pos + n > kPage) return -EINVAL;
    uapi::vfio_region_fault_prod h{0xffffffffU, kEntries1, 48, kPage, prod1};
    if (abi == 2) h = {2, entries2, 64, kPage, 0};
    if (header_override) {
      h = *header_override;
      if (override_keeps_prod) h.prod = prod1;
    }
    std::memcpy(out, reinterpret_cast<unsigned char*>(&h) + pos, n);
    return static_cast<ssize_t>(n);
  }

  ssize_t pwrite(const void* in, std::size_t n, std::uint64_t at) {
    uapi::vfio_region_fault_cons c{abi, cons1};
    if (at != std::uint64_t{kConsIndex} << 40U || n > sizeof c) return -EINVAL;
    std::memcpy(&c, in, n);
    if (abi == 0) {
      if (c.version < 1 || c.version > max_abi) return -EINVAL;
      abi = c.version;
      if (abi == 2) {
        auto& h = header2();
        h.version = 2;
        h.nb_entries = entries2;
        h.entry_size = 64;
        h.offset = kPage;
      }
    } else if (c.version != abi) {
      return -EINVAL;
    }
    if (abi == 1) {
      if (c.cons >= kEntries1) return -EINVAL;
      cons1 = c.cons;
    }
    return static_cast<ssize_t>(n);
  }

 public:
  bool override_keeps_prod = false;

 private:
  ScriptedSys& sys_;
  std::unique_ptr<Memory> memory_;
  int container_ = -1;
  int group_ = -1;
  bool joined_ = false;
  bool nested_ = false;
  std::uint64_t good_cons2_ = 0;
};

}  // namespace faultline::testing
