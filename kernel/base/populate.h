// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>

namespace faultline {

/// Have the kernel map the pages of [at, at + size) now, so that a polling core does not pay a page
/// fault for each when it touches it first. Best effort: Linux before 5.14, holes, and memory that
/// has no pages to fault in are left as they are. Contents stay.
///
/// write   for writing, else for reading
/// thread  control path
inline void populate(void* at, std::size_t size, bool write) noexcept {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<std::uintptr_t>(at) & ~(page - 1);
  const auto end = (reinterpret_cast<std::uintptr_t>(at) + size + page - 1) & ~(page - 1);
  (void)::madvise(reinterpret_cast<void*>(begin), end - begin,
                  write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
}

}  // namespace faultline
