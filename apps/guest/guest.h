// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "apps/guest/memory.h"
#include "apps/guest/observation.h"
#include "apps/guest/player.h"
#include "apps/guest/smmu_driver.h"
#include "apps/guest/trace.h"
#include "apps/guest/workload.h"
#include "kernel/base/histogram.h"

namespace faultline::guest {

/// One guest: its memory, what it plays, and the wires of its interrupts.
struct GuestOptions {
  std::string name;
  Gpa memory_base;
  void* memory = nullptr;  ///< RAM as mapped here
  std::size_t memory_bytes = 0;
  Gpa registers;                 ///< in that RAM, its last reg::kPageBytes
  const Trace* trace = nullptr;  ///< outlives the guest
  Player::Pace pace = Player::Pace::kFast;
  int evtq_eventfd = -1;    ///< the event queue's interrupt; -1: polled
  int gerror_eventfd = -1;  ///< GERROR's; -1: polled
  DriverOptions driver;
  Nanos illegal_interval_ns = 0;         ///< between illegal commands written on purpose; 0: none
  std::vector<WorkloadOptions> devices;  ///< sid, asid and index are filled in by Guest
};

/// What a guest counts; one writer, read from another thread at any time.
struct GuestCounters {
  std::uint64_t commands = 0;
  std::uint64_t syncs = 0;
  std::uint64_t syncs_completed = 0;
  std::uint64_t events = 0;
  std::uint64_t event_depth = 0;  ///< events published and not read yet
  std::uint64_t overflows = 0;
  std::uint64_t interrupts = 0;
  std::uint64_t dma = 0;
  std::uint64_t dma_faulted = 0;
  std::uint64_t dma_stale = 0;
  std::uint64_t dma_wrong = 0;
  std::uint64_t changes = 0;
  std::uint64_t reconfigurations = 0;
  std::uint64_t trace_loops = 0;
  std::uint64_t trace_syncs = 0;        ///< CMD_SYNCs of the trace that were rung
  std::uint64_t outstanding_sum = 0;    ///< see Player::outstanding_sum()
  std::uint64_t violations = 0;         ///< things that no SMMU does: see CommandQueue, EventQueue
  std::uint64_t unexpected_errors = 0;  ///< GERROR bits other than CMDQ_ERR
  std::uint64_t illegal_issued = 0;     ///< illegal commands written on purpose
  std::uint64_t illegal_handled = 0;    ///< command queue errors that were acknowledged
};

/// A guest in one thread: its vCPUs and devices as state machines, its interrupt handlers, nothing
/// that ever blocks for long. Sleeps for moments when there is nothing to do.
class Guest {
 public:
  /// The SID and the ASID of device i are chosen so that `trace` has neither.
  Guest(const GuestOptions& options, std::size_t observations);
  ~Guest();
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;

  /// SIDs of the devices, in order: what the host is told that the guest calls them.
  static std::vector<StreamId> choose_sids(const Trace& trace, std::size_t devices);

  /// Start the thread: probe, attach the devices, play the global commands once, then all.
  void start();
  /// Stop issuing; commands, DMA and events go on until idle() and beyond.
  void stop() noexcept { phase_.store(Phase::kStopping, std::memory_order_release); }
  /// Everything issued has been completed and every page been looked at (after stop()).
  [[nodiscard]] bool idle() const noexcept {
    return phase_.load(std::memory_order_acquire) == Phase::kIdle;
  }
  /// Set-up is over and the workload runs, or set-up failed.
  [[nodiscard]] bool ready() const noexcept { return ready_.load(std::memory_order_acquire); }
  /// End the thread. Events that have not been read stay unread.
  void join();

  /// After ready(): why set-up failed; empty: it did not.
  [[nodiscard]] const std::string& error() const noexcept { return error_; }
  [[nodiscard]] ObservationQueue& observations() noexcept { return observations_; }
  [[nodiscard]] GuestCounters counters() const noexcept;
  [[nodiscard]] const Histogram& sync_latency() const noexcept { return sync_latency_; }
  [[nodiscard]] std::size_t event_entries() const noexcept { return event_entries_; }
  [[nodiscard]] const std::vector<StreamId>& sids() const noexcept { return sids_; }
  [[nodiscard]] const std::string& name() const noexcept { return options_.name; }

 private:
  enum class Phase : int { kRunning, kStopping, kIdle, kEnd };

  void main();
  Result<void> set_up();
  std::size_t round(Nanos now);
  std::size_t interrupts(Nanos now);
  void provoke(Nanos now);
  void publish_counters();
  void rest(std::size_t idle_rounds);

  GuestOptions options_;
  GuestMemory memory_;
  ObservationQueue observations_;
  SmmuDriver driver_;
  std::vector<StreamId> sids_;
  std::unique_ptr<Player> player_;
  std::vector<std::unique_ptr<Workload>> workloads_;
  Histogram sync_latency_;
  GuestCounters counters_;
  std::size_t event_entries_;
  std::uint64_t interrupts_ = 0;
  bool more_events_ = false;
  std::uint64_t overflows_ = 0;
  std::uint64_t illegal_issued_ = 0;
  Nanos next_illegal_ = 0;
  bool illegal_waits_ = false;
  Position illegal_sync_ = 0;
  std::string error_;
  std::atomic<bool> ready_{false};
  std::atomic<Phase> phase_{Phase::kRunning};
  std::thread thread_;
};

}  // namespace faultline::guest
