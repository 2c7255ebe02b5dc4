// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
// Fault ABI version 1, the seed's: a ring of 48-byte records whose header cannot be mapped. Most
// callers use it through fl_region.h, which also negotiates.
#pragma once

#include "kernel/model/fl_types.h"

FL_BEGIN_DECLS

#define FL_RING1_RECORD_SIZE 48

/// Where the kernel code of v7 departed from its documentation. FL_QUIRKS_V7 is all of them.
enum fl_quirks {
  FL_QUIRK_REASON_ZERO = 1 << 0,   ///< `reason` is never stored
  FL_QUIRK_FETCH_SHIFT = 1 << 1,   ///< fetch_addr is the address >> 3
  FL_QUIRK_PASID_LOST = 1 << 2,    ///< C_BAD_SUBSTREAMID without SSV loses its pasid
  FL_QUIRK_MASKED_SPACE = 1 << 3,  ///< free space by a mask made for powers of two
  FL_QUIRK_FIRST_CONS = 1 << 4,    ///< the write that chooses the ABI may set any cons
  FL_QUIRKS_V7 = (1 << 5) - 1,
};

/// struct iommu_fault of v7: an unrecoverable fault.
struct fl_record1 {
  uint32_t type;  ///< 1: IOMMU_FAULT_DMA_UNRECOV
  uint32_t reserved;
  uint32_t reason, flags, pasid, perm;
  uint64_t addr, fetch_addr;
  uint64_t unused;  ///< the page request of the union is longer
};

enum fl_record1_flags {
  FL_RECORD1_PASID_VALID = 1 << 0,
  FL_RECORD1_PERM_VALID = 1 << 1,
  FL_RECORD1_ADDR_VALID = 1 << 2,
  FL_RECORD1_FETCH_ADDR_VALID = 1 << 3,
};

enum fl_record1_perm {
  FL_RECORD1_WRITE = 1 << 0,
  FL_RECORD1_EXEC = 1 << 1,
  FL_RECORD1_PRIV = 1 << 2,
};

/// Turn an event into a record.
///
/// returns  false: this event is not told to userspace (stage 2, or not a stage-1 fault)
/// source   v7 18/23 "iommu/smmuv3: Report non recoverable faults", arm_smmu_transcode_fault()
bool fl_record1_from_event(const struct fl_event* event, uint32_t quirks,
                           struct fl_record1* record);

/// The ring proper. `nb` slots of 48 bytes; one slot is always empty.
struct fl_ring1 {
  uint32_t* prod;   ///< shared word, stored with release after the record
  uint64_t* queue;  ///< shared, nb * 6 words
  uint32_t nb;
  uint32_t quirks;
};

/// Whether a producer at `prod` with a consumer at `cons` finds the ring full. Documented rule:
/// true free space, nb - 1 - (prod - cons mod nb), is 0. v7's: (cons - prod - 1) & (nb - 1) is 0.
bool fl_ring1_full(uint32_t prod, uint32_t cons, uint32_t nb, bool masked);

/// Append one record and publish it.
///
/// returns  0; -FL_ENOSPC full: dropped, nothing tells the reader
/// order    record words (relaxed), then prod (release): pairs with the reader's acquire of prod
/// thread   under the region's lock
int fl_ring1_push(const struct fl_ring1* ring, uint32_t cons, const struct fl_record1* record);

FL_END_DECLS
