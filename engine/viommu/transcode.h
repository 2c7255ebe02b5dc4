// SPDX-License-Identifier: BSD-3-Clause
// hot path: a kernel's fault record becomes the event that the guest reads.
#pragma once

#include <cstdint>

#include "kernel/base/units.h"
#include "kernel/record.h"

namespace faultline::viommu {

/// Event numbers. source: Arm IHI 0070, 7.3
enum class EventId : std::uint8_t {
  kUnsupportedUpstream = 0x01,
  kBadStreamId = 0x02,
  kSteFetch = 0x03,
  kBadSte = 0x04,
  kBadAtsRequest = 0x05,
  kStreamDisabled = 0x06,
  kTranslationForbidden = 0x07,
  kBadSubstreamId = 0x08,
  kCdFetch = 0x09,
  kBadCd = 0x0a,
  kWalkEabt = 0x0b,
  kTranslation = 0x10,
  kAddressSize = 0x11,
  kAccess = 0x12,
  kPermission = 0x13,
  kTlbConflict = 0x20,
  kConfigConflict = 0x21,
  kPageRequest = 0x24,
  kVmsFetch = 0x25,
};

/// Fields of an event.
namespace event {
inline constexpr std::uint64_t kId = 0xff;                          ///< word 0
inline constexpr std::uint64_t kSsv = std::uint64_t{1} << 11;       ///< word 0
inline constexpr unsigned kSsidShift = 12;                          ///< word 0, 20 bits
inline constexpr unsigned kSidShift = 32;                           ///< word 0
inline constexpr std::uint64_t kStall = std::uint64_t{1} << 31;     ///< word 1
inline constexpr std::uint64_t kPnU = std::uint64_t{1} << 33;       ///< word 1
inline constexpr std::uint64_t kInD = std::uint64_t{1} << 34;       ///< word 1
inline constexpr std::uint64_t kRnW = std::uint64_t{1} << 35;       ///< word 1
inline constexpr std::uint64_t kS2 = std::uint64_t{1} << 39;        ///< word 1
inline constexpr unsigned kClassShift = 40;                         ///< word 1, 2 bits
inline constexpr std::uint64_t kClassTable = 1;                     ///< TTD
inline constexpr std::uint64_t kClassInput = 2;                     ///< IN
inline constexpr std::uint64_t kFetchAddr = 0x000f'ffff'ffff'fff8;  ///< word 3, [51:3]
}  // namespace event

/// One 32-byte event record.
struct Event {
  std::uint64_t word[4] = {};

  bool operator==(const Event&) const = default;
};

/// What transcoding met; for the operator.
struct TranscodeCounts {
  std::uint64_t guessed = 0;       ///< the record's reason was 0: the event was inferred
  std::uint64_t unknown = 0;       ///< a reason this version does not know; lost
  std::uint64_t malformed = 0;     ///< records that made no sense; lost
  std::uint64_t page_request = 0;  ///< page requests, for which there is no queue; lost
};

namespace detail {

/// The event of a reason (v7 18/23's transcoding, inverted). Reason 0, which is all that a real
/// v7 kernel writes, is inferred from the addresses that the record has: each kind of event fills
/// other ones, so only the kinds within one group are confused.
inline EventId event_of(const FaultRecord& record, TranscodeCounts& counts) noexcept {
  switch (record.reason) {
    case FaultReason::kPasidInvalid:
      return EventId::kBadSubstreamId;
    case FaultReason::kPasidFetch:
      return EventId::kCdFetch;
    case FaultReason::kBadPasidEntry:
      return EventId::kBadCd;
    case FaultReason::kWalkEabt:
      return EventId::kWalkEabt;
    case FaultReason::kPteFetch:
      return EventId::kTranslation;
    case FaultReason::kOutOfRangeAddress:
      return EventId::kAddressSize;
    case FaultReason::kAccess:
      return EventId::kAccess;
    case FaultReason::kPermission:
      return EventId::kPermission;
    case FaultReason::kUnknown:
      ++counts.guessed;
      if (record.has_fetch_addr) {
        return record.has_addr ? EventId::kWalkEabt : EventId::kCdFetch;
      }
      return record.has_addr ? EventId::kTranslation : EventId::kBadCd;
  }
  ++counts.unknown;
  return EventId{0};
}

inline bool event_from_reason(const FaultRecord& record, StreamId vsid, Event& out,
                              TranscodeCounts& counts) noexcept {
  const EventId id = event_of(record, counts);
  if (id == EventId{0}) return false;
  out = Event{};
  out.word[0] = static_cast<std::uint64_t>(id) | std::uint64_t{vsid.value} << event::kSidShift;
  if (record.has_pasid) {
    out.word[0] |= std::uint64_t{record.pasid & 0xfffffU} << event::kSsidShift;
    // C_BAD_SUBSTREAMID has no SSV: its SubstreamID is always valid (IHI 0070 7.3.9).
    if (id != EventId::kBadSubstreamId) out.word[0] |= event::kSsv;
  }
  const bool translation = id == EventId::kWalkEabt || id >= EventId::kTranslation;
  if (translation) {
    const bool write = record.has_perm && (record.perm & FaultRecord::kWrite) != 0;
    if (!write) out.word[1] |= event::kRnW;
    if (record.has_perm && (record.perm & FaultRecord::kPriv) != 0) out.word[1] |= event::kPnU;
    // InD is 0 where RnW is 0 (IHI 0070 7.3.12).
    if (!write && record.has_perm && (record.perm & FaultRecord::kExec) != 0) {
      out.word[1] |= event::kInD;
    }
    // At stage 1 the class is fixed by the event: a walk aborts on a table, all else on the input.
    out.word[1] |= (id == EventId::kWalkEabt ? event::kClassTable : event::kClassInput)
                   << event::kClassShift;
    if (record.has_addr) out.word[2] = record.addr;
  }
  if (record.has_fetch_addr && (id == EventId::kWalkEabt || id == EventId::kCdFetch)) {
    out.word[3] = record.fetch_addr & event::kFetchAddr;
  }
  return true;
}

}  // namespace detail

/// Make the guest's event of a record.
///
/// vsid     the guest's StreamID of the device; the host's never reaches the guest
/// returns  false: no event can be made of it (malformed, page request, unknown reason). It is
///          counted, and the caller treats it as lost: EventQueue::lose()
/// exact    version 2 records exactly. Of version 1: id, SSID, address, RnW, PnU, InD as far as the
///          record has them; STALL, STAG are 0, CLASS as the architecture fixes it at stage 1
/// source   v7 18/23, inverted; Arm IHI 0070, 7.3
inline bool transcode(const FaultRecord& record, StreamId vsid, Event& out,
                      TranscodeCounts& counts) noexcept {
  switch (record.form) {
    case FaultRecord::Form::kRawEvent:
      for (int i = 0; i < 4; ++i) out.word[i] = record.event[i];
      out.word[0] = (out.word[0] & 0xffff'ffffU) | std::uint64_t{vsid.value} << event::kSidShift;
      return true;
    case FaultRecord::Form::kReason:
      return detail::event_from_reason(record, vsid, out, counts);
    case FaultRecord::Form::kPageRequest:
      ++counts.page_request;
      return false;
    case FaultRecord::Form::kMalformed:
      break;
  }
  ++counts.malformed;
  return false;
}

/// The event of a page request whose transaction waits for CMD_RESUME: F_TRANSLATION, STALL = 1,
/// STAG = the request's group. Which of the faults it was the kernel does not say; a guest that
/// handles one handles all in the same way.
///
/// source   Arm IHI 0070, 7.3.13; Linux arm_smmu_handle_event()
inline Event stalled_event(const FaultRecord& request, StreamId vsid) noexcept {
  Event event;
  event.word[0] = static_cast<std::uint64_t>(EventId::kTranslation) | std::uint64_t{vsid.value}
                                                                          << event::kSidShift;
  if (request.has_pasid) {
    event.word[0] |= event::kSsv | std::uint64_t{request.pasid & 0xfffffU} << event::kSsidShift;
  }
  event.word[1] =
      event::kStall | (request.group & 0xffffU) | event::kClassInput << event::kClassShift;
  const bool write = (request.perm & FaultRecord::kWrite) != 0;
  if (!write) event.word[1] |= event::kRnW;
  if ((request.perm & FaultRecord::kPriv) != 0) event.word[1] |= event::kPnU;
  if (!write && (request.perm & FaultRecord::kExec) != 0) event.word[1] |= event::kInD;
  event.word[2] = request.addr;
  return event;
}

}  // namespace faultline::viommu
