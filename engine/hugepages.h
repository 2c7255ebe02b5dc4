// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <string>

#include "kernel/base/result.h"

namespace faultline::engine {

/// What shards and their rings need at the least, bytes.
inline constexpr std::size_t kHugepageNeed = std::size_t{16} << 20;

/// Hugepages of one NUMA node, bytes.
struct Hugepages {
  std::size_t reserved = 0;
  std::size_t free = 0;
};

/// sys  where sysfs is mounted
Hugepages hugepages_of(unsigned node, const std::string& sys = "/sys");

/// Whether hugepages for kHugepageNeed can be had now: some are taken and given back.
///
/// errors   one line: how many the node has and how to reserve more
Result<void> check_hugepages(unsigned node, const std::string& sys = "/sys");

}  // namespace faultline::engine
