/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/*
 * Fault ABI version 2 of the seed's producer/consumer regions: layout and numbers.
 * C and C++. The specification is doc/fault-abi-2.md; the two must agree.
 *
 * Negotiated by the seed's own rule: PRODUCER_FAULT capability says 2 (or more), userspace
 * writes 2 to the consumer region's version field. Both regions are then laid out as below.
 *
 * Producer region: [ header page | ring pages ]; read-only; the whole of it is mappable (one
 * SPARSE_MMAP area). Its size is fixed when the device is opened: 1 + 16 pages.
 * Consumer region: one page, writable and mappable; `cons` there is the only thing userspace
 * writes. A pwrite to the version-1 fields still works for negotiation (offset 0, 4 bytes);
 * the index is written in the mapped page only.
 */
#ifndef FAULTLINE_UAPI_FAULT_ABI2_H
#define FAULTLINE_UAPI_FAULT_ABI2_H

#ifdef __cplusplus
#include <cstdint>
namespace faultline::uapi {
using std::uint32_t;
using std::uint64_t;
#else
#include <stdint.h>
#endif

enum {
  kFaultAbi2Version = 2,
  kFaultAbi2RecordSize = 64,
  kFaultAbi2HeaderSize = 4096,
  kFaultAbi2DefaultEntries = 1024, /* a power of two, 64 KiB of records */
};

/*
 * Head of the producer region. The first 20 bytes are version 1's header, so a reader of either
 * version finds its geometry with one pread. In version 2 the 32-bit `prod` is not used (stays 0).
 */
struct vfio_region_fault_prod2 {
  uint32_t version;      /*  0: the ABI in force: 2 */
  uint32_t nb_entries;   /*  4: a power of two */
  uint32_t entry_size;   /*  8: 64 */
  uint32_t offset;       /* 12: of the ring in the region, a multiple of 4096 */
  uint32_t prod32;       /* 16: unused, 0 */
  uint32_t reserved0;    /* 20 */
  uint64_t reserved1[5]; /* 24 */
  /* a cache line of its own: what a poller watches */
  uint64_t prod;         /* 64: records produced since the ABI was chosen; store-release after
                          *     the record; slot = prod & (nb_entries - 1) */
  uint64_t lost;         /* 72: records lost because the ring was full, since the same moment */
  uint64_t reserved2[6]; /* 80 */
};

/* The consumer region's page. */
struct vfio_region_fault_cons2 {
  uint32_t version;      /*  0: as written by the negotiation */
  uint32_t cons32;       /*  4: version 1's index, unused, 0 */
  uint64_t reserved[7];  /*  8 */
  uint64_t cons;         /* 64: records consumed; store-release after the last read of a slot.
                          *     The kernel uses it only where prod - nb_entries <= cons <= prod
                          *     (modulo 2^64); any other value is ignored, the last good one kept */
  uint64_t reserved2[7]; /* 72 */
};

/*
 * One record: exactly a cache line, aligned to one. `sequence` counts every event of the device
 * for which a record was due, also the lost ones: record n of the ring has sequence
 * n + (events lost before it), so a gap is a loss at exactly that place.
 */
struct vfio_fault_record2 {
  uint64_t sequence;     /*  0: starts at 0 */
  uint64_t timestamp_ns; /*  8: CLOCK_MONOTONIC when the kernel took the event */
  uint64_t event[4];     /* 16: the SMMUv3 event record as the hardware wrote it; SID the host's */
  uint32_t flags;        /* 48: none defined; 0 */
  uint32_t reserved0;    /* 52 */
  uint64_t reserved1;    /* 56 */
};

#ifdef __cplusplus
} /* namespace faultline::uapi */
#endif

#endif
