// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "engine/command_counters.h"
#include "engine/event_counters.h"
#include "engine/guest_spec.h"
#include "engine/merge/counters.h"
#include "engine/shard.h"
#include "engine/stage_cycles.h"
#include "kernel/base/histogram.h"
#include "kernel/base/shared.h"

namespace faultline::engine {

// What the engine knows of itself at one moment, as plain data for a table or JSON.

/// Copy counters that their shard goes on writing: each of them whole, all of some recent moment.
///
/// T  a struct of std::uint64_t counters, nothing else
template <class T>
void copy_counters(T& to, const T& from) noexcept {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % sizeof(std::uint64_t) == 0);
  copy_from_shared(&to, &from, sizeof from);
}

/// Sum of two copies.
template <class T>
void add_counters(T& to, const T& from) noexcept {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % sizeof(std::uint64_t) == 0);
  constexpr std::size_t kCount = sizeof(T) / sizeof(std::uint64_t);
  std::uint64_t sum[kCount];
  std::uint64_t more[kCount];
  std::memcpy(sum, &to, sizeof sum);
  std::memcpy(more, &from, sizeof more);
  for (std::size_t i = 0; i < kCount; ++i) sum[i] += more[i];
  std::memcpy(&to, sum, sizeof sum);
}

struct DeviceSnapshot {
  std::string name;
  StreamId vsid;
  EventDeviceCounters events;
};

struct GuestSnapshot {
  std::string name;
  PolicyKind policy = PolicyKind::kMerge;
  RegisterMode mode = RegisterMode::kExitless;
  Budget budget;
  std::size_t event_shard = 0;
  std::size_t command_shard = 0;
  bool paused = false;    ///< nothing is served until it is resumed; what comes waits
  bool detached = false;  ///< its memory went away: nothing is served any more
  EventGuestCounters events;
  CommandCounters commands;
  merge::MergeCounters merge;            ///< all 0 with another policy
  std::uint64_t interrupts = 0;          ///< raised for the event queue
  std::uint64_t interrupts_unheard = 0;  ///< of these: there was no way to tell anybody
  std::uint64_t blocked_eventfds = 0;    ///< that its VMM made block a shard: given up
  std::uint32_t evtq_depth = 0;          ///< events that the guest has not consumed
  std::uint32_t evtq_size = 0;           ///< 0: disabled
  Histogram publish_ns;                  ///< poll → journalled, one sample per burst
  Histogram sync_ns;                     ///< CMD_SYNC: fetched → told done
  EventStageCycles event_stages;         ///< of its EventDuty, sampled
  CommandStageCycles command_stages;     ///< of its CommandDuty, sampled
  std::vector<DeviceSnapshot> devices;

  /// Sum of one counter over the devices.
  [[nodiscard]] std::uint64_t sum(std::uint64_t EventDeviceCounters::*counter) const noexcept {
    std::uint64_t total = 0;
    for (const DeviceSnapshot& d : devices) total += d.events.*counter;
    return total;
  }
};

struct ShardSnapshot {
  unsigned cpu = 0;
  bool shared = false;
  ShardCounters counters;
};

struct EngineSnapshot {
  std::vector<ShardSnapshot> shards;
  std::vector<GuestSnapshot> guests;  ///< in the order in which they were added
};

}  // namespace faultline::engine
