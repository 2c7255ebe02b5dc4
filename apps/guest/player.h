// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "apps/guest/command_queue.h"
#include "apps/guest/trace.h"
#include "kernel/base/clock.h"
#include "kernel/base/histogram.h"

namespace faultline::guest {

/// What one vCPU pushes and rings for at once: at most one CMD_SYNC, at its end.
struct Group {
  Nanos at = 0;             ///< when it was rung in the recording
  std::uint32_t first = 0;  ///< index into Trace::commands
  std::uint32_t count = 0;  ///< without the CMD_SYNC
  bool sync = false;        ///< the vCPU waits for it before it goes on
};

/// A trace cut into what each vCPU does.
///
/// A doorbell with several CMD_SYNCs was rung by one vCPU for others too (Linux lets one owner
/// publish what others wrote), so its groups go to distinct vCPUs, from the one that rang on.
struct Script {
  std::vector<Group> prologue;            ///< groups with a global command: played once, alone
  std::vector<std::vector<Group>> vcpus;  ///< the rest, per vCPU in recorded order
};

Script make_script(const Trace& trace);

/// Plays a trace in a closed loop: each vCPU rings for its next group only after the CMD_SYNC of
/// the last one has completed; all vCPUs share the one queue. A vCPU starts over at the end of its
/// script.
///
/// thread   the guest's
class Player {
 public:
  static constexpr Nanos kNever = ~Nanos{0};

  enum class Pace : std::uint8_t {
    kFast,      ///< as soon as it may
    kRecorded,  ///< not before the recorded moment, counted from the start of the loop
  };

  struct Options {
    Pace pace = Pace::kFast;
    Nanos think = 0;          ///< from a CMD_SYNC seen complete until the vCPU wants to ring again
    Nanos ring = 0;           ///< on top of it, and between two doorbells without a CMD_SYNC
    std::uint64_t loops = 0;  ///< how often a vCPU plays its script; 0: without end
    bool prologue = false;    ///< play the prologue first, alone; else its groups are left out
  };

  /// trace, queue   outlive the player
  /// latency        CMD_SYNC from the doorbell to seen complete, ns
  Player(const Trace& trace, CommandQueue& queue, Histogram& latency, const Options& options);
  Player(const Trace& trace, CommandQueue& queue, Histogram& latency, Pace pace)
      : Player(trace, queue, latency, Options{.pace = pace}) {}

  [[nodiscard]] const Script& script() const noexcept { return script_; }

  /// Let every vCPU go on that can; call after CommandQueue::poll().
  ///
  /// more     false: only wait for what is outstanding
  /// returns  doorbells rung and CMD_SYNCs seen complete
  std::size_t step(Nanos now, bool more);

  /// The first moment after `now` at which a vCPU that waits for no CMD_SYNC rings; kNever: there
  /// is none. One that could ring by `now` and did not waits for room, which no moment brings.
  /// At Pace::kFast.
  [[nodiscard]] Nanos next_ring(Nanos now) const noexcept;

  /// Every vCPU has played its loops, and nobody waits.
  [[nodiscard]] bool finished() const noexcept;

  /// Nobody waits for a CMD_SYNC.
  [[nodiscard]] bool idle() const noexcept;
  [[nodiscard]] std::uint64_t loops() const noexcept { return loops_; }
  [[nodiscard]] std::uint64_t syncs() const noexcept { return syncs_; }
  /// Sum over all completed CMD_SYNCs of how many were outstanding when it was rung, itself
  /// included: divided by their number, the concurrency that merging could use.
  [[nodiscard]] std::uint64_t outstanding_sum() const noexcept { return outstanding_sum_; }

 private:
  struct Vcpu {
    std::size_t next = 0;      ///< index into its script
    std::uint64_t played = 0;  ///< times that its script came to its end
    Nanos loop_start = 0;
    Nanos ready = 0;  ///< does not ring before
    bool waits = false;
    Position sync = 0;
    Nanos rung = 0;
  };
  [[nodiscard]] bool in_prologue() const noexcept;
  [[nodiscard]] bool at_end(const Vcpu& vcpu, const std::vector<Group>& groups) const noexcept;
  std::size_t step(Vcpu& vcpu, const std::vector<Group>& groups, Nanos now, bool more);
  bool ring(Vcpu& vcpu, const Group& group, Nanos now);

  const Trace& trace_;
  CommandQueue& queue_;
  Histogram& latency_;
  Options options_;
  Script script_;
  Vcpu prologue_;
  std::vector<Vcpu> vcpus_;
  std::uint64_t loops_ = 0;
  std::uint64_t syncs_ = 0;
  std::uint64_t outstanding_sum_ = 0;
};

}  // namespace faultline::guest
