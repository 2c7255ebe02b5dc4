// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <sys/mman.h>

#include <array>
#include <cstdlib>

#include "engine/viommu/guest_memory.h"
#include "engine/viommu/registers.h"

namespace faultline::bench {

/// A guest's memory with a register page at its start, on anonymous memory.
class Guest {
 public:
  static constexpr std::uint64_t kBase = 0x4000'0000;
  static constexpr std::size_t kSize = 16U << 20U;
  static constexpr std::uint64_t kQueueAt = kBase + (1U << 20U);

  enum Populate { kPopulated, kLazy };

  /// kLazy: pages come when they are touched first
  explicit Guest(Populate populate = kPopulated)
      : ram_(map(populate == kPopulated ? MAP_POPULATE : 0)), memory_(describe(ram_)) {
    auto page = viommu::RegisterPage::map(memory_, Gpa{kBase});
    if (!page) std::abort();
    page_ = *page;
  }
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;
  ~Guest() { munmap(ram_, kSize); }

  void* ram_;
  viommu::GuestMemory memory_;
  viommu::RegisterPage page_;

 private:
  static void* map(int populate) {
    void* at =
        mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | populate, -1, 0);
    if (at == MAP_FAILED) std::abort();
    return at;
  }
  static viommu::GuestMemory describe(void* ram) {
    const std::array<engine::MemoryRegion, 1> regions{
        engine::MemoryRegion{.gpa = Gpa{kBase}, .size = kSize, .host = ram, .memfd = -1}};
    auto memory = viommu::GuestMemory::make(regions);
    if (!memory) std::abort();
    return std::move(*memory);
  }
};

}  // namespace faultline::bench
