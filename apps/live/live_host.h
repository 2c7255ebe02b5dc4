// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "apps/faultline/chaos.h"
#include "apps/faultline/engine_host.h"
#include "apps/faultline/supervisor.h"
#include "apps/live/command_tap.h"
#include "apps/live/event_tap.h"
#include "apps/live/stall_watch.h"
#include "apps/wiring/wiring.h"
#include "kernel/base/result.h"
#include "kernel/soft/soft_process.h"
#include "kernel/soft/soft_process_sys.h"

namespace faultline::live {

struct LiveOptions {
  unsigned guests = 1;
  unsigned devices = 3;  ///< of each guest, at PCI slots 3, 4…
  unsigned memory_mib = 256;
  std::string policy = "merge";
  int control = -1;    ///< SOCK_SEQPACKET, to the VMM
  std::string record;  ///< trace to write; empty: none
  std::uint64_t seed = 1;
};

/// The host's side of guests whose vCPUs run in a VMM of their own: their memory, the software
/// kernel with their devices, engines in processes of their own, and the audit by bystanders.
///
/// The VMM is told of each guest in one message {guest, bytes, registers, slot, devices,
/// polling_cpus: where the engine polls, so that vCPUs can be kept off} with the descriptors of its
/// memory, its two interrupts and its devices' BARs. Then it asks, one JSON object per message, and
/// is answered:
///
///   status                  counters of everything
///   kill n                  SIGKILL the engine n times, at random moments
///   pause ms                take the engine off its cores for so long
///   storm guest n iova      the last device makes n writes to that address
///   spoil guest             an illegal opcode over a command that is under way
///   reset guest             registers and journal as after a reset; its vCPUs are paused
///   finish                  the audit; the run ends
///
/// thread   one
class LiveHost {
 public:
  static Result<std::unique_ptr<LiveHost>> make(const LiveOptions& options);
  ~LiveHost();
  LiveHost(const LiveHost&) = delete;
  LiveHost& operator=(const LiveHost&) = delete;

  /// Serve until the VMM asks to finish, or is gone. returns  whether the audit is clean
  Result<bool> run();

 private:
  using Sys = soft::SoftProcessSys;
  struct Storm {
    std::size_t device = 0;
    std::uint64_t iova = 0;
    std::uint64_t left = 0;
    std::unique_ptr<soft::DmaClient> client;
  };

  explicit LiveHost(LiveOptions options);
  Result<void> introduce();
  Result<void> start_engine();
  Result<void> turn();
  Result<void> answer(const std::string& text);
  nlohmann::json status();
  Result<void> reset(std::size_t guest);
  Result<nlohmann::json> finish();
  void ring_devices() noexcept;
  std::size_t pump_storm();
  std::size_t poll_taps();
  void watch_beats(Nanos now);
  [[nodiscard]] std::size_t first_device(std::size_t guest) const noexcept {
    return guest * options_.devices;
  }

  LiveOptions options_;
  std::vector<HostGuest> hosts_;
  EngineChoices choices_;
  std::unique_ptr<soft::SoftProcess> kernel_;
  std::unique_ptr<Sys> sys_;
  std::optional<HostSide<Sys>> side_;
  std::unique_ptr<Supervisor> supervisor_;
  std::vector<CommandTap> commands_;
  std::vector<std::unique_ptr<EventTap>> events_;
  std::unique_ptr<StallWatch> stalls_;
  Storm storm_;
  Nanos resume_at_ = 0;   ///< 0: the engine is not paused
  Nanos quiet_from_ = 0;  ///< kills and pauses are over since then; beats before do not count
  Nanos beat_gap_ = 0;
  unsigned kills_before_ = 0;  ///< by supervisors that are gone
  std::vector<std::uint64_t> ioctls_before_;
  bool done_ = false;
  bool clean_ = false;
};

}  // namespace faultline::live
