// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/vfio/geometry.h"

#include <algorithm>
#include <string>

#include "kernel/base/units.h"
#include "kernel/uapi/fault_abi2.h"

namespace faultline::vfio {
namespace {

// A ring beyond this is no ring but a mistake: 64 MiB of records.
constexpr std::uint32_t kMostEntries = 1U << 20U;
constexpr std::uint32_t kLargestEntry = 4096;

tl::unexpected<Error> senseless(const std::string& what) {
  return fail(0, "the fault queue's geometry makes no sense: " + what);
}

bool page_aligned(const RegionInfo::Area& area) {
  return area.offset % kPage4K == 0 && area.size % kPage4K == 0 && area.size > 0;
}

}  // namespace

Result<void> check_regions(const RegionInfo& prod, const RegionInfo& cons) {
  constexpr auto kLater = " (v9 or later of the nested stage series; only v7 is spoken here)";
  if (prod.has(uapi::kVfioRegionInfoFlagWrite)) {
    return fail(0, std::string("the producer fault region is writable") + kLater);
  }
  if (!prod.has(uapi::kVfioRegionInfoFlagRead)) {
    return fail(0, "the producer fault region cannot be read");
  }
  if (!cons.has(uapi::kVfioRegionInfoFlagWrite)) {
    return fail(0, std::string("the consumer fault region cannot be written") + kLater);
  }
  const bool page = cons.has(uapi::kVfioRegionInfoFlagMmap) && cons.size >= kPage4K &&
                    prod.max_fault_abi.value_or(1) >= 2;
  if (cons.size != sizeof(uapi::vfio_region_fault_cons) && !page) {
    return fail(0, "the consumer fault region has " + std::to_string(cons.size) +
                       " bytes instead of 8" + kLater);
  }
  return {};
}

Result<std::uint32_t> choose_abi(const RegionInfo& prod, AbiChoice choice) {
  if (!prod.max_fault_abi) {
    return fail(0,
                "the producer fault region has no PRODUCER_FAULT capability: no fault ABI to "
                "agree on");
  }
  const std::uint32_t highest = *prod.max_fault_abi;
  if (highest < 1) return fail(0, "the kernel offers fault ABI 0, which does not exist");
  if (choice == AbiChoice::kAuto) return std::min(highest, kHighestFaultAbi);
  const auto wanted = static_cast<std::uint32_t>(choice);
  if (wanted > highest) {
    return fail(0, "fault ABI " + std::to_string(wanted) + " was asked for, the kernel offers " +
                       std::to_string(highest) + " at most (use --abi auto)");
  }
  return wanted;
}

Result<MapPlan> check_geometry(std::uint32_t abi, const uapi::vfio_region_fault_prod& header,
                               const RegionInfo& prod, const RegionInfo& cons) {
  const std::uint32_t smallest =
      abi == 2 ? std::uint32_t{uapi::kFaultAbi2RecordSize} : sizeof(uapi::iommu_fault);
  if (header.entry_size < smallest || header.entry_size > kLargestEntry ||
      header.entry_size % sizeof(std::uint64_t) != 0) {
    return senseless("entry_size " + std::to_string(header.entry_size));
  }
  if (header.nb_entries < 2 || header.nb_entries > kMostEntries) {
    return senseless("nb_entries " + std::to_string(header.nb_entries));
  }
  if (abi == 2 && (header.nb_entries & (header.nb_entries - 1)) != 0) {
    return senseless("nb_entries " + std::to_string(header.nb_entries) + " is no power of two");
  }
  if (abi == 2 && header.entry_size != uapi::kFaultAbi2RecordSize) {
    return senseless("entry_size " + std::to_string(header.entry_size) + " instead of 64");
  }
  const std::uint64_t alignment = abi == 2 ? kPage4K : sizeof(std::uint64_t);
  if (header.offset < sizeof header || header.offset % alignment != 0) {
    return senseless("queue at offset " + std::to_string(header.offset));
  }
  const std::uint64_t ring = std::uint64_t{header.nb_entries} * header.entry_size;
  MapPlan plan;
  plan.geometry = {abi, header.nb_entries, header.entry_size, header.offset};

  // Version 2 is polled through its header, so the mapping must begin with it.
  const std::uint64_t from = abi == 2 ? 0 : header.offset;
  const auto area = prod.mappable(from, header.offset + ring - from);
  if (!area) {
    return senseless(std::to_string(ring) + " bytes of queue at offset " +
                     std::to_string(header.offset) + " are not in one mappable area");
  }
  if (!page_aligned(*area)) return senseless("its mappable area is not made of pages");
  plan.producer = *area;
  if (abi == 2) {
    const auto page = cons.mappable(0, kPage4K);
    if (!page || page->offset != 0) return senseless("the consumer index cannot be mapped");
    plan.consumer = {0, kPage4K};
  }
  return plan;
}

}  // namespace faultline::vfio
