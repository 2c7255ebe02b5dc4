// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace faultline::soft {

/// One deliberate departure from the interface, so that a conformance suite can show that it would
/// notice. Off (kNone) unless a test asks for it. To add one: a name here, a line in the table of
/// mutation.cc, and `if (mutated(Mutation::kX))` where the kernel decides.
enum class Mutation : std::uint8_t {
  kNone,
  kProdReadableBeforeAbi,   ///< pread of the producer region works before an ABI is chosen
  kAbiCanChange,            ///< a later write may choose another ABI
  kAbiZeroAccepted,         ///< version 0 is taken as 1
  kAbiAboveMaxAccepted,     ///< a version above the capability is taken as the highest one
  kConsAtSizeAccepted,      ///< cons == nb_entries is taken (as 0)
  kBadConsTaken,            ///< a refused cons write changes the index all the same
  kNoEmptySlot,             ///< version 1 fills the last slot too
  kProdNotMasked,           ///< prod runs to nb_entries before it wraps
  kOverwriteWhenFull,       ///< the oldest record is overwritten instead of dropping the new one
  kNoEventfd,               ///< the eventfd is never signalled
  kEventfdOnce,             ///< the eventfd is signalled for the first fault only
  kNoFaultCapability,       ///< the chain lacks PRODUCER_FAULT
  kNoSparseCapability,      ///< the chain lacks SPARSE_MMAP
  kWrongSubtype,            ///< producer and consumer subtypes are exchanged
  kHeaderMappable,          ///< version 1's header page can be mapped
  kInvalidateNothing,       ///< CACHE_INVALIDATE returns 0 and does nothing
  kInvalidateNoWait,        ///< CACHE_INVALIDATE does not wait for accesses in flight
  kInvalidateAsidIsAll,     ///< PASID granularity removes everything
  kInvalidateOnePage,       ///< ADDR granularity stops after the first granule
  kDetachKeepsTranslation,  ///< DETACH_PASID_TABLE leaves stage 1 on
  kDetachIsBypass,          ///< DETACH_PASID_TABLE gives bypass instead of abort
  kAbortIsBypass,           ///< config ABORT behaves as BYPASS
  kBypassIsAbort,           ///< config BYPASS behaves as ABORT
  kMsiBindingIgnored,       ///< BIND_MSI returns 0 and maps nothing
  kMsiUnbindIgnored,        ///< UNBIND_MSI returns 0 and unmaps nothing
  kMsiNotRounded,           ///< BIND_MSI uses iova and gpa unrounded
  kArgszUnchecked,          ///< argsz below the minimum is accepted
  kFlagsUnchecked,          ///< unknown flags are accepted
  kVersionUnchecked,        ///< struct versions are not looked at
  kNestingNotOffered,       ///< CHECK_EXTENSION denies the nesting type
  kStage2FaultPropagates,   ///< stage-2 faults reach the guest's region
  kUnmapLeavesTlb,          ///< UNMAP_DMA does not invalidate
  kUnmapIgnored,            ///< UNMAP_DMA returns 0 and unmaps nothing
  kBindIgnored,             ///< ATTACH_PASID_TABLE returns 0 and binds nothing
  kBindWithoutIommu,        ///< before an IOMMU was chosen every ioctl returns 0
  kNoLiveReplace,           ///< a live stage 1 cannot be replaced
  kFaultsNotReported,       ///< no event reaches a fault region
  kRecordShifted,           ///< records tell another address
  kProducerWritable,        ///< the producer region says that it can be written
  kGeometryZero,            ///< the header does not tell the queue's size
  kProdVersionFilled,       ///< prod.version tells the version 1 in force
  kAbiRefused,              ///< no version is accepted
  kConsumerIgnored,         ///< cons writes are accepted and change nothing
  kGranularityUnchecked,    ///< reserved caches and granularities return 0
  kUnboundDoorbell,         ///< the doorbell is reached without a binding
};

/// The name of a mutation (without k, as the enumerator), for listings.
std::string_view name_of(Mutation mutation);

/// The mutation of that name; kNone when there is none such.
Mutation mutation_named(std::string_view name);

/// Every mutation but kNone.
std::span<const Mutation> all_mutations();

}  // namespace faultline::soft
