// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstdint>
#include <initializer_list>
#include <random>
#include <utility>
#include <vector>

#include "engine/viommu/guest_memory.h"
#include "engine/viommu/registers.h"

namespace faultline::viommu::test {

/// Guest memory made of anonymous pages, and what a guest would do with it.
class Memory {
 public:
  struct Part {
    std::uint64_t gpa = 0;
    std::size_t bytes = 0;
  };

  Memory(std::initializer_list<Part> parts) {
    for (const Part& part : parts) {
      void* host =
          mmap(nullptr, part.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (host == MAP_FAILED) std::abort();
      regions_.push_back({Gpa{part.gpa}, part.bytes, host, -1});
    }
    auto made = GuestMemory::make(regions_);
    if (!made) std::abort();
    memory_.emplace_back(std::move(*made));
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() {
    memory_.clear();
    for (const auto& r : regions_) munmap(r.host, r.size);
  }

  const GuestMemory& get() const { return memory_.front(); }

  void put(std::uint64_t gpa, std::initializer_list<std::uint64_t> words) {
    for (const std::uint64_t word : words) {
      ASSERT_TRUE(get().write64(Gpa{gpa}, word));
      gpa += sizeof word;
    }
  }

  std::uint64_t word(std::uint64_t gpa) const {
    std::uint64_t value = 0;
    EXPECT_TRUE(get().read64(Gpa{gpa}, value));
    return value;
  }

 private:
  std::vector<engine::MemoryRegion> regions_;
  std::vector<GuestMemory> memory_;
};

/// The same sequence in every run; the seed is printed with a failure.
inline std::mt19937_64 seeded(std::uint64_t seed) {
  testing::Test::RecordProperty("seed", std::to_string(seed));
  return std::mt19937_64(seed);
}

}  // namespace faultline::viommu::test
