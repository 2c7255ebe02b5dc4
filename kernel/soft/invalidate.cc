// SPDX-License-Identifier: BSD-3-Clause
// VFIO_IOMMU_CACHE_INVALIDATE, as the header documents it and as v7's code answered.
#include <bit>
#include <cerrno>

#include "kernel/base/units.h"
#include "kernel/soft/container.h"
#include "kernel/soft/device.h"
#include "kernel/soft/kernel.h"

namespace faultline::soft {
namespace {

using uapi::iommu_cache_invalidate_info;
using uapi::iommu_inv_addr_info;

constexpr std::uint8_t kCaches = uapi::kIommuCacheInvTypeIotlb | uapi::kIommuCacheInvTypeDevIotlb |
                                 uapi::kIommuCacheInvTypePasid;
// More granules than any guest has pages: v7 would issue a command for each, for hours.
constexpr std::uint64_t kMaxGranules = std::uint64_t{1} << 20U;

// The pairs of cache and granularity that the header allows.
bool pair_documented(const iommu_cache_invalidate_info& info) {
  if (info.cache == 0 || (info.cache & ~kCaches) != 0) return false;
  switch (info.granularity) {
    case uapi::kIommuInvGranuDomain:
      return (info.cache & uapi::kIommuCacheInvTypeDevIotlb) == 0;
    case uapi::kIommuInvGranuPasid:
      return true;
    case uapi::kIommuInvGranuAddr:
      return (info.cache & uapi::kIommuCacheInvTypePasid) == 0;
    default:
      return false;
  }
}

// A range of whole granules that does not wrap.
bool range_sound(const iommu_inv_addr_info& a) {
  constexpr std::uint32_t kFlags =
      uapi::kIommuInvAddrFlagsPasid | uapi::kIommuInvAddrFlagsArchid | uapi::kIommuInvAddrFlagsLeaf;
  if ((a.flags & ~kFlags) != 0) return false;
  if (!std::has_single_bit(a.granule_size) || a.granule_size < kPage4K) return false;
  if (a.addr % a.granule_size != 0 || a.nb_granules == 0) return false;
  const std::uint64_t room = (0 - a.addr) / a.granule_size;  // granules up to the end, 0: all of it
  return a.nb_granules <= (a.addr == 0 ? ~std::uint64_t{0} / a.granule_size : room);
}

std::uint32_t drop_range(fl_iommu& iommu, std::uint16_t vmid, const iommu_inv_addr_info& a) {
  const bool leaf = (a.flags & uapi::kIommuInvAddrFlagsLeaf) != 0;
  const std::uint64_t size = a.granule_size * a.nb_granules;
  if ((a.flags & uapi::kIommuInvAddrFlagsPasid) != 0) {
    return fl_inv_va_range(&iommu, vmid, static_cast<std::uint16_t>(a.pasid), a.addr, size, leaf);
  }
  if ((a.flags & uapi::kIommuInvAddrFlagsArchid) != 0) {
    return fl_inv_va_range(&iommu, vmid, static_cast<std::uint16_t>(a.archid), a.addr, size, leaf);
  }
  return fl_inv_vaa_range(&iommu, vmid, a.addr, size, leaf);
}

// CMD_ATC_INV takes an aligned power of two: the smallest one that holds the range.
void drop_atc_range(fl_iommu& iommu, const fl_stream& stream, const iommu_inv_addr_info& a) {
  const std::uint64_t last = a.addr + a.granule_size * a.nb_granules - 1;
  std::uint8_t size = 0;
  while (size < FL_ATC_ALL && (a.addr >> (12U + size)) != (last >> (12U + size))) ++size;
  const bool ssv = (a.flags & uapi::kIommuInvAddrFlagsPasid) != 0;
  fl_inv_atc(&iommu, &stream, ssv, false, static_cast<std::uint32_t>(a.pasid), a.addr, size);
}

}  // namespace

int Container::cache_invalidate(UserCall& call) {
  uapi::vfio_iommu_type1_cache_invalidate inv{};
  if (const int error = copy_argument(call, inv, kernel_.config().mutation); error != 0) {
    return error;
  }
  if (bad_flags(inv.flags) || !nested_) return -EINVAL;
  if (inv.info.version != uapi::kIommuCacheInvalidateInfoVersion1 &&
      !mutated(Mutation::kVersionUnchecked)) {
    return -EINVAL;
  }
  if (mutated(Mutation::kInvalidateNothing)) return 0;
  const std::uint32_t every = kernel_.config().fail_invalidation_every;
  if (every != 0 && ++invalidations_ >= every) {
    invalidations_ = 0;
    return -EIO;
  }
  if (mutated(Mutation::kInvalidateAsidIsAll) &&
      inv.info.granularity == uapi::kIommuInvGranuPasid) {
    inv.info.granularity = uapi::kIommuInvGranuDomain;
    return invalidate_as_documented(inv.info);
  }
  if (mutated(Mutation::kInvalidateOnePage) && inv.info.granularity == uapi::kIommuInvGranuAddr) {
    inv.info.addr_info.nb_granules = 1;
  }
  const int result =
      kernel_.config().quirks_v7 ? invalidate_as_v7(inv.info) : invalidate_as_documented(inv.info);
  return mutated(Mutation::kGranularityUnchecked) ? 0 : result;
}

// v7: arm_smmu_cache_invalidate(); only the IOTLB, and what else was asked for is refused after it.
int Container::invalidate_as_v7(const iommu_cache_invalidate_info& info) {
  if ((info.cache & uapi::kIommuCacheInvTypeIotlb) != 0) {
    const std::uint16_t vmid = unit_->domain.vmid;
    std::uint64_t removed = 0;
    if (info.granularity == uapi::kIommuInvGranuPasid) {
      const std::lock_guard unit_lock(unit_->mutex);
      removed = fl_inv_asid(&unit_->iommu, vmid, static_cast<std::uint16_t>(info.pasid));
    } else if (info.granularity == uapi::kIommuInvGranuAddr) {
      const iommu_inv_addr_info& a = info.addr_info;
      if (a.granule_size == 0 || a.nb_granules == 0 || a.nb_granules > kMaxGranules) {
        kernel_.count(&KernelShare::would_hang);
        return -EINVAL;
      }
      const auto asid = static_cast<std::uint16_t>(a.pasid);
      const bool leaf = (a.flags & uapi::kIommuInvAddrFlagsLeaf) != 0;
      const std::lock_guard unit_lock(unit_->mutex);
      // One TLBI_NH_VA per granule: of a granule above 4 KiB only its first address.
      for (std::uint64_t i = 0; i < a.nb_granules; ++i) {
        removed += fl_inv_va(&unit_->iommu, vmid, asid, a.addr + i * a.granule_size, leaf);
      }
    } else {
      return -EINVAL;
    }
    quiesce();
    kernel_.count(&KernelShare::invalidations);
    kernel_.count(&KernelShare::entries_removed, removed);
  }
  constexpr std::uint8_t kOthers = uapi::kIommuCacheInvTypeDevIotlb | uapi::kIommuCacheInvTypePasid;
  return (info.cache & kOthers) != 0 ? -ENOENT : 0;
}

int Container::invalidate_as_documented(const iommu_cache_invalidate_info& info) {
  if (!pair_documented(info) || info.padding[0] != 0 || info.padding[1] != 0) return -EINVAL;
  const bool by_address = info.granularity == uapi::kIommuInvGranuAddr;
  const bool by_pasid = info.granularity == uapi::kIommuInvGranuPasid;
  const bool tlb = (info.cache & uapi::kIommuCacheInvTypeIotlb) != 0;
  const bool configs = (info.cache & uapi::kIommuCacheInvTypePasid) != 0;
  const bool atc = (info.cache & uapi::kIommuCacheInvTypeDevIotlb) != 0;
  // The same word is an ASID for the TLB and a SubstreamID for the others.
  const std::uint64_t limit = tlb ? 0xffff : 0xfffff;
  if (by_pasid && info.pasid > limit) return -EINVAL;
  if (by_address && !range_sound(info.addr_info)) return -EINVAL;
  if (by_address && (info.addr_info.pasid > limit || info.addr_info.archid > 0xffff))
    return -EINVAL;
  const auto pasid = static_cast<std::uint32_t>(info.pasid);
  const std::uint16_t vmid = unit_->domain.vmid;
  std::uint64_t removed = 0;
  {
    const std::lock_guard unit_lock(unit_->mutex);
    fl_iommu& iommu = unit_->iommu;
    if (configs) {
      for (Device* device : devices_) {
        const std::uint32_t sid = device->stream().sid;
        removed += by_pasid ? fl_inv_cd(&iommu, sid, pasid, false) : fl_inv_cd_all(&iommu, sid);
      }
    }
    if (tlb) {
      removed += by_address ? drop_range(iommu, vmid, info.addr_info)
                 : by_pasid ? fl_inv_asid(&iommu, vmid, static_cast<std::uint16_t>(pasid))
                            : fl_inv_vmid(&iommu, vmid);
    }
    // After the TLB: what the device asks for again must be new.
    for (Device* device : devices_) {
      if (!atc) break;
      if (by_address) {
        drop_atc_range(iommu, device->stream(), info.addr_info);
        continue;
      }
      removed += fl_inv_atc(&iommu, &device->stream(), true, false, pasid, 0, FL_ATC_ALL);
      // SubstreamID 0 is also what traffic without one goes by in a table of one descriptor.
      if (pasid == 0) {
        removed += fl_inv_atc(&iommu, &device->stream(), false, false, 0, 0, FL_ATC_ALL);
      }
    }
  }
  quiesce();
  kernel_.count(&KernelShare::invalidations);
  kernel_.count(&KernelShare::entries_removed, removed);
  return 0;
}

}  // namespace faultline::soft
