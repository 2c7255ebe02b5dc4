// SPDX-License-Identifier: BSD-3-Clause
// The guest's stage 1 and its MSI doorbells, as the seed binds them: per container.
#include <algorithm>
#include <bit>
#include <cerrno>

#include "kernel/base/units.h"
#include "kernel/soft/container.h"
#include "kernel/soft/device.h"
#include "kernel/soft/kernel.h"

namespace faultline::soft {
namespace {

constexpr std::uint64_t kContextPointer = 0x000fffffffffffc0;  // what an STE can hold
constexpr std::uint8_t kSsidBits = 20;

template <std::size_t N>
bool any(const std::uint8_t (&bytes)[N]) {
  return std::any_of(std::begin(bytes), std::end(bytes), [](std::uint8_t b) { return b != 0; });
}

// What the documentation leaves reserved or out of range and v7 does not look at.
bool sloppy(const uapi::iommu_pasid_table_config& c) {
  if (any(c.padding) || any(c.smmuv3.padding)) return true;
  if (c.config != uapi::kIommuPasidConfigTranslate) return false;
  if ((c.base_ptr & ~kContextPointer) != 0 || c.pasid_bits > kSsidBits) return true;
  return c.pasid_bits > 0 && (c.smmuv3.s1fmt > FL_S1_2LVL_64K || c.smmuv3.s1dss > FL_S1_DSS_CD0);
}

}  // namespace

void Container::set_stage1(const fl_s1_config& s1) {
  s1_ = s1;
  {
    // All streams change under one lock: no transaction sees half of it.
    const std::lock_guard unit_lock(unit_->mutex);
    for (Device* device : devices_) {
      static_cast<void>(fl_stream_set_s1(&unit_->iommu, &device->stream(), &s1));
      fl_inv_atc_all(&unit_->iommu, &device->stream());
    }
  }
  quiesce();
}

int Container::attach_pasid_table(UserCall& call) {
  uapi::vfio_iommu_type1_attach_pasid_table attach{};
  if (const int error = copy_argument(call, attach, kernel_.config().mutation); error != 0) {
    return error;
  }
  const uapi::iommu_pasid_table_config& c = attach.config;
  const bool quirks = kernel_.config().quirks_v7;
  if (bad_flags(attach.flags) || !nested_) return -EINVAL;
  if (mutated(Mutation::kBindIgnored)) return 0;
  if (mutated(Mutation::kNoLiveReplace) && s1_.mode == FL_S1_TRANSLATE) return -EINVAL;
  if (!mutated(Mutation::kVersionUnchecked) &&
      (c.version != uapi::kPasidTableCfgVersion1 || c.format != uapi::kIommuPasidFormatSmmuv3 ||
       c.smmuv3.version != uapi::kPasidTableSmmuv3CfgVersion1)) {
    return -EINVAL;
  }
  if (!quirks && sloppy(c)) return -EINVAL;
  fl_s1_config s1{};
  switch (c.config) {
    case uapi::kIommuPasidConfigTranslate:
      if (quirks && c.pasid_bits != 0) return -EINVAL;
      s1 = {c.base_ptr & kContextPointer, FL_S1_TRANSLATE, c.smmuv3.s1fmt, c.smmuv3.s1dss,
            c.pasid_bits};
      break;
    case uapi::kIommuPasidConfigBypass:
      s1.mode = mutated(Mutation::kBypassIsAbort) ? FL_S1_ABORT : FL_S1_BYPASS;
      break;
    case uapi::kIommuPasidConfigAbort:
      s1.mode = mutated(Mutation::kAbortIsBypass) ? FL_S1_BYPASS : FL_S1_ABORT;
      break;
    default:
      return -EINVAL;
  }
  set_stage1(s1);
  return 0;
}

int Container::detach_pasid_table() {
  if (!nested_) return -EINVAL;
  if (mutated(Mutation::kDetachKeepsTranslation)) return 0;
  fl_s1_config s1{};
  s1.mode = mutated(Mutation::kDetachIsBypass) ? FL_S1_BYPASS : FL_S1_ABORT;
  set_stage1(s1);
  return 0;
}

int Container::bind_msi(UserCall& call) {
  uapi::vfio_iommu_type1_bind_msi bind{};
  if (const int error = copy_argument(call, bind, kernel_.config().mutation); error != 0) {
    return error;
  }
  if (bad_flags(bind.flags) || !nested_) return -EINVAL;
  if (!std::has_single_bit(bind.size) || bind.size < kPage4K) return -EINVAL;
  if (mutated(Mutation::kMsiBindingIgnored)) return 0;
  const std::uint64_t mask = mutated(Mutation::kMsiNotRounded) ? 0 : bind.size - 1;
  const MsiBinding binding{bind.iova & ~mask, bind.gpa & ~mask, bind.size};
  const auto same = [&](const MsiBinding& b) { return b.iova == binding.iova; };
  if (std::any_of(msi_.begin(), msi_.end(), same)) return 0;  // the first one stays
  {
    // v7 makes this mapping when the host composes the MSI message; here the doorbell is always
    // there, so it is made at once.
    const std::lock_guard unit_lock(unit_->mutex);
    const int error =
        fl_stage2_bind_doorbell(&unit_->domain.s2, binding.gpa, binding.size, kernel_.doorbell());
    if (error != 0) return error;
  }
  msi_.push_back(binding);
  return 0;
}

int Container::unbind_msi(UserCall& call) {
  uapi::vfio_iommu_type1_unbind_msi unbind{};
  if (const int error = copy_argument(call, unbind, kernel_.config().mutation); error != 0) {
    return error;
  }
  if (bad_flags(unbind.flags) || !nested_) return -EINVAL;
  if (mutated(Mutation::kMsiUnbindIgnored)) return 0;
  const auto it = std::find_if(msi_.begin(), msi_.end(),
                               [&](const MsiBinding& b) { return unbind.iova - b.iova < b.size; });
  if (it == msi_.end()) return 0;  // v7's callee has no way to say so
  {
    const std::lock_guard unit_lock(unit_->mutex);
    fl_stage2_unbind_doorbell(&unit_->domain.s2, it->gpa);
    fl_inv_vmid(&unit_->iommu, unit_->domain.vmid);
    for (Device* device : devices_) fl_inv_atc_all(&unit_->iommu, &device->stream());
  }
  quiesce();
  msi_.erase(it);
  return 0;
}

}  // namespace faultline::soft
