// SPDX-License-Identifier: BSD-3-Clause
// The answer to GET_REGION_INFO as a hostile kernel gives it, against a decoder of its own.
#include "kernel/vfio/capability_chain.h"

#include <memory>
#include <optional>

#include "tests/fuzz/input.h"

namespace faultline::fuzz {
namespace {

/// The same rules by byte offsets and in wide arithmetic.
class Naive {
 public:
  explicit Naive(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}

  bool accepts() {
    if (bytes_.size() < 32) return false;
    if ((number(4, 4) & 8) == 0) return true;
    std::uint64_t before = 0;
    for (std::uint64_t at = number(12, 4); at != 0; at = number(at + 4, 4)) {
      if (at < 32 || at <= before || at % 4 != 0 || !inside(at, 8)) return false;
      if (!capability(at)) return false;
      before = at;
      ++capabilities;
    }
    return true;
  }

  std::size_t capabilities = 0;
  std::optional<std::uint64_t> type, subtype, abi;
  std::optional<std::vector<std::pair<std::uint64_t, std::uint64_t>>> areas;

  [[nodiscard]] std::uint64_t number(std::uint64_t at, unsigned size) const {
    std::uint64_t value = 0;
    for (unsigned i = 0; i < size; ++i) value |= std::uint64_t{bytes_[at + i]} << 8 * i;
    return value;
  }

 private:
  [[nodiscard]] bool inside(std::uint64_t at, std::uint64_t size) const {
    return at + size <= bytes_.size();
  }
  bool capability(std::uint64_t at) {
    const auto id = number(at, 2);
    if (id != 1 && id != 2 && id != 6) return true;
    if (number(at + 2, 2) != 1) return false;
    if (id == 6) {
      if (!inside(at, 12) || abi) return false;
      abi = number(at + 8, 4);
      return true;
    }
    if (!inside(at, 16)) return false;
    if (id == 2) {
      if (type) return false;
      type = number(at + 8, 4);
      subtype = number(at + 12, 4);
      return true;
    }
    const auto n = number(at + 8, 4);
    if (areas || !inside(at + 16, n * 16)) return false;
    areas.emplace();
    for (std::uint64_t i = 0; i < n; ++i) {
      const auto offset = number(at + 16 + i * 16, 8);
      const auto size = number(at + 24 + i * 16, 8);
      if (static_cast<unsigned __int128>(offset) + size > number(16, 8)) return false;
      areas->emplace_back(offset, size);
    }
    return true;
  }

  std::span<const std::uint8_t> bytes_;
};

void check_mappable(const vfio::RegionInfo& region, std::uint64_t offset, std::uint64_t bytes) {
  const auto area = region.mappable(offset, bytes);
  const auto holds = [&](std::uint64_t at, std::uint64_t size) {
    return offset >= at && static_cast<unsigned __int128>(offset) + bytes <=
                               static_cast<unsigned __int128>(at) + size;
  };
  bool expected = !region.sparse && holds(0, region.size);
  for (const auto& a : region.areas) expected |= region.sparse && holds(a.offset, a.size);
  expected = expected && region.has(uapi::kVfioRegionInfoFlagMmap);
  hold(area.has_value() == expected, "mappable() disagrees");
  if (!area) return;
  hold(holds(area->offset, area->size), "the area does not hold what was asked");
  hold(static_cast<unsigned __int128>(area->offset) + area->size <= region.size,
       "the area leaves the region");
}

void run(std::span<const std::uint8_t> bytes) {
  // At an odd address, and with nothing behind it that could be read by mistake.
  const std::unique_ptr<unsigned char[]> copy(new unsigned char[bytes.size() + 1]);
  if (!bytes.empty()) std::memcpy(copy.get() + 1, bytes.data(), bytes.size());
  const auto region = vfio::parse_region_info({copy.get() + 1, bytes.size()});
  Naive naive(bytes);
  hold(region.has_value() == naive.accepts(), "accepted or refused against the rules");
  if (!region) {
    hold_one_line(region.error().message());
    return;
  }
  hold(naive.capabilities * 8 <= bytes.size(), "more capabilities than fit");
  hold(region->flags == naive.number(4, 4) && region->index == naive.number(8, 4), "the struct");
  hold(region->size == naive.number(16, 8) && region->file_offset == naive.number(24, 8), "place");
  hold(region->type == naive.type, "TYPE");
  hold(region->subtype == naive.subtype.value_or(0), "subtype");
  hold(region->max_fault_abi == naive.abi, "PRODUCER_FAULT");
  hold(region->sparse == naive.areas.has_value(), "SPARSE_MMAP");
  hold(region->areas.size() == (naive.areas ? naive.areas->size() : 0), "number of areas");
  for (std::size_t i = 0; i < region->areas.size(); ++i) {
    const auto& [offset, size] = (*naive.areas)[i];
    hold(region->areas[i].offset == offset && region->areas[i].size == size, "an area");
    check_mappable(*region, offset, size);
    check_mappable(*region, offset + size - 1, 2);
  }
  for (const std::uint64_t at : {std::uint64_t{0}, region->size, ~std::uint64_t{0}}) {
    check_mappable(*region, at, 4096);
    check_mappable(*region, at, ~at + 1);
  }
}

}  // namespace
}  // namespace faultline::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  faultline::fuzz::run({data, size});
  return 0;
}
