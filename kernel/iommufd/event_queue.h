// SPDX-License-Identifier: BSD-3-Clause
// hot path: consumption of a vEVENTQ, which carries the events of all devices of a guest.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "kernel/base/units.h"
#include "kernel/iommufd/event_file.h"
#include "kernel/iommufd/event_record.h"
#include "kernel/iommufd/source_stats.h"
#include "kernel/record.h"
#include "kernel/sys.h"

namespace faultline::iommufd {

/// One vEVENTQ of SMMUv3 events.
///
/// Records are handed out in the kernel's order over all devices, so that the sequence number of
/// the last one handed out says what was: poll() of a device yields nothing while another's record
/// is in front. Reads happen in poll() only, hence under the caller's reading mark; what was read
/// and not handed out is held().
///
/// cost     one read(2) for up to 64 events, one copy of each; no allocation
/// thread   owning shard only
/// source   Linux drivers/iommu/iommufd/eventq.c, iommufd_veventq_fops_read()
template <Syscalls Sys>
class EventQueue {
 public:
  static constexpr std::size_t kRecord =
      sizeof(uapi::iommufd_vevent_header) + sizeof(uapi::iommu_vevent_arm_smmuv3);
  static constexpr std::size_t kReadBytes = 64 * kRecord;

  /// vsids   the guest's StreamID of each device
  /// next    where an earlier life stopped (SourcePosition::next); 0 for a queue just made
  EventQueue(Sys& sys, int fd, std::vector<StreamId> vsids, std::uint64_t next)
      : file_(sys, fd, kReadBytes), vsids_(std::move(vsids)), sequence_(next), handed_(next) {}

  /// Read, if nothing is left of the last read.
  ///
  /// returns  whether a record is in front; false and `dry`: the kernel had nothing
  bool refill(bool& dry) noexcept {
    dry = false;
    if (front_) return true;
    switch (file_.read()) {
      case ReadResult::kSome:
        ++stats_.reads;
        advance();
        return front_;
      case ReadResult::kEmpty:
        ++stats_.empty_reads;
        dry = true;
        return false;
      case ReadResult::kAgain:
        return false;
      case ReadResult::kFailed:
        break;
    }
    ++stats_.read_failed;
    dry = true;
    return false;
  }

  /// The device whose record is in front. Requires front().
  [[nodiscard]] std::size_t device() const noexcept { return device_; }
  [[nodiscard]] bool front() const noexcept { return front_; }

  /// Hand out the records of a device that are in front.
  std::size_t poll(std::size_t device, std::span<FaultRecord> out) noexcept {
    std::size_t n = 0;
    while (front_ && device_ == device && n < out.size()) {
      out[n++] = record_;
      handed_ = record_next_;
      advance();
    }
    stats_.records += n;
    return n;
  }

  /// Losses that no record in front carries.
  SourceLoss take_loss() noexcept {
    if (front_) return {.exact = 0, .possible = std::exchange(possible_, 0U)};
    handed_ = sequence_.next();
    return {.exact = std::exchange(missing_, 0U), .possible = std::exchange(possible_, 0U)};
  }

  /// Events accounted for by what was handed out.
  [[nodiscard]] std::uint64_t handed() const noexcept { return handed_; }
  [[nodiscard]] bool held() const noexcept {
    return front_ || missing_ != 0 || possible_ != 0 || file_.left() != 0;
  }
  [[nodiscard]] const VeventStats& stats() const noexcept { return stats_; }

 private:
  /// Look at what comes next: LOST headers are taken, a record becomes the one in front.
  void advance() noexcept {
    front_ = false;
    while (file_.left() >= sizeof(uapi::iommufd_vevent_header)) {
      const auto header = file_.template peek<uapi::iommufd_vevent_header>();
      if ((header.flags & uapi::kIommuVeventqFlagLostEvents) != 0) [[unlikely]] {
        file_.take(sizeof header);
        lost(header);
        continue;
      }
      if (file_.left() < kRecord) break;
      const auto raw = file_.template peek<uapi::iommu_vevent_arm_smmuv3>(sizeof header);
      file_.take(kRecord);
      place(header, raw);
      return;
    }
    if (file_.left() != 0) ++stats_.fragments;
  }

  void place(const uapi::iommufd_vevent_header& header,
             const uapi::iommu_vevent_arm_smmuv3& raw) noexcept {
    if (header.flags != 0) ++stats_.unknown_flags;
    account(sequence_.take(header.sequence));
    record_ = decode_event(raw);
    record_next_ = sequence_.next();
    if (missing_ != 0) [[unlikely]] {
      record_.lost_before = static_cast<std::uint32_t>(std::min(missing_, kMostBefore));
      missing_ -= record_.lost_before;
    }
    if (!find(event_stream(raw))) [[unlikely]] {
      ++stats_.unknown_stream;
      const std::uint32_t lost_before = record_.lost_before;
      record_ = FaultRecord{};
      record_.lost_before = lost_before;
      device_ = 0;
    }
    front_ = true;
  }

  [[gnu::cold, gnu::noinline]] void lost(const uapi::iommufd_vevent_header& header) noexcept {
    ++stats_.lost_headers;
    if (header.flags != uapi::kIommuVeventqFlagLostEvents) ++stats_.unknown_flags;
    const EventSequence::Step step = sequence_.take(header.sequence);
    account(step);
    if (!step.sane) return;
    ++missing_;  // the one that the header is of
    ++stats_.exact_loss;
  }

  void account(const EventSequence::Step& step) noexcept {
    if (step.sane && step.missing == 0) [[likely]] {
      return;
    }
    if (!step.sane) {
      ++stats_.bad_sequence;
      ++possible_;
      return;
    }
    missing_ += step.missing;
    stats_.exact_loss += step.missing;
  }

  /// The device of a vSID: mostly that of the record before.
  bool find(std::uint32_t vsid) noexcept {
    if (device_ < vsids_.size() && vsids_[device_].value == vsid) return true;
    for (std::size_t i = 0; i < vsids_.size(); ++i) {
      if (vsids_[i].value != vsid) continue;
      device_ = i;
      return true;
    }
    return false;
  }

  static constexpr std::uint64_t kMostBefore = 0xffff'ffff;

  EventFile<Sys> file_;
  std::vector<StreamId> vsids_;
  bool front_ = false;
  std::size_t device_ = 0;
  FaultRecord record_;             ///< in front
  std::uint64_t record_next_ = 0;  ///< sequence_.next() after it
  EventSequence sequence_;         ///< of what was read
  std::uint64_t handed_;           ///< of what was handed out
  std::uint64_t missing_ = 0;      ///< lost behind what was handed out, before what is in front
  std::uint64_t possible_ = 0;
  VeventStats stats_;
};

}  // namespace faultline::iommufd
