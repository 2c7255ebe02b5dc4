// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernel/base/result.h"

namespace faultline::engine {

struct LcoreOptions {
  std::vector<unsigned> cpus;     ///< CPU of each polling lcore; one CPU may stand more than once
  unsigned housekeeping_cpu = 0;  ///< where EAL's main lcore sits (it only waits)
  bool hugepages = false;         ///< false: plain memory; true: see check_hugepages()
  unsigned memory_mib = 64;       ///< without hugepages: what EAL takes at the start
  std::string file_prefix;        ///< DPDK's name of this instance; "" = faultline-<pid>
  bool telemetry = false;         ///< DPDK's telemetry socket, in its folder of the instance
};

/// DPDK's EAL and the lcores that poll. EAL lives once in a process and pins the thread that starts
/// it, so it gets a thread of its own: the caller's affinity stays as it was.
class Lcores {
 public:
  /// cost    about 0.2 s
  /// errors  EAL refuses, with the first line of its own; a second instance in this process
  static Result<std::unique_ptr<Lcores>> start(const LcoreOptions& options);

  Lcores(const Lcores&) = delete;
  Lcores& operator=(const Lcores&) = delete;
  /// Waits for the loops (tell them to stop first), then gives EAL's resources back.
  ~Lcores();

  /// Run one loop per polling lcore, loops[i] on options.cpus[i]; once.
  ///
  /// returns when all of them have been started
  Result<void> launch(std::vector<std::function<void()>> loops);

  /// Wait until every launched loop has returned.
  void join();

  /// Take loop i out of a system call that blocks it (nudge.h). thread: any, between launch() and
  /// the destructor
  void nudge(std::size_t loop) noexcept;

 private:
  Lcores() = default;
  struct State;
  std::unique_ptr<State> state_;
};

/// Memory of one NUMA node, from rte_malloc_socket where EAL has memory of that node, else plain
/// memory that its first writer places.
///
/// size     bytes; zeroed
/// returns  null when there is no memory
std::shared_ptr<void> allocate_on_node(std::size_t size, std::size_t align, unsigned node);

}  // namespace faultline::engine
