// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kernel/base/result.h"
#include "kernel/uapi/vfio_nested.h"

namespace faultline::vfio {

/// What a region says of itself: GET_REGION_INFO with its capabilities, decoded and checked.
struct RegionInfo {
  struct Area {
    std::uint64_t offset = 0;  ///< in the region
    std::uint64_t size = 0;
  };
  std::uint32_t index = 0;
  std::uint32_t flags = 0;                     ///< uapi::kVfioRegionInfoFlag…
  std::uint64_t size = 0;                      ///< bytes
  std::uint64_t file_offset = 0;               ///< of its first byte in the device's file
  std::optional<std::uint32_t> type;           ///< TYPE capability
  std::uint32_t subtype = 0;                   ///< valid with type
  std::optional<std::uint32_t> max_fault_abi;  ///< PRODUCER_FAULT capability
  bool sparse = false;                         ///< has a SPARSE_MMAP capability
  std::vector<Area> areas;                     ///< with sparse: what may be mapped

  [[nodiscard]] bool has(std::uint32_t flag) const noexcept { return (flags & flag) != 0; }

  /// Whether [offset, offset + bytes) may be mapped, as one piece; the area that holds it.
  [[nodiscard]] std::optional<Area> mappable(std::uint64_t offset, std::uint64_t bytes) const;
};

/// Decode the answer to GET_REGION_INFO: the struct and the capability chain behind it.
///
/// answer   8-byte aligned not required; the bytes that the kernel may have filled: min(argsz, what
///          was offered). The chain's offsets count from its first byte
/// returns  the region; capabilities of unknown id are passed over
/// errors   one line naming the region and what is wrong: chain out of bounds, misaligned, turning
///          back (a chain only goes forward, so no loop can be followed), a capability that is cut
///          short or of an unknown version, an area outside of the region, one capability twice
/// cost     at most answer.size() / 8 steps
[[nodiscard]] Result<RegionInfo> parse_region_info(std::span<const unsigned char> answer);

}  // namespace faultline::vfio
