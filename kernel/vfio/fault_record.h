// SPDX-License-Identifier: BSD-3-Clause
// hot path: records of either ABI into record.h's form.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernel/record.h"
#include "kernel/uapi/fault_abi2.h"
#include "kernel/uapi/vfio_nested.h"
#include "kernel/vfio/fault_stats.h"

namespace faultline::vfio {

inline constexpr std::uint32_t kMaxPasid = (1U << 20U) - 1U;  // PCIe: 20 bits
inline constexpr std::uint32_t kKnownPerm =
    uapi::kIommuFaultPermWrite | uapi::kIommuFaultPermExec | uapi::kIommuFaultPermPriv;
static_assert(uapi::kIommuFaultPermWrite == FaultRecord::kWrite &&
              uapi::kIommuFaultPermExec == FaultRecord::kExec &&
              uapi::kIommuFaultPermPriv == FaultRecord::kPriv);
// ... and to its reasons.
static_assert(FaultReason{uapi::kIommuFaultReasonUnknown} == FaultReason::kUnknown &&
              FaultReason{uapi::kIommuFaultReasonPasidFetch} == FaultReason::kPasidFetch &&
              FaultReason{uapi::kIommuFaultReasonBadPasidEntry} == FaultReason::kBadPasidEntry &&
              FaultReason{uapi::kIommuFaultReasonPasidInvalid} == FaultReason::kPasidInvalid &&
              FaultReason{uapi::kIommuFaultReasonWalkEabt} == FaultReason::kWalkEabt &&
              FaultReason{uapi::kIommuFaultReasonPteFetch} == FaultReason::kPteFetch &&
              FaultReason{uapi::kIommuFaultReasonPermission} == FaultReason::kPermission &&
              FaultReason{uapi::kIommuFaultReasonAccess} == FaultReason::kAccess &&
              FaultReason{uapi::kIommuFaultReasonOorAddress} == FaultReason::kOutOfRangeAddress);

/// Decode a version 1 record from a private copy of its slot.
///
/// fetch_shifted  the kernel stores fetch_addr >> 3
/// returns        form kReason, kPageRequest or, for anything that v7 cannot have meant, kMalformed
/// errors         counted: malformed, guessed
/// source         v7 02/23 (struct iommu_fault), 18/23 (what fills it)
inline FaultRecord decode_fault1(const uapi::iommu_fault& raw, bool fetch_shifted,
                                 FaultStats& stats) noexcept {
  FaultRecord r;
  bool good = false;
  if (raw.type == uapi::kIommuFaultDmaUnrecov) {
    const uapi::iommu_fault_unrecoverable& e = raw.event;
    r.has_pasid = (e.flags & uapi::kIommuFaultUnrecovPasidValid) != 0;
    r.has_perm = (e.flags & uapi::kIommuFaultUnrecovPermValid) != 0;
    r.has_addr = (e.flags & uapi::kIommuFaultUnrecovAddrValid) != 0;
    r.has_fetch_addr = (e.flags & uapi::kIommuFaultUnrecovFetchAddrValid) != 0;
    constexpr std::uint32_t kKnown =
        uapi::kIommuFaultUnrecovPasidValid | uapi::kIommuFaultUnrecovPermValid |
        uapi::kIommuFaultUnrecovAddrValid | uapi::kIommuFaultUnrecovFetchAddrValid;
    good = (e.flags & ~kKnown) == 0 &&
           e.reason <= static_cast<std::uint32_t>(FaultReason::kOutOfRangeAddress) &&
           (!r.has_pasid || e.pasid <= kMaxPasid) && (!r.has_perm || (e.perm & ~kKnownPerm) == 0);
    if (good) {
      r.form = FaultRecord::Form::kReason;
      r.reason = static_cast<FaultReason>(e.reason);
      if (r.has_pasid) r.pasid = e.pasid;
      if (r.has_perm) r.perm = static_cast<std::uint8_t>(e.perm);
      if (r.has_addr) r.addr = e.addr;
      if (r.has_fetch_addr) r.fetch_addr = fetch_shifted ? e.fetch_addr << 3U : e.fetch_addr;
      if (r.reason == FaultReason::kUnknown && r.has_addr) ++stats.guessed;
    }
  } else if (raw.type == uapi::kIommuFaultPageReq) {
    const uapi::iommu_fault_page_request& q = raw.prm;
    r.has_pasid = (q.flags & uapi::kIommuFaultPageRequestPasidValid) != 0;
    good = (!r.has_pasid || q.pasid <= kMaxPasid) && (q.perm & ~kKnownPerm) == 0;
    if (good) {
      r.form = FaultRecord::Form::kPageRequest;
      r.has_perm = true;
      r.has_addr = true;
      r.last_page = (q.flags & uapi::kIommuFaultPageRequestLastPage) != 0;
      if (r.has_pasid) r.pasid = q.pasid;
      r.perm = static_cast<std::uint8_t>(q.perm);
      r.group = q.grpid;
      r.addr = q.addr;
    }
  }
  if (!good) {
    r = FaultRecord{};
    ++stats.malformed;
  }
  return r;
}

/// Decode a version 2 record from a private copy of its slot; loss is the caller's to fill in.
inline FaultRecord decode_fault2(const uapi::vfio_fault_record2& raw, FaultStats& stats) noexcept {
  FaultRecord r;
  r.form = FaultRecord::Form::kRawEvent;
  std::memcpy(r.event, raw.event, sizeof r.event);
  if (raw.flags != 0) ++stats.unknown_flags;
  return r;
}

}  // namespace faultline::vfio
