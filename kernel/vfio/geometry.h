// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>

#include "kernel/base/result.h"
#include "kernel/uapi/vfio_nested.h"
#include "kernel/vfio/capability_chain.h"
#include "kernel/vfio/profile.h"

namespace faultline::vfio {

/// The highest fault ABI that this program knows.
inline constexpr std::uint32_t kHighestFaultAbi = 2;

/// A fault queue's shape as the kernel's header says it, checked.
struct Geometry {
  std::uint32_t abi = 0;
  std::uint32_t entries = 0;
  std::uint32_t entry_size = 0;  ///< bytes from one slot to the next, a multiple of 8
  std::uint32_t offset = 0;      ///< of slot 0 in the producer region
};

/// What to map for a queue, in offsets of the two regions.
struct MapPlan {
  Geometry geometry;
  RegionInfo::Area producer;
  RegionInfo::Area consumer;  ///< ABI 2 only
};

/// Whether these two are the seed's regions and not those of a later revision, which reused type
/// and subtype: v9 and later make the producer writable or give the consumer another size.
[[nodiscard]] Result<void> check_regions(const RegionInfo& prod, const RegionInfo& cons);

/// The ABI to write into the consumer region.
[[nodiscard]] Result<std::uint32_t> choose_abi(const RegionInfo& prod, AbiChoice choice);

/// Check the header that the kernel gave for `abi` against what its regions allow to be mapped.
[[nodiscard]] Result<MapPlan> check_geometry(std::uint32_t abi,
                                             const uapi::vfio_region_fault_prod& header,
                                             const RegionInfo& prod, const RegionInfo& cons);

}  // namespace faultline::vfio
