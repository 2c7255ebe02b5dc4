// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>

#include "kernel/sys.h"
#include "kernel/uapi/iommufd_nested.h"

namespace faultline::vm {

/// The real kernel, with an eye on invalidations: counts them, and may put a command into one of
/// them that the kernel refuses.
class TamperingSys : public LinuxSys {
 public:
  static constexpr std::uint64_t kCfgiSte = 0x03;  ///< not of those that the kernel takes

  int ioctl(int fd, unsigned long request, void* argument) noexcept {
    if (request != uapi::kIommuHwptInvalidate) return LinuxSys::ioctl(fd, request, argument);
    auto& i = *static_cast<uapi::iommu_hwpt_invalidate*>(argument);
    ++invalidations;
    entries += i.entry_num;
    if (largest < i.entry_num) largest = i.entry_num;
    if (spoil_at >= i.entry_num || spoils == 0) return LinuxSys::ioctl(fd, request, argument);
    --spoils;
    auto* commands = reinterpret_cast<uapi::iommu_viommu_arm_smmuv3_invalidate*>(i.data_uptr);
    commands[spoil_at].cmd[0] = kCfgiSte;
    const int rc = LinuxSys::ioctl(fd, request, argument);
    counted = i.entry_num;
    refusal = rc;
    return rc;
  }

  std::uint64_t invalidations = 0;  ///< ioctls
  std::uint64_t entries = 0;
  std::uint32_t largest = 0;

  std::uint32_t spoil_at = ~0U;  ///< index of the command to spoil, in the next array so long
  unsigned spoils = 0;           ///< how many arrays to spoil
  int refusal = 0;               ///< what the kernel said to the last spoilt one
  std::uint32_t counted = 0;     ///< and how many it claimed to have done
};
static_assert(Syscalls<TamperingSys>);

}  // namespace faultline::vm
