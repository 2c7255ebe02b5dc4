// SPDX-License-Identifier: BSD-3-Clause
#include "engine/viommu/guest_memory.h"

#include <fcntl.h>

#include <array>
#include <cerrno>
#include <charconv>

namespace faultline::viommu {

namespace {

std::string describe(const engine::MemoryRegion& region) {
  return "memory region at " + hex(region.gpa.value) + " of " + hex(region.size) + " bytes";
}

/// Nothing may take pages away under the engine: a memfd has to be sealed against shrinking.
Result<void> check_seal(const engine::MemoryRegion& region) {
  if (region.memfd < 0) return {};
  const int seals = fcntl(region.memfd, F_GET_SEALS);
  if (seals < 0) return fail(errno, describe(region) + ": its descriptor is not a sealable memfd");
  if ((seals & F_SEAL_SHRINK) == 0) {
    return fail(0, describe(region) + ": its memfd may shrink; seal it with F_SEAL_SHRINK");
  }
  return {};
}

Result<void> check(const engine::MemoryRegion& region) {
  const auto host = reinterpret_cast<std::uintptr_t>(region.host);
  if (region.host == nullptr) return fail(0, describe(region) + ": not mapped");
  if (region.size == 0) return fail(0, describe(region) + ": empty");
  if ((region.gpa.value | region.size | host) % kPage4K != 0) {
    return fail(0, describe(region) + ": address, size and mapping must be multiples of 4 KiB");
  }
  if (region.gpa.value + (region.size - 1) < region.gpa.value) {
    return fail(0, describe(region) + ": runs past the end of the address space");
  }
  if (host + (region.size - 1) < host) {
    return fail(0, describe(region) + ": its mapping runs past the end of the address space");
  }
  return check_seal(region);
}

}  // namespace

std::string hex(std::uint64_t value) {
  std::array<char, 18> text{'0', 'x'};
  const auto end = std::to_chars(text.data() + 2, text.data() + text.size(), value, 16);
  return std::string(text.data(), end.ptr);
}

Result<GuestMemory> GuestMemory::make(std::span<const engine::MemoryRegion> regions) {
  if (regions.empty()) return fail(0, "a guest without memory: give it at least one region");
  std::vector<Region> sorted;
  std::vector<SigbusGuard::Range> ranges;
  for (const auto& r : regions) {
    if (auto checked = check(r); !checked) return tl::unexpected(checked.error());
    sorted.push_back({r.gpa.value, r.size, static_cast<unsigned char*>(r.host)});
    ranges.push_back({r.host, r.size});
  }
  std::sort(sorted.begin(), sorted.end(),
            [](const Region& a, const Region& b) { return a.gpa < b.gpa; });
  for (std::size_t i = 1; i < sorted.size(); ++i) {
    const Region& before = sorted[i - 1];
    if (sorted[i].gpa - before.gpa < before.size) {
      return fail(
          0, "memory regions at " + hex(before.gpa) + " and " + hex(sorted[i].gpa) + " overlap");
    }
  }
  auto guard = SigbusGuard::watch(ranges);
  if (!guard) return tl::unexpected(guard.error());
  return GuestMemory(std::move(sorted), std::move(*guard));
}

bool GuestMemory::copy_in_slow(Gpa gpa, std::span<std::uint64_t> out) const noexcept {
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::uint64_t at = gpa.value + i * sizeof(std::uint64_t);
    if (at < gpa.value || !read64(Gpa{at}, out[i])) return false;
  }
  return true;
}

}  // namespace faultline::viommu
