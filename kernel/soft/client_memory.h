// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

namespace faultline::soft {

/// Which descriptor is behind which memory of this process: shared mappings made through one
/// SoftProcessSys.
///
/// thread   any
class ClientMemory {
 public:
  /// A mapping was made, or replaced what was there. The descriptor is duplicated.
  void add(std::uintptr_t at, std::size_t size, int fd, off_t offset);

  /// A range was unmapped; what is left of mappings stays.
  void remove(std::uintptr_t at, std::size_t size);

  /// The descriptor behind [at, at + size), to be closed by the caller, and where in it; -1: the
  /// range is not within one mapping.
  int find(std::uintptr_t at, std::size_t size, off_t& offset);

 private:
  struct Mapping {
    std::size_t size;
    std::shared_ptr<const int> fd;
    off_t offset;
  };
  void remove_locked(std::uintptr_t at, std::size_t size);

  std::mutex mutex_;
  std::map<std::uintptr_t, Mapping> mappings_;
};

}  // namespace faultline::soft
