// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "engine/viommu/feature_set.h"
#include "engine/viommu/guest_memory.h"
#include "tests/fuzz/input.h"

namespace faultline::fuzz {

/// Guest memory in which every region ends at a page that nobody may touch.
class GuardedMemory {
 public:
  struct Part {
    std::uint64_t gpa = 0;
    std::size_t bytes = 0;
  };

  GuardedMemory(std::initializer_list<Part> parts) : parts_(parts) {
    for (const Part& part : parts_) {
      const std::size_t all = part.bytes + 2 * kPage4K;
      void* at = mmap(nullptr, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      auto* host = static_cast<unsigned char*>(at) + kPage4K;
      if (at == MAP_FAILED || mprotect(host, part.bytes, PROT_READ | PROT_WRITE) != 0) std::abort();
      regions.push_back({Gpa{part.gpa}, part.bytes, host, -1});
    }
    auto made = viommu::GuestMemory::make(regions);
    if (!made) std::abort();
    made_.push_back(std::move(*made));
  }
  GuardedMemory(const GuardedMemory&) = delete;
  GuardedMemory& operator=(const GuardedMemory&) = delete;

  [[nodiscard]] const viommu::GuestMemory& get() const { return made_.front(); }
  [[nodiscard]] unsigned char* host(std::size_t part) const {
    return static_cast<unsigned char*>(regions[part].host);
  }
  void clear() const {
    for (const auto& r : regions) std::memset(r.host, 0, r.size);
  }
  /// The reader that the code under test is compared with. `gpa` is 8-byte aligned.
  [[nodiscard]] bool word(unsigned __int128 gpa, std::uint64_t& out) const {
    for (const auto& r : regions) {
      if (gpa < r.gpa.value || gpa - r.gpa.value >= r.size) continue;
      const auto offset = static_cast<std::size_t>(gpa - r.gpa.value);
      std::memcpy(&out, static_cast<const unsigned char*>(r.host) + offset, sizeof out);
      return true;
    }
    return false;
  }

  std::vector<engine::MemoryRegion> regions;

 private:
  std::vector<Part> parts_;
  std::vector<viommu::GuestMemory> made_;
};

inline viommu::Features features(Input& in) {
  static constexpr unsigned kOas[] = {32, 36, 40, 42, 44, 48};
  viommu::Features f;
  const std::uint8_t bits = in.byte();
  f.ranges = (bits & 1) != 0;
  f.ats = (bits & 2) != 0;
  f.pri = (bits & 4) != 0;
  f.stalls = (bits & 8) != 0;
  f.msi = (bits & 16) != 0;
  f.two_level_streams = (bits & 32) != 0;
  f.two_level_contexts = (bits & 64) != 0;
  f.sid_bits = in.byte() % 33;
  f.ssid_bits = in.byte() % 21;
  f.oas_bits = kOas[in.byte() % 6];
  return f;
}

}  // namespace faultline::fuzz
