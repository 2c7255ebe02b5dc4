// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/vfio/capability_chain.h"

#include <algorithm>
#include <cstring>
#include <string>

namespace faultline::vfio {
namespace {

using uapi::vfio_info_cap_header;
using uapi::vfio_region_info;
using uapi::vfio_region_info_cap_fault;
using uapi::vfio_region_info_cap_sparse_mmap;
using uapi::vfio_region_info_cap_type;
using uapi::vfio_region_sparse_mmap_area;

using Bytes = std::span<const unsigned char>;

/// Read a T at `at`, or nothing when it does not fit.
template <class T>
std::optional<T> take(Bytes bytes, std::size_t at) {
  if (at > bytes.size() || bytes.size() - at < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

tl::unexpected<Error> bad(const RegionInfo& region, const std::string& what) {
  return fail(0, "region " + std::to_string(region.index) + " has a bad capability chain: " + what);
}

Result<void> read_areas(Bytes answer, std::size_t at, RegionInfo& region) {
  const auto cap = take<vfio_region_info_cap_sparse_mmap>(answer, at);
  if (!cap) return bad(region, "SPARSE_MMAP is cut short");
  if (region.sparse) return bad(region, "SPARSE_MMAP comes twice");
  region.sparse = true;
  at += sizeof *cap;
  if (cap->nr_areas > (answer.size() - at) / sizeof(vfio_region_sparse_mmap_area)) {
    return bad(region, "SPARSE_MMAP lists " + std::to_string(cap->nr_areas) +
                           " areas, more than were handed over");
  }
  for (std::uint32_t i = 0; i < cap->nr_areas; ++i) {
    const auto area =
        *take<vfio_region_sparse_mmap_area>(answer, at + i * sizeof(RegionInfo::Area));
    if (area.offset > region.size || region.size - area.offset < area.size) {
      return bad(region, "a SPARSE_MMAP area lies outside of the region");
    }
    region.areas.push_back({area.offset, area.size});
  }
  return {};
}

Result<void> read_capability(Bytes answer, std::size_t at, const vfio_info_cap_header& header,
                             RegionInfo& region) {
  const auto version_1 = [&](const char* name) -> Result<void> {
    if (header.version == 1) return {};
    return bad(region, std::string(name) + " has version " + std::to_string(header.version) +
                           ", only 1 is known");
  };
  switch (header.id) {
    case uapi::kVfioRegionInfoCapSparseMmap:
      return version_1("SPARSE_MMAP").and_then([&] { return read_areas(answer, at, region); });
    case uapi::kVfioRegionInfoCapType: {
      const auto cap = take<vfio_region_info_cap_type>(answer, at);
      if (!cap) return bad(region, "TYPE is cut short");
      if (region.type) return bad(region, "TYPE comes twice");
      region.type = cap->type;
      region.subtype = cap->subtype;
      return version_1("TYPE");
    }
    case uapi::kVfioRegionInfoCapProducerFault: {
      const auto cap = take<vfio_region_info_cap_fault>(answer, at);
      if (!cap) return bad(region, "PRODUCER_FAULT is cut short");
      if (region.max_fault_abi) return bad(region, "PRODUCER_FAULT comes twice");
      region.max_fault_abi = cap->version;
      return version_1("PRODUCER_FAULT");
    }
    default:
      return {};  // mainline and later kernels have more; none of them concerns us
  }
}

}  // namespace

std::optional<RegionInfo::Area> RegionInfo::mappable(std::uint64_t offset,
                                                     std::uint64_t bytes) const {
  const auto holds = [&](const Area& a) {
    return offset >= a.offset && offset - a.offset <= a.size &&
           a.size - (offset - a.offset) >= bytes;
  };
  if (!has(uapi::kVfioRegionInfoFlagMmap)) return std::nullopt;
  if (!sparse) {
    const Area whole{0, size};
    return holds(whole) ? std::optional(whole) : std::nullopt;
  }
  const auto found = std::find_if(areas.begin(), areas.end(), holds);
  return found == areas.end() ? std::nullopt : std::optional(*found);
}

Result<RegionInfo> parse_region_info(Bytes answer) {
  const auto info = take<vfio_region_info>(answer, 0);
  if (!info) return fail(0, "the answer to GET_REGION_INFO is shorter than its struct");
  RegionInfo region;
  region.index = info->index;
  region.flags = info->flags;
  region.size = info->size;
  region.file_offset = info->offset;
  if (!region.has(uapi::kVfioRegionInfoFlagCaps)) return region;

  std::size_t before = 0;
  for (std::size_t at = info->cap_offset; at != 0;) {
    if (at < sizeof(vfio_region_info)) return bad(region, "it points into the struct before it");
    // The kernel appends each capability behind the last one. Going forward only is what ends every
    // hostile chain within the buffer.
    if (at <= before) return bad(region, "it turns back to offset " + std::to_string(at));
    if (at % alignof(vfio_info_cap_header) != 0) return bad(region, "an offset is not aligned");
    const auto header = take<vfio_info_cap_header>(answer, at);
    if (!header) return bad(region, "it leaves the " + std::to_string(answer.size()) + " bytes");
    if (auto read = read_capability(answer, at, *header, region); !read) {
      return tl::unexpected(read.error());
    }
    before = at;
    at = header->next;
  }
  return region;
}

}  // namespace faultline::vfio
