// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
// The seed's pair of fault regions for one device: negotiation of the ABI through the consumer
// region, what userspace may read and write, and the producer.
#pragma once

#include "kernel/model/fl_ring1.h"
#include "kernel/model/fl_ring2.h"
#include "kernel/model/fl_types.h"

FL_BEGIN_DECLS

#define FL_REGION_PROD_HEADER_SIZE 20
#define FL_REGION_CONS_HEADER_SIZE 8
#define FL_REGION_VERSION_UNSET UINT32_C(0xffffffff)

/// Memory of one device's regions, zeroed by fl_region_init().
///
/// prod  the producer region: header page, then the ring; page aligned. For max_abi 1 two pages;
///       for 2 one page plus a power of two of 64-byte records, at least one page
/// cons  the consumer region's page; page aligned. Only its first 8 bytes exist when max_abi is 1
struct fl_region_memory {
  void* prod;
  uint64_t prod_size;
  void* cons;
  uint32_t page_size;  ///< 4096 or 65536
};

struct fl_region {
  struct fl_region_memory mem;
  uint32_t max_abi;
  uint32_t quirks;
  uint32_t abi;   ///< 0: not chosen
  uint32_t cons;  ///< ABI 1: the consumer index in force
  struct fl_ring1 ring1;
  struct fl_ring2 ring2;
};

/// Lay out both regions; no ABI is chosen yet.
///
/// max_abi  1 or 2: what the PRODUCER_FAULT capability will say
/// quirks   enum fl_quirks
/// errors   -FL_EINVAL sizes that do not fit together
int fl_region_init(struct fl_region* r, const struct fl_region_memory* mem, uint32_t max_abi,
                   uint32_t quirks);

/// pread of the producer region.
///
/// returns  bytes copied to buf, cut at the region's end; -FL_EINVAL before an ABI is chosen, or at
///          or beyond the end
/// thread   under the region's lock
int64_t fl_region_read_prod(const struct fl_region* r, uint64_t pos, void* buf, uint64_t count);

/// pwrite of the consumer region: 32-bit `version` at 0, 32-bit `cons` at 4.
///
/// returns  bytes taken, cut at 8; the first write chooses the ABI, which is then fixed.
/// errors   -FL_EINVAL and nothing changes: pos >= 8; version 0, above max_abi or another than
///          chosen; ABI 1: cons >= nb_entries; ABI 2: cons not 0 (that index lives in the mapping)
/// thread   under the region's lock
int64_t fl_region_write_cons(struct fl_region* r, uint64_t pos, const void* buf, uint64_t count);

enum fl_produced {
  FL_PRODUCED = 0,      ///< visible to userspace; signal the eventfd once
  FL_NOT_DUE = 1,       ///< this event is only logged
  FL_NO_ABI = 2,        ///< dropped: userspace has not chosen an ABI
  FL_DROPPED_FULL = 3,  ///< dropped: ABI 1 tells nobody, ABI 2 has counted it
};

/// Hand one event of the device to userspace.
///
/// timestamp_ns  CLOCK_MONOTONIC, ABI 2 only
/// thread        under the region's lock
enum fl_produced fl_region_produce(struct fl_region* r, const struct fl_event* event,
                                   uint64_t timestamp_ns);

FL_END_DECLS
