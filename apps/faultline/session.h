// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "apps/faultline/options.h"
#include "apps/faultline/table.h"
#include "apps/guest/audit.h"
#include "apps/guest/guest.h"
#include "apps/guest/trace.h"
#include "apps/wiring/host_guest.h"
#include "engine/snapshot.h"
#include "kernel/base/histogram.h"
#include "kernel/soft/soft_kernel.h"

namespace faultline {

/// What a run found, for the verdict and --json.
struct RunResult {
  guest::Verdict verdict;
  Histogram fault_latency;
  Histogram sync_latency;
  double seconds = 0;
  std::uint64_t ioctls = 0;
  engine::CommandCounters commands;  ///< of all guests; 0 where the engine was another process
  merge::MergeCounters merge;        ///< the same
  unsigned abi = 0;
  std::size_t shards = 0;
  std::uint64_t duties_moved = 0;  ///< from one shard to another
  double outstanding = 0;  ///< mean number of CMD_SYNCs outstanding per guest, when one is rung
};

/// What a guest's driver drives one device by, and where the kernel accounts for its faults.
struct SessionDevice {
  void* bar = nullptr;  ///< of soft::kDmaBarSize bytes
  void* ledger = nullptr;
  bool dma = true;  ///< false: its driver configures it and lets it do nothing
};
/// Those of the soft kernel, in the order of its devices.
std::vector<SessionDevice> soft_devices(soft::SoftKernel& kernel, std::size_t devices);

/// What one guest did, and what became of its faults.
struct GuestTally {
  std::string name;
  guest::GuestCounters did;
  guest::FaultCounts faults;
};

/// The guests of a run and the audit over them: everything but kernel and engine.
///
/// thread   one: it audits and prints
class Session {
 public:
  /// Ioctls made for each guest so far, as the table shows them.
  using Ioctls = std::function<std::vector<std::uint64_t>()>;

  /// devices   of all guests, one guest after the other; they outlive the session
  Session(const RunOptions& options, const guest::Trace& trace, const std::vector<HostGuest>& hosts,
          const std::vector<SessionDevice>& devices);

  /// Start the guests' threads; they wait for an SMMU to answer.
  void start();
  /// All guests run their workload, or one of them could not be set up.
  [[nodiscard]] bool ready() const noexcept;
  /// errors   of the guest that could not be set up
  [[nodiscard]] Result<void> set_up() const;

  /// Audit for a moment and print when it is time to. Sleeps about 1 ms when nothing comes.
  void turn(const Ioctls& ioctls, bool print = true);
  /// Wait until every guest is ready, at most `limit` ns.
  Result<void> wait_ready(Nanos limit);

  /// CMD_SYNCs completed so far, over all guests.
  [[nodiscard]] std::uint64_t syncs_completed() const noexcept;

  /// Of each guest, so far; exact after finish().
  [[nodiscard]] std::vector<GuestTally> tallies() const;

  /// Let the guests finish what is in flight, read what is still to come, and judge.
  RunResult finish();

 private:
  std::vector<TableRow> rows(const Ioctls& ioctls, double seconds);

  std::vector<std::unique_ptr<guest::Guest>> guests_;
  std::unique_ptr<guest::Audit> audit_;
  Table table_;
  Nanos started_ = 0;
  Nanos printed_ = 0;
  struct Before {
    std::uint64_t faults = 0, commands = 0, syncs = 0;
  };
  std::vector<Before> before_;
};

/// Print the audit's findings. returns whether it is clean
bool print_verdict(const RunResult& result);

/// What --json writes.
std::string result_json(const RunOptions& options, const RunResult& result);

}  // namespace faultline
