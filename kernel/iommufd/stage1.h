// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include "kernel/operation.h"
#include "kernel/uapi/iommufd.h"

namespace faultline::iommufd {

/// The guest's stage 1 of one stream as the argument of a nested page table: the two stream table
/// words, with nothing in them that the kernel refuses.
///
/// ats      the guest was offered ATS; without, its EATS field means nothing
/// returns  abort is a valid entry that says abort, so that an entry made here never has V = 0
/// note     memory attributes (S1CIR, S1COR, S1CSH) and S1STALLD are the guest's own where it has
/// an
///          entry; what the virtual SMMU ignores (SHCFG, STRW, software bits) is left away
/// source   arm_smmu_validate_vste() of Linux 7.2
[[nodiscard]] uapi::iommu_hwpt_arm_smmuv3 nested_table(const Stage1Config& config,
                                                       bool ats) noexcept;

}  // namespace faultline::iommufd
