// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <string>

#include "kernel/operation.h"
#include "kernel/uapi/vfio_nested.h"

namespace faultline::vfio {

/// The seed's PASID table argument for one stage-1 configuration.
///
/// S1CIR, S1COR, S1CSH and S1STALLD of the guest's STE have no place in it. v7 itself refuses
/// pasid_bits != 0 with TRANSLATE (-EINVAL): it knows one context descriptor only.
[[nodiscard]] uapi::vfio_iommu_type1_attach_pasid_table pasid_table(
    const Stage1Config& config) noexcept;

/// "0x1000", for error lines.
[[nodiscard]] std::string hex(std::uint64_t value);

}  // namespace faultline::vfio
