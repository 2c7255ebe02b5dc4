// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernel/base/result.h"

namespace faultline::viommu {

/// Keeps a SIGBUS on one guest's memory from ending the engine.
///
/// A touched page whose backing is gone (hole behind a truncated file, exhausted hugetlb pool,
/// memory error) raises SIGBUS in the thread that touched it. The process-wide handler replaces the
/// page by an anonymous zero page, marks the guest as poisoned and lets the access run again; any
/// other SIGBUS goes to the handler that was installed before. Only the marked guest is detached.
///
/// The handler is async-signal-safe: it walks a fixed table of atomics, and mmap(MAP_FIXED) is its
/// only system call. Pages replaced stay replaced until the owner of the mapping unmaps them.
class SigbusGuard {
 public:
  struct Range {
    void* begin = nullptr;
    std::size_t bytes = 0;
  };

  SigbusGuard() = default;
  SigbusGuard(SigbusGuard&& other) noexcept;
  SigbusGuard& operator=(SigbusGuard&& other) noexcept;
  SigbusGuard(const SigbusGuard&) = delete;
  SigbusGuard& operator=(const SigbusGuard&) = delete;
  ~SigbusGuard();

  /// Guard one guest's ranges. The first call installs the handler (with SA_ONSTACK | SA_NODEFER).
  ///
  /// errors  ENOSPC: more guests or regions than the table holds (256 and 2048); sigaction's errno
  /// thread  control path; takes a mutex
  static Result<SigbusGuard> watch(std::span<const Range> ranges);

  /// Whether a page of this guest was replaced. Never cleared. cost: one relaxed load
  [[nodiscard]] bool poisoned() const noexcept;

 private:
  explicit SigbusGuard(int guest) noexcept : guest_(guest) {}
  void release() noexcept;

  int guest_ = -1;
};

}  // namespace faultline::viommu
