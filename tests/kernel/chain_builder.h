// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernel/uapi/vfio_nested.h"

namespace faultline::testing {

/// Appends capabilities to the answer of GET_REGION_INFO, as a kernel does or as none should.
class ChainBuilder {
 public:
  ChainBuilder& add(std::uint16_t id, std::uint16_t version,
                    const std::vector<std::uint32_t>& body) {
    const std::size_t at = bytes_.size();
    if (last_ == 0) {
      first_ = static_cast<std::uint32_t>(at);
    } else {
      put32(last_ + 4, static_cast<std::uint32_t>(at));
    }
    last_ = at;
    bytes_.resize(at + 8 + body.size() * 4);
    const std::uint32_t head = id | (std::uint32_t{version} << 16U);
    put32(at, head);
    for (std::size_t i = 0; i < body.size(); ++i) put32(at + 8 + i * 4, body[i]);
    bytes_.resize((bytes_.size() + 7) / 8 * 8);
    return *this;
  }
  ChainBuilder& type(std::uint32_t type, std::uint32_t subtype) {
    return add(2, 1, {type, subtype});
  }
  ChainBuilder& producer_fault(std::uint32_t abi) { return add(6, 1, {abi}); }
  ChainBuilder& area(std::uint32_t offset, std::uint32_t size) {
    return add(1, 1, {1, 0, offset, 0, size, 0});
  }

  /// The whole answer: struct and chain.
  [[nodiscard]] std::vector<unsigned char> answer(std::uint32_t index, std::uint32_t flags,
                                                  std::uint64_t size) const {
    std::vector<unsigned char> out = bytes_;
    uapi::vfio_region_info info{};
    info.argsz = static_cast<std::uint32_t>(out.size());
    info.index = index;
    info.flags = flags | (first_ != 0 ? uapi::kVfioRegionInfoFlagCaps : 0U);
    info.cap_offset = first_;
    info.size = size;
    info.offset = std::uint64_t{index} << 40U;
    std::memcpy(out.data(), &info, sizeof info);
    return out;
  }

 private:
  void put32(std::size_t at, std::uint32_t value) { std::memcpy(&bytes_[at], &value, 4); }

  std::vector<unsigned char> bytes_ = std::vector<unsigned char>(sizeof(uapi::vfio_region_info));
  std::size_t last_ = 0;
  std::uint32_t first_ = 0;
};

}  // namespace faultline::testing
