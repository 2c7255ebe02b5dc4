// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "kernel/model/fl_region.h"
#include "kernel/soft/ledger.h"
#include "kernel/soft/shared_memory.h"
#include "kernel/soft/soft_kernel.h"

namespace faultline::soft {

/// The two fault regions of one device and their interrupt: the kernel's side of the seed's
/// producer/consumer interface.
///
/// thread   any; one lock for the queue, as v7's fault_queue_lock, and one for the interrupt
class FaultPort {
 public:
  FaultPort(const SoftKernelConfig& config, SharedMemory producer, SharedMemory consumer);
  ~FaultPort();
  FaultPort(const FaultPort&) = delete;
  FaultPort& operator=(const FaultPort&) = delete;

  /// First open and last close of the device: no ABI, no interrupt. Faults of a closed device are
  /// dropped.
  void open();
  void close();

  void descriptors(std::vector<int>& all) const {
    all.insert(all.end(), {producer_.read_only_fd(), consumer_.fd()});
  }
  [[nodiscard]] std::uint64_t producer_size() const noexcept { return producer_.size(); }
  /// Version 1 has 8 bytes, which cannot be mapped; with version 2 on offer it is a page.
  [[nodiscard]] std::uint64_t consumer_size() const noexcept;
  /// The ABI in force, 0: not chosen.
  [[nodiscard]] std::uint32_t abi();

  ssize_t read_producer(void* out, std::size_t size, std::uint64_t at);
  ssize_t write_consumer(const void* in, std::size_t size, std::uint64_t at);
  int map_producer(std::uint64_t at, std::size_t size, bool write, RegionMapping& mapping);
  int map_consumer(std::uint64_t at, std::size_t size, RegionMapping& mapping);

  /// Use `fd` (owned from now on; -1: none) as the interrupt; signal it as SET_IRQS asks.
  void set_trigger(int fd);
  bool has_trigger();
  void signal();

  /// Hand an event to userspace. `entry` has everything but outcome, position, sequence and abi,
  /// which are filled in.
  ///
  /// returns  false: this event is not one that is due to userspace; entry is unchanged
  bool raise(const fl_event& event, std::uint64_t timestamp_ns, LedgerEntry& entry);

 private:
  void reset_region();
  void mutate_header(void* out, std::size_t size, std::uint64_t at) const;
  ssize_t write_mutated(const void* in, std::size_t size, std::uint64_t at);
  fl_produced produce_mutated(const fl_event& event, std::uint64_t timestamp_ns);
  /// Spins a little before it sleeps, as a kernel's mutex does while its owner runs.
  std::unique_lock<std::mutex> lock_spinning();

  const SoftKernelConfig& config_;
  std::mutex mutex_;
  SharedMemory producer_, consumer_;
  fl_region region_{};
  bool open_ = false;
  std::mutex trigger_mutex_;  ///< taken after mutex_, or alone
  bool signalled_ = false;
  int trigger_ = -1;
  bool trigger_blocks_ = false;  ///< a write may wait
};

}  // namespace faultline::soft
