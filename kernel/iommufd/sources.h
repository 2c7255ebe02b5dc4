// SPDX-License-Identifier: BSD-3-Clause
// hot path: every event file of one guest.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernel/backend.h"
#include "kernel/base/result.h"
#include "kernel/base/units.h"
#include "kernel/iommufd/event_queue.h"
#include "kernel/iommufd/event_watch.h"
#include "kernel/iommufd/fault_queue.h"
#include "kernel/sys.h"

namespace faultline::iommufd {

/// The event files of one guest, which is one vIOMMU; open as long as the sources live.
struct SourceFiles {
  struct Device {
    StreamId vsid;         ///< virt_id of its vDEVICE
    std::uint32_t id = 0;  ///< what VFIO_DEVICE_BIND_IOMMUFD gave
  };
  std::vector<Device> devices;  ///< index = the guest's device index
  int veventq = -1;             ///< out_veventq_fd
  int fault_queue = -1;         ///< out_fault_fd; -1: no page requests
};

/// The FaultSourceSet of a guest on mainline's iommufd: its vEVENTQ and, where there is one, its
/// fault queue.
///
/// A read takes records away for good (kPollTakes), and the files belong to all devices: poll() of
/// one may read the records of others, which holds() then says. A SourcePosition is the number of
/// events accounted for (EventSequence), so that after a restart the gap before the next event
/// counts exactly what a killed read took.
///
/// thread   open() anywhere, everything else by the owning shard only
template <Syscalls Sys>
class EventSources {
 public:
  static constexpr bool kPollTakes = true;
  /// Page requests that an engine keeps open besides those it reads (the journal's slots).
  static constexpr std::size_t kMostOpen = 64;

  /// positions   empty for a vEVENTQ just made, or one for each device: where an earlier life
  ///             stopped
  /// errors      of EventWatch::open()
  static Result<EventSources> open(Sys& sys, SourceFiles files,
                                   WatchChoice choice = WatchChoice::kAuto,
                                   std::span<const SourcePosition> positions = {}) {
    if (!positions.empty() && positions.size() != files.devices.size()) {
      return fail(0, "as many positions as devices are needed to resume");
    }
    // Records come in the kernel's order over all devices: the furthest one says how far.
    std::uint64_t next = 0;
    for (const SourcePosition& position : positions) next = std::max(next, position.next);
    std::vector<int> fds{files.veventq};
    if (files.fault_queue >= 0) fds.push_back(files.fault_queue);
    auto watch = EventWatch<Sys>::open(sys, std::move(fds), choice);
    if (!watch) return tl::unexpected(std::move(watch.error()));
    return EventSources(sys, files, std::move(*watch), next);
  }

  [[nodiscard]] std::size_t size() const noexcept { return devices_; }

  std::size_t poll(std::size_t i, std::span<FaultRecord> out) noexcept {
    const std::size_t n = poll_from(events_, kEvents, i, out);
    if (n != 0 || !faults_) return n;
    return poll_from(*faults_, kFaults, i, out);
  }

  /// The first device of [from, to) that poll() may have something of; `to` when there is none.
  [[nodiscard]] std::size_t next_active(std::size_t from, std::size_t to) const noexcept {
    std::size_t at = first_of(events_, kEvents, from, to);
    if (faults_) at = std::min(at, first_of(*faults_, kFaults, from, to));
    return at;
  }

  /// One for all devices: the flag word of the ring that watches the files; null: it reads them.
  [[nodiscard]] const std::uint32_t* watched_word(std::size_t /*i*/) const noexcept {
    return watch_.flag_word();
  }

  [[nodiscard]] SourcePosition position(std::size_t /*i*/) const noexcept {
    return {events_.handed(), 0};
  }
  /// returns  always 0: a read has given it back already
  int commit(std::size_t /*i*/) noexcept { return 0; }
  SourceLoss take_loss(std::size_t /*i*/) noexcept { return events_.take_loss(); }
  std::size_t housekeeping(Nanos now) noexcept { return watch_.look(now); }

  /// Records or losses were read that no poll() or take_loss() has handed out.
  [[nodiscard]] bool holds() const noexcept {
    return events_.held() || (faults_ && faults_->held());
  }

  /// Answer page requests; without a fault queue there are none.
  std::size_t answer(std::span<const PageAnswer> answers) noexcept {
    return faults_ ? faults_->answer(answers) : 0;
  }
  std::size_t answer_taken() noexcept { return faults_ ? faults_->answer_taken(kMostOpen) : 0; }

  [[nodiscard]] const EventWatch<Sys>& watch() const noexcept { return watch_; }
  [[nodiscard]] const VeventStats& event_stats() const noexcept { return events_.stats(); }
  /// null: there is no fault queue
  [[nodiscard]] const FaultStats* fault_stats() const noexcept {
    return faults_ ? &faults_->stats() : nullptr;
  }

 private:
  static constexpr std::size_t kEvents = 0;  ///< slots of the watch
  static constexpr std::size_t kFaults = 1;

  EventSources(Sys& sys, const SourceFiles& files, EventWatch<Sys> watch, std::uint64_t next)
      : watch_(std::move(watch)),
        devices_(files.devices.size()),
        events_(sys, files.veventq, vsids(files), next) {
    if (files.fault_queue < 0) return;
    std::vector<std::uint32_t> ids;
    for (const SourceFiles::Device& device : files.devices) ids.push_back(device.id);
    faults_.emplace(sys, files.fault_queue, std::move(ids));
  }
  static std::vector<StreamId> vsids(const SourceFiles& files) {
    std::vector<StreamId> out;
    for (const SourceFiles::Device& device : files.devices) out.push_back(device.vsid);
    return out;
  }

  template <class Queue>
  std::size_t poll_from(Queue& queue, std::size_t slot, std::size_t i,
                        std::span<FaultRecord> out) noexcept {
    if (!queue.front() && watch_.ready(slot)) {
      bool dry = false;
      if (queue.refill(dry)) watch_.found(slot);
      if (dry) watch_.empty(slot);
    }
    return queue.poll(i, out);
  }

  template <class Queue>
  [[nodiscard]] std::size_t first_of(const Queue& queue, std::size_t slot, std::size_t from,
                                     std::size_t to) const noexcept {
    if (queue.front()) return queue.device() >= from ? std::min(queue.device(), to) : to;
    return watch_.ready(slot) ? from : to;
  }

  EventWatch<Sys> watch_;
  std::size_t devices_;
  EventQueue<Sys> events_;
  std::optional<FaultQueue<Sys>> faults_;
};

static_assert(FaultSourceSet<EventSources<LinuxSys>>);

}  // namespace faultline::iommufd
