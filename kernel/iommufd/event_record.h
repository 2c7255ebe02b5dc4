// SPDX-License-Identifier: BSD-3-Clause
// hot path: what a vEVENTQ and a fault queue yield, decoded once.
#pragma once

#include <cstdint>
#include <limits>

#include "kernel/record.h"
#include "kernel/uapi/iommufd_nested.h"

namespace faultline::iommufd {

/// Where the sequence numbers of a vEVENTQ stand: they count events, lost ones included, and wrap
/// after 2^31 - 1.
///
/// A record is one event, a LOST header is the newest of the events lost at the tail. What is
/// missing in between was lost; the kernel says so only by the gap.
/// source   Linux drivers/iommu/iommufd/eventq.c, driver.c
class EventSequence {
 public:
  static constexpr std::uint64_t kModulus = std::uint64_t{uapi::kIommuVeventqLastSequence} + 1;
  /// More in one gap is no loss but nonsense: a number that went backward.
  static constexpr std::uint64_t kMostGap = kModulus / 2;

  EventSequence() = default;
  /// next   events accounted for, as a journal kept it
  explicit EventSequence(std::uint64_t next) noexcept : next_(next) {}

  struct Step {
    std::uint64_t missing = 0;  ///< events between the last one and this one
    bool sane = true;           ///< false: the numbers went backward; missing is then unknown
  };
  /// Account for the event with this number and all before it.
  Step take(std::uint32_t sequence) noexcept {
    Step step;
    step.sane = sequence < kModulus;
    const std::uint64_t gap = (sequence - next_) % kModulus;  // 2^31 divides 2^64
    step.sane = step.sane && gap < kMostGap;
    if (step.sane) step.missing = gap;
    next_ += gap + 1;
    return step;
  }

  /// Events accounted for since the queue was made.
  [[nodiscard]] std::uint64_t next() const noexcept { return next_; }

 private:
  std::uint64_t next_ = 0;
};

/// The guest's StreamID in an event.
[[nodiscard]] inline std::uint32_t event_stream(const uapi::iommu_vevent_arm_smmuv3& raw) noexcept {
  return static_cast<std::uint32_t>(raw.evt[0] >> 32U);
}

/// Decode a private copy of an event.
inline FaultRecord decode_event(const uapi::iommu_vevent_arm_smmuv3& raw) noexcept {
  FaultRecord record;
  record.form = FaultRecord::Form::kRawEvent;
  for (int i = 0; i < 4; ++i) record.event[i] = raw.evt[i];
  return record;
}

/// Decode a private copy of one page of a page request group.
///
/// returns  form kPageRequest, or kMalformed for anything that no kernel can have meant
inline FaultRecord decode_page(const uapi::iommu_hwpt_pgfault& raw) noexcept {
  FaultRecord record;
  constexpr std::uint32_t kFlags =
      uapi::kIommuPgfaultFlagsPasidValid | uapi::kIommuPgfaultFlagsLastPage;
  constexpr std::uint32_t kPerm = uapi::kIommuPgfaultPermRead | uapi::kIommuPgfaultPermWrite |
                                  uapi::kIommuPgfaultPermExec | uapi::kIommuPgfaultPermPriv;
  constexpr std::uint32_t kMostPasid = 0xfffff;
  // Of the form, since a malformed page still ends its group.
  record.last_page = (raw.flags & uapi::kIommuPgfaultFlagsLastPage) != 0;
  record.cookie = raw.cookie;
  record.has_pasid = (raw.flags & uapi::kIommuPgfaultFlagsPasidValid) != 0;
  if ((raw.flags & ~kFlags) != 0 || (raw.perm & ~kPerm) != 0 ||
      (record.has_pasid && raw.pasid > kMostPasid)) {
    return record;
  }
  static_assert(uapi::kIommuPgfaultPermWrite == FaultRecord::kWrite << 1U &&
                uapi::kIommuPgfaultPermExec == FaultRecord::kExec << 1U &&
                uapi::kIommuPgfaultPermPriv == FaultRecord::kPriv << 1U);
  record.form = FaultRecord::Form::kPageRequest;
  record.has_perm = true;
  record.has_addr = true;
  record.perm = static_cast<std::uint8_t>(raw.perm >> 1U);
  if (record.has_pasid) record.pasid = raw.pasid;
  record.group = raw.grpid;
  record.addr = raw.addr;
  return record;
}

}  // namespace faultline::iommufd
