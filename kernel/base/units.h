// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>

namespace faultline {

/// One address in one address space; spaces do not mix.
template <class Space>
struct Address {
  std::uint64_t value = 0;

  constexpr auto operator<=>(const Address&) const = default;
  constexpr Address operator+(std::uint64_t bytes) const { return Address{value + bytes}; }
};

using Iova = Address<struct IovaSpace>;  ///< what a device puts on the bus, input of stage 1
using Gpa = Address<struct GpaSpace>;    ///< guest-physical, output of stage 1, input of stage 2

/// What a device is called in the guest: the StreamID of the virtual SMMU.
struct StreamId {
  std::uint32_t value = 0;
  constexpr auto operator<=>(const StreamId&) const = default;
};

inline constexpr std::size_t kCacheLine = 64;
inline constexpr std::size_t kPage4K = 4096;

}  // namespace faultline
