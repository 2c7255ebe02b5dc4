// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "apps/guest/command_queue.h"
#include "apps/guest/event_queue.h"
#include "apps/guest/memory.h"
#include "apps/guest/observation.h"
#include "apps/guest/registers.h"
#include "apps/guest/stream_table.h"
#include "kernel/base/result.h"

namespace faultline::guest {

/// What a driver of this machine decides before it looks at the hardware.
struct DriverOptions {
  unsigned command_log2size = 12;  ///< capped by IDR1
  unsigned event_log2size = 10;    ///< capped by IDR1
  unsigned sid_log2size = 12;      ///< capped by IDR1
  StreamTable::Format stream_table = StreamTable::Format::kTwoLevel;
  Nanos timeout_ns = 10'000'000'000;  ///< for each acknowledgement while probing
};

/// A driver of one virtual SMMUv3: resets and enables it in the order in which Linux does, then
/// keeps its queues. Nothing here is shared with the engine but memory.
///
/// thread   the guest's
class SmmuDriver {
 public:
  /// How waiting is done while probing: called again and again with the time left to others.
  using Idle = std::function<void()>;

  SmmuDriver(GuestMemory& memory, Registers registers, ObservationQueue& sink,
             const DriverOptions& options);

  /// Reset and enable. Blocks until the SMMU acknowledged every step.
  ///
  /// errors   which register was not acknowledged in time, or what the ID registers lack
  Result<void> probe(const Idle& idle);

  /// Push commands and a CMD_SYNC and wait for it (set-up only).
  Result<void> run(std::initializer_list<Command> commands, const Idle& idle);

  /// React to GERROR as Linux does. returns whether anything was active
  bool handle_gerror() noexcept;

  [[nodiscard]] CommandQueue& commands() noexcept { return *commands_; }
  [[nodiscard]] EventQueue& events() noexcept { return *events_; }
  [[nodiscard]] StreamTable& streams() noexcept { return *streams_; }
  [[nodiscard]] GuestMemory& memory() noexcept { return memory_; }
  [[nodiscard]] bool has_msi() const noexcept { return (idr0_ & reg::kIdr0Msi) != 0; }
  [[nodiscard]] bool has_range() const noexcept { return (idr3_ & reg::kIdr3Ril) != 0; }
  /// GERROR bits other than CMDQ_ERR that were active at some time.
  [[nodiscard]] std::uint32_t unexpected_errors() const noexcept { return unexpected_; }

 private:
  Result<void> write_and_wait(std::size_t at, std::size_t ack, std::uint32_t value,
                              const char* name, const Idle& idle);
  Result<void> wait(const std::function<bool()>& condition, const char* what, const Idle& idle);

  GuestMemory& memory_;
  Registers registers_;
  ObservationQueue& sink_;
  DriverOptions options_;
  std::uint32_t idr0_ = 0;
  std::uint32_t idr3_ = 0;
  std::uint32_t gerrorn_ = 0;
  std::uint32_t unexpected_ = 0;
  std::unique_ptr<CommandQueue> commands_;
  std::unique_ptr<EventQueue> events_;
  std::unique_ptr<StreamTable> streams_;
};

}  // namespace faultline::guest
