// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <dirent.h>

#include <cstddef>

namespace faultline::test_support {

/// Descriptors that this process has open, by which a test sees a leak: the same number before and
/// after.
inline std::size_t open_descriptors() {
  DIR* folder = ::opendir("/proc/self/fd");
  std::size_t n = 0;
  while (::readdir(folder) != nullptr) ++n;
  ::closedir(folder);
  return n;
}

}  // namespace faultline::test_support
