// SPDX-License-Identifier: BSD-3-Clause
// hot path: one CACHE_INVALIDATE, built and sent.
#pragma once

#include <cerrno>
#include <cstdint>

#include "kernel/sys.h"
#include "kernel/uapi/vfio_nested.h"

namespace faultline::vfio {

/// One invalidation in the seed's own terms: one cache, one granularity.
class Invalidation {
 public:
  /// Every entry of the domain (= the container).
  static Invalidation domain(std::uint8_t cache) noexcept {
    return Invalidation(cache, uapi::kIommuInvGranuDomain);
  }

  /// By PASID. IOTLB: v7 takes it as the ASID. PASID cache: index of the context descriptor.
  /// DEV_IOTLB: the SubstreamID; 0 stands for traffic without one, too.
  static Invalidation pasid(std::uint8_t cache, std::uint64_t pasid) noexcept {
    Invalidation i(cache, uapi::kIommuInvGranuPasid);
    i.argument_.info.pasid = pasid;
    return i;
  }

  /// By address. IOTLB: `pasid` is the ASID.
  ///
  /// granule   bytes, as in `granules` pages of it; 0 of either is refused by send()
  static Invalidation addresses(std::uint8_t cache, bool has_pasid, std::uint64_t pasid,
                                std::uint64_t addr, std::uint64_t granule, std::uint64_t granules,
                                bool leaf) noexcept {
    Invalidation i(cache, uapi::kIommuInvGranuAddr);
    i.argument_.info.addr_info = {
        .flags = (has_pasid ? uapi::kIommuInvAddrFlagsPasid : 0U) |
                 (leaf ? uapi::kIommuInvAddrFlagsLeaf : 0U),
        .archid = 0,
        .pasid = pasid,
        .addr = addr,
        .granule_size = granule,
        .nb_granules = granules,
    };
    return i;
  }

  /// Hand it to the kernel; it took effect when this returns 0.
  ///
  /// returns  0, or the negative errno
  /// errors   -EINVAL without a call when granule or granules is 0: the v7 loop would not end
  /// cost     one ioctl, where no signal comes
  /// source   v7 14/23, vfio_iommu_type1.c vfio_cache_inv_fn(); arm_smmu_cache_invalidate()
  template <Syscalls Sys>
  int send(Sys& sys, int container) noexcept {
    const auto& info = argument_.info;
    if (info.granularity == uapi::kIommuInvGranuAddr &&
        (info.addr_info.granule_size == 0 || info.addr_info.nb_granules == 0)) {
      return -EINVAL;
    }
    // The kernel only reads the argument, and to invalidate twice does no harm.
    return despite_signals(
        [&] { return sys.ioctl(container, uapi::kVfioIommuCacheInvalidate, &argument_); });
  }

  [[nodiscard]] const uapi::vfio_iommu_type1_cache_invalidate& argument() const noexcept {
    return argument_;
  }

 private:
  Invalidation(std::uint8_t cache, std::uint8_t granularity) noexcept {
    argument_.argsz = sizeof argument_;
    argument_.info.version = uapi::kIommuCacheInvalidateInfoVersion1;
    argument_.info.cache = cache;
    argument_.info.granularity = granularity;
  }

  uapi::vfio_iommu_type1_cache_invalidate argument_{};
};

}  // namespace faultline::vfio
