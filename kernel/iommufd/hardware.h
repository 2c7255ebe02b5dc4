// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <string>

#include "kernel/uapi/iommufd.h"

namespace faultline::iommufd {

/// What stands in front of a device, as IOMMU_GET_HW_INFO tells it.
struct Hardware {
  enum class Kind : std::uint8_t { kNone, kSmmuV3, kVtd, kOther };

  Kind kind = Kind::kNone;
  std::uint32_t type = 0;  ///< the kernel's number
  std::uint64_t capabilities = 0;
  std::uint8_t max_pasid_log2 = 0;
  uapi::iommu_hw_info_arm_smmuv3 smmu{};  ///< kSmmuV3
  uapi::iommu_hw_info_vtd vtd{};          ///< kVtd

  /// One line for the operator.
  [[nodiscard]] std::string describe() const;
};

/// What a guest on this hardware may be offered: what an SMMUv3 says it has, less what the kernel
/// does not pass on (stage 2, hypervisor worlds, page requests by PRI, MSIs of the SMMU's own).
struct Offer {
  bool possible = false;   ///< SMMUv3 with both stages
  unsigned sid_bits = 0;   ///< StreamID size
  unsigned ssid_bits = 0;  ///< SubstreamID size: the device's PASIDs bound it, too
  unsigned oas_bits = 0;   ///< output address size
  bool granule_4k = false;
  bool granule_16k = false;
  bool granule_64k = false;
  bool ranges = false;  ///< IDR3.RIL
  bool ats = false;     ///< and the kernel has not said that the device cannot
  bool stalls = false;  ///< IDR0.STALL_MODEL is not "none"
  bool two_level_contexts = false;
  bool coherent = false;  ///< IDR0.COHACC

  bool operator==(const Offer&) const = default;
};

/// source  Arm IHI 0070, 6.3.1 to 6.3.6; arm_smmu_device_hw_probe() of Linux
[[nodiscard]] Offer offer_of(const Hardware& hardware) noexcept;

/// What devices behind one virtual SMMU have in common.
[[nodiscard]] Offer common(const Offer& a, const Offer& b) noexcept;

}  // namespace faultline::iommufd
