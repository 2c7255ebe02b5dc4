// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
// The two-stage IOMMU: one SMMUv3-like translation unit with its caches.
//
//   transaction ─► stage-1 config of the stream ─► CD (configuration cache) ─► TLB ─┬─► host handle
//                                                                     miss: walk ──┘   or an event
//
// Locking: nothing here locks. One lock per fl_iommu covers everything: fl_translate(), all
// fl_inv_* and every change of a stream or domain that this fl_iommu may look at (fl_stream_*,
// fl_stage2_*). fl_translate() writes too, since it fills caches. An ATC is reached only through
// its stream, under the same lock.
//
// After the lock is released the caller may still be using a returned host handle. An invalidation
// must not return before such accesses have ended; that is the caller's part (an epoch per device).
#pragma once

#include "kernel/model/fl_atc.h"
#include "kernel/model/fl_config_cache.h"
#include "kernel/model/fl_stage2.h"
#include "kernel/model/fl_tlb.h"
#include "kernel/model/fl_types.h"
#include "kernel/model/fl_walk.h"
#include "kernel/model/fl_walk_cache.h"

FL_BEGIN_DECLS

/// Values are those of the seed's pasid table config.
enum fl_s1_mode {
  FL_S1_TRANSLATE = 1,
  FL_S1_BYPASS = 2,  ///< stage 2 only
  FL_S1_ABORT = 3,   ///< terminated silently: no event
};

enum fl_s1_fmt {
  FL_S1_LINEAR = 0,
  FL_S1_2LVL_4K = 1,   ///< 64 CDs per leaf table
  FL_S1_2LVL_64K = 2,  ///< 1024 CDs per leaf table
};

/// What a transaction without SubstreamID does when the stream has substreams (s1cdmax > 0).
enum fl_s1_dss {
  FL_S1_DSS_TERMINATE = 0,  ///< F_STREAM_DISABLED
  FL_S1_DSS_BYPASS = 1,
  FL_S1_DSS_CD0 = 2,  ///< uses CD 0, which SubstreamID 0 then may not use
};

/// The stage-1 half of a stream table entry.
struct fl_s1_config {
  uint64_t base_ptr;  ///< IPA of the CD or CD table
  uint8_t mode;       ///< enum fl_s1_mode; 0 is taken as FL_S1_ABORT
  uint8_t s1fmt;      ///< enum fl_s1_fmt; ignored when s1cdmax is 0
  uint8_t s1dss;      ///< enum fl_s1_dss; ignored when s1cdmax is 0
  uint8_t s1cdmax;    ///< log2 of the number of CDs
};

/// One stage-2 address space; all streams of a container point to the same one.
struct fl_domain {
  uint16_t vmid;  ///< unique within the fl_iommu
  struct fl_stage2 s2;
};

/// One StreamID. A stream without domain is not attached: everything is terminated silently.
struct fl_stream {
  uint32_t sid;
  struct fl_domain* domain;
  struct fl_s1_config s1;
  struct fl_atc* atc;  ///< NULL: the device has no ATS
  void* device;        ///< the caller's, not looked at
};

struct fl_iommu_stats {
  uint64_t translations;
  uint64_t tlb_hits, tlb_misses;
  uint64_t cd_hits, cd_misses;
  uint64_t atc_hits, atc_misses;
  uint64_t events;        ///< transactions that left an event
  uint64_t s2_events;     ///< of these: stage-2 faults of the final address
  uint64_t s2_tt_events;  ///< of these: stage-2 faults of a table address (CLASS TT)
  uint64_t s2_cd_events;  ///< of these: stage-2 faults of a CD address (CLASS CD)
  uint64_t unrecorded;    ///< faults terminated without event because CD.R is 0
  uint64_t aborted;       ///< transactions of aborted or unattached streams
  uint64_t invalidated;   ///< cache entries removed by fl_inv_*
};

struct fl_iommu {
  struct fl_mem mem;
  struct fl_tlb tlb;
  struct fl_walk_cache walks;
  struct fl_config_cache configs;
  uint8_t oas_bits;   ///< 32..48
  uint8_t ssid_bits;  ///< 0..20: IDR1.SSIDSIZE
  struct fl_iommu_stats stats;
};

/// Memory of the caches. A count of 0 (and NULL) leaves that cache out; others are powers of two.
struct fl_iommu_memory {
  struct fl_tlb_set* tlb_sets;
  struct fl_walk_set* walk_sets;
  struct fl_config_set* config_sets;
  uint32_t nr_tlb_sets, nr_walk_sets, nr_config_sets;
};

/// Set up with empty caches, 48-bit output addresses and 20-bit SubstreamIDs.
///
/// errors   -FL_EINVAL a count that is neither 0 nor a power of two
int fl_iommu_init(struct fl_iommu* iommu, const struct fl_mem* mem,
                  const struct fl_iommu_memory* memory);

/// Change the stage-1 half of a stream, as the host does: new configuration, then CFGI_STE and
/// SYNC, so the stream's cached CDs go. The TLB and the ATC stay. Bits of base_ptr outside [51:6]
/// are dropped, as the stream table entry has no room for them; reserved values of s1fmt and s1dss
/// behave as 0.
///
/// errors   -FL_EINVAL unknown mode, or more CDs than there are SubstreamIDs: nothing changes
int fl_stream_set_s1(struct fl_iommu* iommu, struct fl_stream* stream,
                     const struct fl_s1_config* s1);

/// One transaction. Its bytes beyond result.size need another one.
struct fl_request {
  uint64_t iova;
  uint32_t ssid;  ///< looked at only with ssv
  bool ssv;
  uint8_t access;  ///< enum fl_access
};

enum fl_outcome {
  FL_TRANSLATED = 0,  ///< *result is set
  FL_TERMINATED = 1,  ///< aborted without event
  FL_FAULTED = 2,     ///< aborted, *event is set
};

struct fl_result {
  uint64_t host;   ///< handle of the byte at iova
  uint64_t size;   ///< bytes from there that this translation covers, at least 1
  uint64_t ipa;    ///< guest physical address of the byte; 0 when an ATC entry answered
  uint64_t entry;  ///< identity of the TLB or ATC entry used; 0: none (stage 2 only, or no cache)
  uint32_t prot;   ///< stage-2 rights (enum fl_prot): FL_PROT_MMIO tells a doorbell
  bool cached;     ///< the entry was there before this transaction
  bool from_atc;
};

/// Translate one transaction. With an ATC the device first looks there, then asks by ATS and keeps
/// the answer; what ATS refuses it repeats untranslated, which is what leaves the event.
///
/// event    all four words written on FL_FAULTED; a stage-2 fault has the S2 bit set
/// thread   under the IOMMU's lock
/// source   Arm IHI 0070, 7.3 "Event records", 7.3.22 for the order of checks
enum fl_outcome fl_translate(struct fl_iommu* iommu, const struct fl_stream* stream,
                             const struct fl_request* req, struct fl_result* result,
                             struct fl_event* event);

// Invalidations: each removes exactly what the architecture says the command must remove, no more,
// and returns the number of entries removed. `leaf`: only last-level entries, so that cached table
// descriptors stay. Walk-cache entries count as well.

/// TLBI_NH_ALL (also S12_VMALL: the entries are combined): everything of the VMID.
uint32_t fl_inv_vmid(struct fl_iommu* iommu, uint16_t vmid);
/// TLBI_NSNH_ALL: everything of every VMID.
uint32_t fl_inv_tlb_all(struct fl_iommu* iommu);
/// TLBI_NH_ASID: non-global entries and table descriptors of the ASID.
uint32_t fl_inv_asid(struct fl_iommu* iommu, uint16_t vmid, uint16_t asid);
/// TLBI_NH_VA: what translates the one address `va` (bits 11:0 ignored), of the ASID or global.
uint32_t fl_inv_va(struct fl_iommu* iommu, uint16_t vmid, uint16_t asid, uint64_t va, bool leaf);
/// TLBI_NH_VAA: the same for any ASID.
uint32_t fl_inv_vaa(struct fl_iommu* iommu, uint16_t vmid, uint64_t va, bool leaf);
/// A range of addresses [va, va + size), size > 0, cut at the end of the address space; of the ASID
/// or global.
uint32_t fl_inv_va_range(struct fl_iommu* iommu, uint16_t vmid, uint16_t asid, uint64_t va,
                         uint64_t size, bool leaf);
/// The same for any ASID.
uint32_t fl_inv_vaa_range(struct fl_iommu* iommu, uint16_t vmid, uint64_t va, uint64_t size,
                          bool leaf);
/// CFGI_CD: the CD at index `ssid` (0 for a stream without substreams).
uint32_t fl_inv_cd(struct fl_iommu* iommu, uint32_t sid, uint32_t ssid, bool leaf);
/// CFGI_CD_ALL, CFGI_STE: all CDs of the stream.
uint32_t fl_inv_cd_all(struct fl_iommu* iommu, uint32_t sid);
/// CFGI_ALL.
uint32_t fl_inv_config_all(struct fl_iommu* iommu);
/// ATC_INV; arguments as fl_atc_drop(). 0 when the stream has no ATC.
uint32_t fl_inv_atc(struct fl_iommu* iommu, const struct fl_stream* stream, bool ssv, bool global,
                    uint32_t ssid, uint64_t va, uint8_t size);
/// Everything in the stream's ATC.
uint32_t fl_inv_atc_all(struct fl_iommu* iommu, const struct fl_stream* stream);

FL_END_DECLS
