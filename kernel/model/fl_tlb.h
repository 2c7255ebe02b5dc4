// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
// TLB: combined stage-1 and stage-2 translations, tagged by VMID and ASID. Entries stay until they
// are invalidated or replaced, whatever the tables say by then.
#pragma once

#include "kernel/model/fl_types.h"

FL_BEGIN_DECLS

#define FL_TLB_WAYS 8
#define FL_TLB_LEAF_SIZES 3  ///< 4 KiB, 2 MiB, 1 GiB

/// One cached translation. A block that stage 2 does not back contiguously is cached in pieces;
/// each piece remembers the whole leaf, because an invalidation of any address of a leaf removes
/// everything that was made of it.
struct fl_tlb_entry {
  uint64_t va;       ///< first address of the piece, canonical
  uint64_t ipa;      ///< guest physical address of `va`
  uint64_t host;     ///< host handle of `va`
  uint64_t leaf_va;  ///< first address of the leaf
  uint64_t serial;   ///< identity, never 0, never used twice
  uint16_t vmid, asid;
  uint8_t log2;       ///< size of the piece: 12, 21 or 30
  uint8_t leaf_log2;  ///< size of the leaf: 12, 21 or 30
  uint8_t level;      ///< level of the leaf descriptor: 3, 2 or 1
  uint8_t rights;     ///< stage 1, enum fl_rights
  uint8_t prot;       ///< stage 2, enum fl_prot
  bool global;        ///< matches any ASID of its VMID with the same ASET
  bool aset;
  bool valid;
};

struct fl_tlb_set {
  struct fl_tlb_entry way[FL_TLB_WAYS];
  uint32_t victim;  ///< round robin, so that replacement is deterministic
  uint32_t used;    ///< valid ways, so that a scan passes empty sets quickly
};

struct fl_tlb {
  struct fl_tlb_set* sets;
  uint32_t nr_sets;                  ///< a power of two, or 0: nothing is ever cached
  uint64_t serial;                   ///< last identity given out
  uint32_t used[FL_TLB_LEAF_SIZES];  ///< entries by leaf size: a size nobody uses costs no probe
};

/// Make the TLB empty on the given memory.
///
/// errors   -FL_EINVAL nr_sets is not 0 and not a power of two
int fl_tlb_init(struct fl_tlb* tlb, struct fl_tlb_set* sets, uint32_t nr_sets);

/// The entry that translates canonical `va`, or NULL. Valid until the TLB next changes.
const struct fl_tlb_entry* fl_tlb_find(const struct fl_tlb* tlb, uint16_t vmid, uint16_t asid,
                                       bool aset, uint64_t va);

/// Cache a copy of *e (its serial and valid are ignored).
///
/// returns  the entry's serial, 0 when the TLB has no sets
uint64_t fl_tlb_put(struct fl_tlb* tlb, const struct fl_tlb_entry* e);

/// Remove entries; each returns how many.
///
/// vmid   all of the VMID
/// asid   non-global entries of that ASID
/// range  entries whose leaf holds any byte of [va, last] and that are of that ASID or global;
///        any_asid: whatever their ASID
/// source Arm IHI 0070, 4.4 "TLB invalidation"
uint32_t fl_tlb_drop_all(struct fl_tlb* tlb);
uint32_t fl_tlb_drop_vmid(struct fl_tlb* tlb, uint16_t vmid);
uint32_t fl_tlb_drop_asid(struct fl_tlb* tlb, uint16_t vmid, uint16_t asid);
uint32_t fl_tlb_drop_range(struct fl_tlb* tlb, uint16_t vmid, uint16_t asid, bool any_asid,
                           uint64_t va, uint64_t last);

FL_END_DECLS
