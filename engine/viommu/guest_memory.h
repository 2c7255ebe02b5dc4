// SPDX-License-Identifier: BSD-3-Clause
// hot path: finding the guest's memory by guest-physical address, bounds checked.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/guest_spec.h"
#include "engine/viommu/sigbus_guard.h"
#include "kernel/base/result.h"
#include "kernel/base/shared.h"
#include "kernel/base/units.h"

namespace faultline::viommu {

/// "0x…", for messages about addresses.
std::string hex(std::uint64_t value);

/// All memory of one guest, as mapped in this process. Immutable after make(), so that both duties
/// of a guest use one map without synchronising.
///
/// Every access is checked: an address outside, or a length that runs out of the map or past 2^64,
/// is refused and touches nothing. A page that cannot be read any more (hole, memory error) reads
/// as zero and sets poisoned(): see sigbus_guard.h.
class GuestMemory {
 public:
  /// Check the regions and guard them against SIGBUS.
  ///
  /// regions  in any order; disjoint; address, size and mapping multiples of 4 KiB
  /// errors   EINVAL-like messages naming the region; a memfd without F_SEAL_SHRINK is refused,
  ///          because its owner could take pages away under the engine
  /// thread   control path; allocates
  static Result<GuestMemory> make(std::span<const engine::MemoryRegion> regions);

  /// Where [gpa, gpa + bytes) is mapped, when it lies inside one region; else nullptr.
  /// For what lives long: register page, queues. An empty range has no place.
  /// cost  O(log regions)
  [[nodiscard]] void* pointer(Gpa gpa, std::uint64_t bytes) const noexcept {
    const Region* r = find(gpa.value);
    if (r == nullptr || bytes == 0) return nullptr;
    const std::uint64_t offset = gpa.value - r->gpa;
    if (bytes > r->size - offset) return nullptr;
    return r->host + offset;
  }

  /// Read one aligned word, once, relaxed.
  /// returns  false: outside the map or not aligned; `out` is left alone
  [[nodiscard]] bool read32(Gpa gpa, std::uint32_t& out) const noexcept {
    const auto* p = word<std::uint32_t>(gpa);
    if (p == nullptr) return false;
    out = load_relaxed(*p);
    return true;
  }
  [[nodiscard]] bool read64(Gpa gpa, std::uint64_t& out) const noexcept {
    const auto* p = word<std::uint64_t>(gpa);
    if (p == nullptr) return false;
    out = load_relaxed(*p);
    return true;
  }

  /// Write one aligned word with release: everything before is visible to a guest that sees it.
  /// returns  false: outside the map or not aligned; nothing was written
  [[nodiscard]] bool write32(Gpa gpa, std::uint32_t value) const noexcept {
    auto* p = word<std::uint32_t>(gpa);
    if (p == nullptr) return false;
    store_release(*p, value);
    return true;
  }
  [[nodiscard]] bool write64(Gpa gpa, std::uint64_t value) const noexcept {
    auto* p = word<std::uint64_t>(gpa);
    if (p == nullptr) return false;
    store_release(*p, value);
    return true;
  }

  /// Copy words, each read once and relaxed; a structure may span adjacent regions.
  ///
  /// gpa      8-byte aligned
  /// returns  false: some word is outside; `out` may be filled in part
  [[nodiscard]] bool copy_in(Gpa gpa, std::span<std::uint64_t> out) const noexcept {
    if (gpa.value % sizeof(std::uint64_t) != 0) return false;
    if (const void* p = pointer(gpa, out.size_bytes()); p != nullptr) {
      copy_from_shared(out.data(), p, out.size_bytes());
      return true;
    }
    return copy_in_slow(gpa, out);
  }

  /// A page of this guest was gone when it was touched: what was read is not the guest's data. The
  /// engine detaches the guest. Never cleared.
  [[nodiscard]] bool poisoned() const noexcept { return guard_.poisoned(); }

  [[nodiscard]] std::size_t regions() const noexcept { return regions_.size(); }

 private:
  struct Region {
    std::uint64_t gpa = 0;
    std::uint64_t size = 0;
    unsigned char* host = nullptr;
  };

  GuestMemory(std::vector<Region> regions, SigbusGuard guard)
      : regions_(std::move(regions)), guard_(std::move(guard)) {}

  [[nodiscard]] const Region* find(std::uint64_t gpa) const noexcept {
    // The last region that starts at or below gpa; make() made them sorted and disjoint.
    const Region* first = regions_.data();
    std::size_t count = regions_.size();
    while (count > 1) {
      const std::size_t half = count / 2;
      if (first[half].gpa <= gpa) {
        first += half;
        count -= half;
      } else {
        count = half;
      }
    }
    return count == 1 && gpa >= first->gpa && gpa - first->gpa < first->size ? first : nullptr;
  }

  template <class T>
  [[nodiscard]] T* word(Gpa gpa) const noexcept {
    // Regions are multiples of a page, so an aligned word lies in one or in none.
    if (gpa.value % sizeof(T) != 0) return nullptr;
    const Region* r = find(gpa.value);
    return r == nullptr ? nullptr : reinterpret_cast<T*>(r->host + (gpa.value - r->gpa));
  }

  [[gnu::cold, gnu::noinline]] bool copy_in_slow(Gpa gpa,
                                                 std::span<std::uint64_t> out) const noexcept;

  std::vector<Region> regions_;
  SigbusGuard guard_;
};

}  // namespace faultline::viommu
