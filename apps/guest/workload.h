// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "apps/guest/dma_checker.h"
#include "apps/guest/page_pool.h"
#include "apps/guest/page_table.h"
#include "apps/guest/smmu_driver.h"
#include "kernel/base/histogram.h"

namespace faultline::guest {

/// One device of the guest and what is asked of it.
struct WorkloadOptions {
  unsigned index = 0;  ///< in the guest
  StreamId sid;
  std::uint16_t asid = 0;
  void* bar = nullptr;  ///< soft::kDmaBarSize bytes
  bool dma = true;      ///< false: the device is configured, and then let alone
  std::uint64_t seed = 1;
  Nanos burst_interval_ns = 1'000'000;  ///< between bursts of ordinary DMA
  Nanos change_interval_ns = 500'000;   ///< between changes of the mappings
  unsigned reconfigure_every = 256;     ///< changes between changes of CD or STE; 0: never
  std::size_t faults_unread = 24;       ///< DMAs that faulted and whose event was not read yet
  Nanos storm_interval_ns = 0;          ///< faults without that limit so often; 0: never
  std::size_t storm_faults = 400;       ///< then so many at once
};

/// A device's driver: keeps it reading and writing through live stage-1 mappings that it keeps
/// changing, and through some that are missing or forbidden.
///
/// thread   the guest's
class Workload {
 public:
  /// latency   of its CMD_SYNCs, as the player's
  Workload(SmmuDriver& driver, const WorkloadOptions& options, Histogram& latency);

  /// Write page table, context descriptor and STE and tell the SMMU. Blocks (set-up only).
  Result<void> attach(const SmmuDriver::Idle& idle);

  /// Take completions, go on with the change under way, issue DMA; after CommandQueue::poll().
  ///
  /// more     false: issue nothing new, only finish
  /// returns  0 when there was nothing to do
  std::size_t step(Nanos now, bool more);

  /// An event with this device's SID was read, or an overflow was seen (events may be missing).
  void event_read(Nanos now) noexcept;
  void overflow_seen() noexcept { unread_ = 0; }

  /// Nothing is in flight, no CMD_SYNC is waited for.
  [[nodiscard]] bool idle() const noexcept;
  void final_check() noexcept { dma_.final_check(); }

  [[nodiscard]] StreamId sid() const noexcept { return options_.sid; }
  [[nodiscard]] const DmaStats& stats() const noexcept { return dma_.stats(); }
  [[nodiscard]] std::uint64_t changes() const noexcept { return changes_; }
  [[nodiscard]] std::uint64_t reconfigurations() const noexcept { return reconfigurations_; }

 private:
  static constexpr std::size_t kRun = 8;  ///< most slots that change together

  enum class Phase : std::uint8_t {
    kQuiet,       ///< until the next change
    kPriming,     ///< the slots about to change are read, so that they are cached
    kUnmapping,   ///< TLBI and CMD_SYNC are on their way
    kQuiescing,   ///< a reconfiguration waits for DMA in flight
    kSwitching,   ///< CFGI_CD, TLBI and CMD_SYNC are on their way
    kBlocking,    ///< the STE was made to abort, CMD_SYNC on its way
    kBlocked,     ///< DMA is being aborted
    kUnblocking,  ///< the STE translates again, CMD_SYNC on its way
  };

  void burst(Nanos now);
  void map(std::size_t slot);
  std::size_t start_change(Nanos now);
  void unmap_run(Nanos now);
  void finish_unmap();
  std::size_t step_change(Nanos now, bool more);
  std::size_t step_reconfiguration(Nanos now);
  void switch_tables(Nanos now);
  void finish_switch();
  void push_sync(Nanos now);
  bool sync_done(Nanos now);
  [[nodiscard]] std::size_t fault_budget() const noexcept;

  SmmuDriver& driver_;
  WorkloadOptions options_;
  Histogram& latency_;
  PagePool pool_;
  DmaChecker dma_;
  std::array<std::unique_ptr<PageTable>, 2> tables_;
  std::size_t table_ = 0;
  std::vector<Gpa> retired_;  ///< pages of the table that is being left
  Gpa context_;
  Phase phase_ = Phase::kQuiet;
  std::size_t run_first_ = 0;
  std::size_t run_count_ = 0;
  Position sync_ = 0;
  Nanos rung_ = 0;
  std::size_t unread_ = 0;  ///< faults whose event was not read yet
  std::uint64_t faulted_ = 0;
  Nanos last_event_ = 0;
  Nanos next_burst_ = 0;
  Nanos next_change_ = 0;
  Nanos next_storm_ = 0;
  std::uint64_t changes_ = 0;
  std::uint64_t reconfigurations_ = 0;
};

}  // namespace faultline::guest
