// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>

namespace faultline {

/// Why a fault happened, as the seed's version 1 record says it.
enum class FaultReason : std::uint8_t {
  kUnknown = 0,
  kPasidFetch = 1,
  kBadPasidEntry = 2,
  kPasidInvalid = 3,
  kWalkEabt = 4,
  kPteFetch = 5,
  kPermission = 6,
  kAccess = 7,
  kOutOfRangeAddress = 8,
};

/// One fault record of a kernel, decoded and checked once at the boundary; the same for every ABI.
///
/// Which SMMUv3 event the guest reads for it is decided in engine/viommu/transcode.h.
struct FaultRecord {
  enum class Form : std::uint8_t {
    kReason,       ///< `reason`, flags and addresses are set (version 1)
    kRawEvent,     ///< `event` is set (version 2, and later vEVENTQ)
    kPageRequest,  ///< a recoverable page request (version 1 type 2)
    kMalformed,    ///< the kernel's record made no sense; it still takes its place in the order
  };
  static constexpr std::uint8_t kWrite = 1;
  static constexpr std::uint8_t kExec = 2;
  static constexpr std::uint8_t kPriv = 4;

  Form form = Form::kMalformed;
  FaultReason reason = FaultReason::kUnknown;
  std::uint8_t perm = 0;  ///< kWrite | kExec | kPriv; valid when has_perm
  bool has_pasid = false;
  bool has_perm = false;
  bool has_addr = false;
  bool has_fetch_addr = false;
  bool last_page = false;             ///< page requests only
  std::uint32_t pasid = 0;            ///< SubstreamID
  std::uint32_t group = 0;            ///< page requests only: what the guest answers by (STAG)
  std::uint32_t cookie = 0;           ///< page requests only: what the kernel is answered by
  std::uint64_t addr = 0;             ///< IOVA
  std::uint64_t fetch_addr = 0;       ///< address of the failed fetch, as bytes
  std::uint64_t event[4] = {};        ///< kRawEvent: the SMMUv3 event words; SID is the host's
  std::uint32_t lost_before = 0;      ///< records the kernel lost right before this one (saturates)
  bool lost_before_is_guess = false;  ///< the loss is inferred (version 1), not counted
};

/// The answer to one page request group.
struct PageAnswer {
  std::uint32_t cookie = 0;
  bool retry = true;  ///< the access is tried again; false: it fails
};

/// How far a source has been read: what a restart needs to go on without losing or repeating.
///
/// next    version 1: index of the next slot (0..nb_entries-1); version 2: 64-bit consumer index;
///         iommufd: 64-bit count of the events of the queue, lost ones included
/// lost    version 2: the kernel's lost counter up to there; version 1: which cons the kernel has,
/// so
///         that a restart can infer loss over the gap. To be handed back unchanged
struct SourcePosition {
  /// `next` of a source that no life of this guest has read yet: it begins where the kernel stands.
  static constexpr std::uint64_t kNone = ~std::uint64_t{0};

  std::uint64_t next = 0;
  std::uint64_t lost = 0;
};

/// Losses learnt without a record behind them yet.
struct SourceLoss {
  std::uint64_t exact = 0;     ///< counted by the kernel
  std::uint64_t possible = 0;  ///< occasions on which the kernel may have dropped something
};

}  // namespace faultline
