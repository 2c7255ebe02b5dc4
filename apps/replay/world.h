// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "apps/guest/memory.h"
#include "apps/guest/observation.h"
#include "apps/guest/smmu_driver.h"
#include "apps/guest/trace.h"
#include "engine/command_duty.h"
#include "engine/event_duty.h"
#include "engine/guest_spec.h"
#include "engine/journal.h"
#include "engine/viommu/feature_set.h"
#include "engine/viommu/guest_memory.h"
#include "engine/viommu/registers.h"
#include "kernel/backend.h"
#include "kernel/base/result.h"

namespace faultline {

/// The fault sources of a guest without devices.
struct NoSources {
  [[nodiscard]] std::size_t size() const noexcept { return 0; }
  std::size_t poll(std::size_t /*i*/, std::span<FaultRecord> /*out*/) noexcept { return 0; }
  [[nodiscard]] SourcePosition position(std::size_t /*i*/) const noexcept { return {}; }
  int commit(std::size_t /*i*/) noexcept { return 0; }
  SourceLoss take_loss(std::size_t /*i*/) noexcept { return {}; }
  std::size_t housekeeping(Nanos /*now*/) noexcept { return 0; }
};

/// What the virtual SMMU of a replay offers: all that a sink with these capabilities allows, but
/// ranges, and granules other than 4 KiB, only to a trace that uses them.
viommu::Features replay_features(const guest::Trace& trace, const SinkCaps& caps);

/// Whether the virtual SMMU accepts every command of the trace.
///
/// errors   code EINVAL, one line: the first command that is illegal
Result<void> check_commands(const guest::Trace& trace, const viommu::Features& features);

/// A guest without devices and what the engine keeps of it: memory, registers, rings, journal, the
/// driver in the guest and the EventDuty. What depends on policy, sink and clock is elsewhere.
///
/// thread  made and destroyed by one; then the driver is the guest's, the rest the engine's
class ReplayWorld {
 public:
  /// errors   no memory, no journal
  static Result<std::unique_ptr<ReplayWorld>> make(const guest::Trace& trace,
                                                   const viommu::Features& features);
  ~ReplayWorld();
  ReplayWorld(const ReplayWorld&) = delete;
  ReplayWorld& operator=(const ReplayWorld&) = delete;

  [[nodiscard]] engine::CommandDutySetup setup() noexcept;
  [[nodiscard]] guest::SmmuDriver& driver() noexcept { return *driver_; }
  [[nodiscard]] guest::CommandQueue& queue() noexcept { return driver_->commands(); }
  [[nodiscard]] engine::EventDuty<NoSources>& events() noexcept { return *events_; }

 private:
  ReplayWorld() = default;
  Result<void> build(const guest::Trace& trace, const viommu::Features& features);

  std::size_t bytes_ = 0;
  void* host_ = nullptr;
  engine::GuestSpec spec_;
  viommu::Features features_;
  std::optional<viommu::GuestMemory> memory_;
  viommu::RegisterPage page_;
  engine::GuestRings rings_;
  std::optional<engine::Journal> journal_;
  NoSources sources_;
  std::unique_ptr<engine::EventDuty<NoSources>> events_;
  std::optional<guest::GuestMemory> ram_;
  guest::ObservationQueue observations_{64};
  std::unique_ptr<guest::SmmuDriver> driver_;
};

}  // namespace faultline
