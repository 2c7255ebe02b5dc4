// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "kernel/soft/dma_ring.h"
#include "kernel/soft/fault_port.h"
#include "kernel/soft/ledger_writer.h"
#include "kernel/soft/soft_kernel.h"
#include "kernel/soft/translation_unit.h"

namespace faultline::soft {

/// What one device counts and shows; in shared memory, each word written by the device only.
struct DeviceShare {
  std::uint64_t accesses = 0, faults = 0, produced = 0, dropped = 0, bad_index = 0;
  std::uint64_t msi_count = 0, msi_data = 0;
  std::uint64_t unused = 0;
};

struct DeviceMemory {
  SharedMemory bar, ledger, producer, consumer;
};

/// One device: its stream at the IOMMU, its BAR, its fault port, and the thread that issues DMA.
///
/// thread   execute() and the ring belong to whoever holds the run lock; the rest as each says
class Device {
 public:
  Device(const SoftKernelConfig& config, std::size_t index, DeviceMemory memory,
         DeviceShare& share);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  [[nodiscard]] const SoftDeviceConfig& config() const noexcept { return own_; }
  [[nodiscard]] FaultPort& port() noexcept { return port_; }
  [[nodiscard]] const SharedMemory& bar() const noexcept { return bar_; }
  [[nodiscard]] const SharedMemory& ledger() const noexcept { return ledger_; }
  [[nodiscard]] const DeviceShare& share() const noexcept { return share_; }
  [[nodiscard]] fl_stream& stream() noexcept { return stream_; }

  /// Add the descriptors of memory that is given out to be mapped.
  void descriptors(std::vector<int>& all) const;

  /// Execute one request. thread: any, one after the other
  DmaCompletion execute(const DmaRequest& request);

  /// Serve the BAR in a thread of its own.
  void start();
  void stop();

  /// VFIO_DEVICE_RESET: after the access in flight the rings and the ATC are empty.
  void reset();

  /// Put the stream under a unit with this stage 1, or under none. Returns when no access through
  /// the old one is in flight. thread: under the container's lock
  void attach(TranslationUnit& unit, const fl_s1_config& s1);
  void detach();

  /// Wait until the access that is in flight now, if any, has finished. The order that makes an
  /// invalidation complete: remove the entries under the unit's lock, release it, quiesce().
  void quiesce() const noexcept;

 private:
  DmaCompletion execute_locked(const DmaRequest& request);
  std::size_t access(const DmaRequest& request, std::span<std::byte> bytes,
                     DmaCompletion& completion);
  void raise(const fl_event& event, const DmaRequest& request);
  Nanos now() const;
  void serve();
  std::unique_lock<std::mutex> stand_still();
  std::size_t burst(std::size_t limit);

  const SoftKernelConfig& kernel_;
  const SoftDeviceConfig& own_;
  const std::size_t index_;
  SharedMemory bar_, ledger_;
  DeviceShare& share_;
  FaultPort port_;
  DmaRing ring_;
  LedgerWriter audit_;
  std::vector<fl_atc_entry> atc_entries_;
  fl_atc atc_{};
  fl_stream stream_{};  ///< changed and read under the unit's lock
  std::atomic<TranslationUnit*> unit_{nullptr};
  std::atomic<std::uint32_t> epoch_{0};  ///< odd: an access is in flight
  std::mutex run_;
  std::atomic<unsigned> waiting_{0};  ///< for run_, beside the device's thread
  std::thread thread_;
  std::uint32_t stop_ = 0;
};

}  // namespace faultline::soft
