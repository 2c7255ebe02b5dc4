// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <string>

#include "kernel/operation.h"

namespace faultline::vfio {

/// Which invalidations this kernel takes: asked of it by harmless calls, never guessed.
///
/// The documented interface has them all; the v7 code refuses all three (UAPI facts: IOTLB at any
/// other granularity is -EINVAL, the two other caches are -ENOENT).
struct KernelProfile {
  /// One call makes the host do one TLBI per granule with its lock held; a sink cuts what is
  /// longer.
  static constexpr std::uint32_t kMostGranules = 512;

  bool tlb_domain = false;  ///< IOTLB at DOMAIN granularity
  bool cd_cache = false;    ///< PASID cache: context descriptors
  bool dev_iotlb = false;   ///< DEV_IOTLB: the devices' own caches

  /// Whether it answers as the real v7 did; then its records have v7's defects as well (reason
  /// always 0, fetch_addr shifted right by 3).
  [[nodiscard]] bool v7_quirks() const noexcept { return !tlb_domain && !cd_cache && !dev_iotlb; }

  /// What a sink over containers of this kernel can promise.
  [[nodiscard]] SinkCaps caps() const noexcept {
    return {.max_batch = 1,
            .tlb_all = tlb_domain,
            .config_caches = cd_cache,
            .atc = dev_iotlb,
            .range = false,
            .max_pages = kMostGranules};
  }

  /// One line for the operator.
  [[nodiscard]] std::string describe() const {
    if (v7_quirks()) return "v7 as it was: TLB by ASID and by address only";
    return std::string("TLB by domain ") + (tlb_domain ? "yes" : "no") + ", context descriptors " +
           (cd_cache ? "yes" : "no") + ", device TLB " + (dev_iotlb ? "yes" : "no");
  }

  bool operator==(const KernelProfile&) const = default;
};

/// Which fault ABI to ask for.
enum class AbiChoice : unsigned char {
  kAuto = 0,  ///< the highest that both sides know
  kV1 = 1,
  kV2 = 2,
};

}  // namespace faultline::vfio
