// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
// Fault ABI version 2: cache-line records with a sequence number and the raw event, 64-bit indices
// in mapped memory. Layout as in kernel/uapi/fault_abi2.h (a test holds the two together). Most
// callers use it through fl_region.h, which also negotiates.
#pragma once

#include "kernel/model/fl_types.h"

FL_BEGIN_DECLS

#define FL_RING2_RECORD_SIZE 64
#define FL_RING2_RECORD_WORDS 8
#define FL_RING2_PROD_OFFSET 64  ///< of the producer index in the header page
#define FL_RING2_LOST_OFFSET 72  ///< of the lost counter in the header page
#define FL_RING2_CONS_OFFSET 64  ///< of the consumer index in the consumer page

/// The shared words are written (prod, lost, queue) or read (cons) only here; userspace can write
/// `cons` at any moment and to any value.
struct fl_ring2 {
  uint64_t *prod, *lost;
  const uint64_t* cons;
  uint64_t* queue;     ///< nb * 8 words, 64-byte aligned
  uint32_t nb;         ///< a power of two
  uint64_t next;       ///< private copy of prod
  uint64_t nr_lost;    ///< private copy of lost
  uint64_t good_cons;  ///< last consumer index that was believable
  uint64_t bad_cons;   ///< reads of a consumer index that was not
};

/// Whether ABI 2 makes a record of this event: what ABI 1 does, and F_STREAM_DISABLED. Never a
/// stage-2 fault.
bool fl_ring2_due(const struct fl_event* event);

/// Append one record and publish it; when the ring is full count it as lost. Either way it takes
/// one sequence number, prod + lost, so a gap in the sequence is a loss at exactly that place.
///
/// returns  0; -FL_ENOSPC full
/// order    reads cons (acquire, before the slot is written again), writes the record words
///          (relaxed), then prod (release); lost is stored with release
/// thread   under the region's lock
int fl_ring2_push(struct fl_ring2* ring, const struct fl_event* event, uint64_t timestamp_ns);

FL_END_DECLS
