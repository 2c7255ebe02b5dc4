// SPDX-License-Identifier: BSD-3-Clause
// hot path: every fault region of one guest.
#pragma once

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernel/backend.h"
#include "kernel/base/result.h"
#include "kernel/base/unique_fd.h"
#include "kernel/sys.h"
#include "kernel/vfio/device.h"
#include "kernel/vfio/fault_queue.h"
#include "kernel/vfio/fault_region.h"

namespace faultline::vfio {

/// The FaultSourceSet of a guest on the seed's interface; index = index of the device.
///
/// Sys      must outlive this object, and so must the devices' files
/// thread   open() anywhere, everything else by the owning shard only
template <Syscalls Sys>
class FaultRegions {
 public:
  /// Open the fault queue of each device, with its eventfd in place before anything is read.
  ///
  /// choice      for all of them
  /// positions   empty, or one for each device: where an earlier life stopped, or kNone
  /// errors      of open_fault_queue(), set_fault_eventfd(), eventfd and epoll
  static Result<FaultRegions> open(Sys& sys, std::span<Device<Sys>> devices,
                                   AbiChoice choice = AbiChoice::kAuto,
                                   const FaultOptions& options = {},
                                   std::span<const SourcePosition> positions = {}) {
    if (!positions.empty() && positions.size() != devices.size()) {
      return fail(0, "as many positions as devices are needed to resume");
    }
    const int epoll = sys.epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0) return fail(-epoll, "cannot watch for faults: epoll_create1");
    FaultRegions set(sys, UniqueFd<Sys>(sys, epoll), options.backstop_period);
    set.regions_.reserve(devices.size());
    for (std::size_t i = 0; i < devices.size(); ++i) {
      // v7 signals it for every fault in either ABI; ABI 2 needs it only where somebody sleeps.
      if (auto ok = set.watch(devices[i], i); !ok) return tl::unexpected(std::move(ok.error()));
      auto queue = open_fault_queue(devices[i], choice);
      if (!queue) return tl::unexpected(std::move(queue.error()));
      const bool known = !positions.empty() && positions[i].next != SourcePosition::kNone;
      const auto position = known ? std::optional(positions[i]) : std::nullopt;
      set.needs_backstop_ = set.needs_backstop_ || queue->geometry.abi == 1;
      set.regions_.emplace_back(sys, std::move(*queue), options, position);
    }
    set.watch_regions();
    return set;
  }

  [[nodiscard]] std::size_t size() const noexcept { return regions_.size(); }

  std::size_t poll(std::size_t i, std::span<FaultRecord> out) noexcept {
    const std::size_t n = regions_[i].poll(out);
    watch_again(i);
    return n;
  }

  /// The first region of [from, to) whose poll() may return something; `to` when there is none. A
  /// loss behind the last record does not count.
  ///
  /// cost   per idle region one load of the kernel's line (ABI 1: six) and one line of ours, one
  ///        behind the other: the loads of many regions are under way at once
  std::size_t next_active(std::size_t from, std::size_t to) const noexcept {
    if (!prods_.empty()) {
      while (from < to && prods_[from].idle()) ++from;
    } else if (!slots_.empty()) {
      while (from < to && slots_[from].idle()) ++from;
    }
    return from;
  }

  /// ABI 2: the kernel's prod. ABI 1: the address in the slot that comes next; of a record that
  /// spans two lines or repeats the address nothing may be seen.
  [[nodiscard]] const std::uint32_t* watched_word(std::size_t i) noexcept {
    const std::uint64_t* word = nullptr;
    if (auto* second = regions_[i].prod_watched()) {
      word = second->watch().prod;
    } else {
      word = regions_[i].slot_watched()->watch().slot + kAddressWord;
    }
    return reinterpret_cast<const std::uint32_t*>(word);
  }

  SourcePosition position(std::size_t i) noexcept { return regions_[i].position(); }
  int commit(std::size_t i) noexcept {
    const int rc = regions_[i].commit();
    if (!slots_.empty()) watch_again(i);  // it may have read prod
    return rc;
  }
  SourceLoss take_loss(std::size_t i) noexcept { return regions_[i].take_loss(); }

  /// ABI 1's backstop: one epoll_wait(0) over all regions of the set per period, and commits that
  /// failed, again.
  ///
  /// returns  regions that were given something to do
  std::size_t housekeeping(Nanos now) noexcept {
    if (!needs_backstop_ || now - last_ < period_) return 0;
    return backstop(now);
  }

  /// Readable when the kernel has signalled a fault since the last drain_signals(): for a shard
  /// that wants to sleep.
  [[nodiscard]] int wake_fd() const noexcept { return epoll_.get(); }
  /// Take the signals back. What they were for is found by poll() from now on.
  void drain_signals(Nanos now) noexcept {
    std::size_t work = backstop(now);
    while (attend_signalled(work) == events_.size()) {
    }
  }
  [[nodiscard]] std::uint32_t abi(std::size_t i) noexcept {
    return regions_[i].queue().geometry.abi;
  }
  [[nodiscard]] const FaultStats& stats(std::size_t i) noexcept { return regions_[i].stats(); }

 private:
  /// In a record of version 1, in 64-bit words: what differs most from one to the next.
  static constexpr std::size_t kAddressWord = 3;

  FaultRegions(Sys& sys, UniqueFd<Sys> epoll, Nanos period)
      : sys_(&sys), epoll_(std::move(epoll)), period_(period) {}

  Result<void> watch(Device<Sys>& device, std::size_t i) {
    const int fd = sys_->eventfd(0U, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) return fail(-fd, "device " + device.name() + ": no eventfd for its faults");
    eventfds_.emplace_back(*sys_, fd);
    // Edge-triggered: each signal is reported once and nobody needs to read the counter.
    epoll_event event{.events = EPOLLIN | EPOLLET, .data = {.u64 = i}};
    if (const int rc = sys_->epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event); rc < 0) {
      return fail(-rc, "device " + device.name() + ": cannot watch its eventfd");
    }
    return device.set_fault_eventfd(fd);
  }

  [[gnu::noinline]] std::size_t backstop(Nanos now) noexcept {
    last_ = now;
    std::size_t work = 0;
    // What does not fit comes with the next period: the ready list is served in turn.
    (void)attend_signalled(work);
    for (std::size_t i = 0; i < regions_.size(); ++i) {
      auto* first = regions_[i].slot_watched();
      if (first != nullptr && first->dirty()) {
        first->retry();
        watch_again(i);
        ++work;
      }
    }
    return work;
  }

  /// returns  signals taken; `work` goes up by regions that were given something to do
  std::size_t attend_signalled(std::size_t& work) noexcept {
    const int n =
        sys_->epoll_wait(epoll_.get(), events_.data(), static_cast<int>(events_.size()), 0);
    for (int k = 0; k < n; ++k) {
      const std::uint64_t i = events_[static_cast<std::size_t>(k)].data.u64;
      if (i >= regions_.size()) continue;
      if (auto* region = regions_[i].slot_watched()) {
        region->attend();
        watch_again(static_cast<std::size_t>(i));
        ++work;
      }
    }
    return n > 0 ? static_cast<std::size_t>(n) : 0;
  }

  /// What idle rounds look at, packed: one array when all regions have one ABI, none otherwise.
  void watch_regions() {
    std::size_t first = 0;
    for (auto& region : regions_) first += region.slot_watched() != nullptr ? 1 : 0;
    if (first == regions_.size()) slots_.resize(first);
    if (first == 0) prods_.resize(regions_.size());
    for (std::size_t i = 0; i < regions_.size(); ++i) watch_again(i);
  }

  void watch_again(std::size_t i) noexcept {
    if (!prods_.empty()) {
      prods_[i] = regions_[i].prod_watched()->watch();
    } else if (!slots_.empty()) {
      slots_[i] = regions_[i].slot_watched()->watch();
    }
  }

  Sys* sys_;
  UniqueFd<Sys> epoll_;
  std::vector<UniqueFd<Sys>> eventfds_;
  std::vector<FaultRegion<Sys>> regions_;
  std::vector<ProdWatch> prods_;
  std::vector<SlotWatch> slots_;
  Nanos period_;
  Nanos last_ = 0;
  bool needs_backstop_ = false;
  std::array<epoll_event, 256> events_{};
};

static_assert(FaultSourceSet<FaultRegions<LinuxSys>>);

}  // namespace faultline::vfio
