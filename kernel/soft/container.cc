// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/soft/container.h"

#include <algorithm>
#include <cerrno>

#include "kernel/base/units.h"
#include "kernel/soft/device.h"
#include "kernel/soft/kernel.h"

namespace faultline::soft {
namespace {

constexpr std::uint64_t kPageSizes = 0x40201000;  // 4 KiB, 2 MiB, 1 GiB

}  // namespace

bool Container::mutated(Mutation mutation) const {
  return kernel_.config().mutation == mutation;
}

bool Container::bad_flags(std::uint32_t flags, std::uint32_t known) const {
  return (flags & ~known) != 0 && !mutated(Mutation::kFlagsUnchecked);
}

bool Container::has_iommu() {
  const std::lock_guard lock(mutex_);
  return unit_ != nullptr;
}

void Container::add_group(Group& group) {
  const std::lock_guard lock(mutex_);
  groups_.push_back(&group);
  devices_.insert(devices_.end(), group.devices.begin(), group.devices.end());
  if (unit_ == nullptr) return;
  for (Device* device : group.devices) device->attach(*unit_, s1_);
}

void Container::remove_group(Group& group) {
  const std::lock_guard lock(mutex_);
  std::erase(groups_, &group);
  for (Device* device : group.devices) {
    std::erase(devices_, device);
    device->detach();
  }
  if (!groups_.empty()) return;
  unit_.reset();
  pinned_.clear();
  msi_.clear();
}

int Container::ioctl(unsigned long request, UserCall& call) {
  const std::lock_guard lock(mutex_);
  switch (request) {
    case uapi::kVfioGetApiVersion:
      return uapi::kVfioApiVersion;
    case uapi::kVfioCheckExtension:
      return check_extension(call.value());
    case uapi::kVfioSetIommu:
      return set_iommu(call.value());
    default:
      break;
  }
  if (unit_ == nullptr) return mutated(Mutation::kBindWithoutIommu) ? 0 : -EINVAL;
  switch (request) {
    case uapi::kVfioIommuGetInfo:
      return get_info(call);
    case uapi::kVfioIommuMapDma:
      return map_dma(call);
    case uapi::kVfioIommuUnmapDma:
      return unmap_dma(call);
    case uapi::kVfioIommuAttachPasidTable:
      return attach_pasid_table(call);
    case uapi::kVfioIommuDetachPasidTable:
      return detach_pasid_table();
    case uapi::kVfioIommuCacheInvalidate:
      return cache_invalidate(call);
    case uapi::kVfioIommuBindMsi:
      return bind_msi(call);
    case uapi::kVfioIommuUnbindMsi:
      return unbind_msi(call);
    default:
      return -ENOTTY;
  }
}

int Container::check_extension(unsigned long extension) const {
  if (extension == uapi::kVfioType1NestingIommu)
    return mutated(Mutation::kNestingNotOffered) ? 0 : 1;
  return extension == uapi::kVfioType1Iommu || extension == uapi::kVfioType1v2Iommu ? 1 : 0;
}

int Container::set_iommu(unsigned long type) {
  if (groups_.empty() || unit_ != nullptr) return -EINVAL;
  if (check_extension(type) == 0) return -ENODEV;
  nested_ = type == uapi::kVfioType1NestingIommu;
  unit_ = std::make_unique<TranslationUnit>(kernel_.config(), kernel_.new_vmid());
  // Until the guest's table is bound (and without nesting) DMA goes through stage 2 alone.
  s1_ = {};
  s1_.mode = FL_S1_BYPASS;
  if (mutated(Mutation::kUnboundDoorbell)) {
    fl_stage2_bind_doorbell(&unit_->domain.s2, 0, std::uint64_t{1} << 30U, kernel_.doorbell());
  }
  for (Device* device : devices_) device->attach(*unit_, s1_);
  return 0;
}

int Container::get_info(UserCall& call) {
  uapi::vfio_iommu_type1_info info{};
  if (const int error = copy_argument(call, info, kernel_.config().mutation); error != 0) {
    return error;
  }
  info.flags = uapi::kVfioIommuInfoPgsizes;
  info.iova_pgsizes = kPageSizes;
  return call.copy_out(0, &info, sizeof info);
}

int Container::map_dma(UserCall& call) {
  uapi::vfio_iommu_type1_dma_map map{};
  if (const int error = copy_argument(call, map, kernel_.config().mutation); error != 0) {
    return error;
  }
  constexpr std::uint32_t kRights = uapi::kVfioDmaMapFlagRead | uapi::kVfioDmaMapFlagWrite;
  if (bad_flags(map.flags, kRights) || (map.flags & kRights) == 0) return -EINVAL;
  if (map.size == 0 || (map.size | map.iova | map.vaddr) % kPage4K != 0) return -EINVAL;
  if (map.iova + map.size - 1 < map.iova || map.vaddr + map.size - 1 < map.vaddr) return -EINVAL;
  const std::uint32_t prot = map.flags & kRights;  // the same bits as enum fl_prot
  Pinned pinned{map.size, {}};
  if (const int error = call.pin(map.vaddr, map.size, (prot & FL_PROT_WRITE) != 0, pinned.memory);
      error != 0)
    return error;
  {
    const std::lock_guard unit_lock(unit_->mutex);
    const int error = fl_stage2_map(&unit_->domain.s2, map.iova, map.size,
                                    reinterpret_cast<std::uintptr_t>(pinned.memory.at), prot);
    if (error != 0) return error;
  }
  pinned_.emplace(map.iova, std::move(pinned));
  return 0;
}

int Container::unmap_dma(UserCall& call) {
  uapi::vfio_iommu_type1_dma_unmap unmap{};
  if (const int error = copy_argument(call, unmap, kernel_.config().mutation); error != 0) {
    return error;
  }
  if (bad_flags(unmap.flags)) return -EINVAL;
  if (mutated(Mutation::kUnmapIgnored)) return 0;
  std::uint64_t bytes = 0;
  {
    const std::lock_guard unit_lock(unit_->mutex);
    const int error = fl_stage2_unmap(&unit_->domain.s2, unmap.iova, unmap.size, &bytes);
    if (error != 0) return error;
    if (bytes > 0 && !mutated(Mutation::kUnmapLeavesTlb)) {
      fl_inv_vmid(&unit_->iommu, unit_->domain.vmid);
      for (Device* device : devices_) fl_inv_atc_all(&unit_->iommu, &device->stream());
    }
  }
  quiesce();
  // Only now may the memory go.
  auto first = pinned_.lower_bound(unmap.iova);
  auto end = first;
  while (end != pinned_.end() && end->first - unmap.iova < unmap.size) ++end;
  if (mutated(Mutation::kUnmapLeavesTlb)) first = end;
  pinned_.erase(first, end);
  unmap.size = bytes;
  return call.copy_out(0, &unmap, sizeof unmap);
}

void Container::quiesce() {
  if (mutated(Mutation::kInvalidateNoWait)) return;
  for (const Device* device : devices_) device->quiesce();
}

}  // namespace faultline::soft
