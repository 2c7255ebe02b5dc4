// SPDX-License-Identifier: BSD-3-Clause
#include "engine/hugepages.h"

#include <sys/mman.h>

#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <string_view>

namespace faultline::engine {
namespace {

std::size_t number_in(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::size_t n = 0;
  return in >> n ? n : 0;
}

// "hugepages-2048kB" → 2 MiB; 0: another name
std::size_t page_bytes(const std::string& name) {
  constexpr std::string_view kPrefix = "hugepages-";
  if (!name.starts_with(kPrefix) || !name.ends_with("kB")) return 0;
  std::size_t kib = 0;
  std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), kib);
  return kib << 10U;
}

}  // namespace

Hugepages hugepages_of(unsigned node, const std::string& sys) {
  namespace fs = std::filesystem;
  std::error_code error;
  fs::path folder =
      fs::path(sys) / "devices/system/node" / ("node" + std::to_string(node)) / "hugepages";
  // A kernel without NUMA has them in one place.
  if (!fs::is_directory(folder, error)) folder = fs::path(sys) / "kernel/mm/hugepages";
  Hugepages all;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::size_t bytes = page_bytes(entry.path().filename().string());
    all.reserved += bytes * number_in(entry.path() / "nr_hugepages");
    all.free += bytes * number_in(entry.path() / "free_hugepages");
  }
  return all;
}

Result<void> check_hugepages(unsigned node, const std::string& sys) {
  const Hugepages pages = hugepages_of(node, sys);
  if (pages.free < kHugepageNeed) {
    return fail(0, "hugepages: node " + std::to_string(node) + " has " +
                       std::to_string(pages.free >> 20U) + " MiB free of " +
                       std::to_string(pages.reserved >> 20U) + " MiB, " +
                       std::to_string(kHugepageNeed >> 20U) +
                       " MiB are needed; reserve some: sysctl vm.nr_hugepages=64");
  }
  // The kernel promises pages when it maps them; a control group may still refuse.
  void* at = ::mmap(nullptr, kHugepageNeed, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
  if (at == MAP_FAILED) {
    return fail(errno, "hugepages: node " + std::to_string(node) +
                           " has some free, but this process does not get them");
  }
  ::munmap(at, kHugepageNeed);
  return {};
}

}  // namespace faultline::engine
