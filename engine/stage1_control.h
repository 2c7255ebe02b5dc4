// SPDX-License-Identifier: BSD-3-Clause
// hot path: poll() is one branch while no stage 1 changes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/command_counters.h"
#include "engine/guest_spec.h"
#include "engine/journal.h"
#include "engine/messages.h"
#include "engine/step_call.h"
#include "engine/viommu/feature_set.h"
#include "engine/viommu/guest_memory.h"
#include "engine/viommu/stream_table.h"

namespace faultline::engine {

/// A set of one guest's devices, bit = device index.
using DeviceSet = std::uint64_t;
static_assert(kJournalDevices <= 64);

/// Where the ASIDs go that the guest's context descriptors carry (InvalidationSink::note_asid).
struct AsidNotes {
  void* sink = nullptr;
  void (*note)(void* sink, std::size_t device, std::uint16_t asid) noexcept = nullptr;
};

/// Keeps the kernel's stage 1 of every device of one guest at what the guest asks for: its stream
/// table while SMMUEN is set, GBPA while it is not, abort while the guest is blocked.
///
/// Changes are made one device after the other by the cold lane; while one is under way the duty
/// submits nothing. A configuration that the kernel refuses is the guest's mistake: the device
/// aborts, as it would behind a bad STE. Only when not even abort can be set does failed() say so.
///
/// thread  the shard that owns the guest's CommandDuty
class Stage1Control {
 public:
  Stage1Control(std::uint32_t guest, std::span<const DeviceSpec> devices,
                const viommu::GuestMemory& memory, const viommu::Features& features,
                GuestRings& rings, CommandJournal journal, AsidNotes asids, StepCall& steps,
                CommandCounters& counters) noexcept;

  /// Take over what the journal says is bound, and tell the sink of every ASID seen before.
  ///
  /// bind_again   the sink makes context descriptor invalidations of binding stage 1 again, so a
  ///              new one has to be told what is bound even where that does not change
  /// returns      whether every device aborts
  bool recover(bool bind_again) noexcept;

  // What is wanted from here on; takes effect with begin().
  void follow_gbpa(bool abort) noexcept;
  void follow_stream_table(const viommu::StreamTable& table) noexcept;
  void set_blocked(bool blocked) noexcept { blocked_ = blocked; }
  [[nodiscard]] bool blocked() const noexcept { return blocked_; }
  [[nodiscard]] bool follows_stream_table() const noexcept { return follows_table_; }

  [[nodiscard]] DeviceSet all() const noexcept { return all_; }
  /// Devices whose vSID is in [first, last]. cost: O(devices)
  [[nodiscard]] DeviceSet in_range(std::uint32_t first, std::uint32_t last) const noexcept;
  /// returns  the device's index, or -1: the guest has no such stream
  [[nodiscard]] int find(std::uint32_t vsid) const noexcept;
  [[nodiscard]] std::uint32_t vsid(std::size_t device) const noexcept { return vsid_[device]; }

  /// Those of `devices` whose stage 1 is not what is wanted. cost: one STE read for each
  [[nodiscard]] DeviceSet changed(DeviceSet devices) const noexcept;
  /// Devices that the kernel translates for: only they have contexts to invalidate.
  [[nodiscard]] DeviceSet translating() const noexcept { return translating_; }

  /// Give `devices` what is wanted; those that have it already cost nothing. Requires !busy().
  void begin(DeviceSet devices) noexcept;
  [[nodiscard]] bool busy() const noexcept { return busy_; }
  /// Since the last begin() some device could neither be bound nor made to abort.
  [[nodiscard]] bool failed() const noexcept { return failed_; }

  std::size_t poll() noexcept {
    if (!busy_) [[likely]] {
      return 0;
    }
    return advance();
  }

  /// The guest changed one context descriptor (or, without `ssid_only`, any of them).
  void note_contexts(std::size_t device) noexcept;
  void note_context(std::size_t device, std::uint32_t ssid) noexcept;

 private:
  [[nodiscard]] Stage1Config wanted(std::size_t device) const noexcept;
  std::size_t advance() noexcept;
  void post(std::size_t device, const Stage1Config& config) noexcept;
  void finish(const Stage1Done& done) noexcept;
  void set_bound(std::size_t device, const Stage1Config& config) noexcept;
  void note(std::size_t device, std::uint16_t asid) noexcept;

  std::uint32_t guest_;
  const viommu::GuestMemory* memory_;
  viommu::Features features_;
  GuestRings* rings_;
  CommandJournal journal_;
  AsidNotes asids_;
  StepCall* steps_;
  CommandCounters* counters_;

  bool busy_ = false;
  bool failed_ = false;
  bool follows_table_ = false;
  bool blocked_ = false;
  bool gbpa_abort_ = false;
  bool in_flight_ = false;
  bool queued_ = false;
  bool again_ = false;  ///< the job is to be tried once more, should the host be short of something
  viommu::StreamTable table_;

  std::size_t count_;
  DeviceSet all_;
  DeviceSet pending_ = 0;
  DeviceSet known_ = 0;  ///< bound_ is what the kernel has
  DeviceSet translating_ = 0;
  Stage1Job job_;
  std::array<std::uint32_t, kJournalDevices> vsid_{};
  std::array<Stage1Config, kJournalDevices> bound_{};
};

}  // namespace faultline::engine
