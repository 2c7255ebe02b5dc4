// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
// Stage-1 translation table walk: VMSAv8-64, 4 KiB granule, four levels. Table addresses are guest
// physical and go through stage 2.
#pragma once

#include "kernel/model/fl_cd.h"
#include "kernel/model/fl_fault.h"
#include "kernel/model/fl_stage2.h"
#include "kernel/model/fl_types.h"
#include "kernel/model/fl_walk_cache.h"

FL_BEGIN_DECLS

/// Stage-1 rights of a leaf for both privileges, with APTable, WXN and PAN already applied.
enum fl_rights {
  FL_RIGHT_USER_READ = 1 << 0,
  FL_RIGHT_USER_WRITE = 1 << 1,
  FL_RIGHT_USER_EXEC = 1 << 2,
  FL_RIGHT_PRIV_READ = 1 << 3,
  FL_RIGHT_PRIV_WRITE = 1 << 4,
  FL_RIGHT_PRIV_EXEC = 1 << 5,
};

/// What a successful walk found.
struct fl_leaf {
  uint64_t va;     ///< first address of the page or block, canonical
  uint64_t ipa;    ///< its guest physical address
  uint8_t log2;    ///< 12, 21 or 30
  uint8_t level;   ///< 3, 2 or 1
  uint8_t rights;  ///< enum fl_rights
  bool global;     ///< nG clear
};

/// Everything a walk reads. `cache` may be NULL: then no intermediate table is remembered.
struct fl_walk_env {
  const struct fl_mem* mem;
  const struct fl_stage2* s2;
  const struct fl_cd* cd;
  struct fl_walk_cache* cache;
  uint16_t vmid;
};

/// Read one word of guest physical memory through stage 2, as the unit does for descriptors.
///
/// class_   FL_CLASS_CD or FL_CLASS_TT: what is being read, for the fault
/// returns  0; -FL_EFAULT and *fault: a stage-2 fault, or an external abort
int fl_read_guest(const struct fl_mem* mem, const struct fl_stage2* s2, uint64_t ipa,
                  uint8_t class_, uint64_t* value, struct fl_fault* fault);

/// Which table translates `va` and its canonical form: the top byte is replaced by a copy of bit 55
/// where TBI ignores it.
///
/// returns  0 or 1: index into cd->tt; -1: the address is outside that half's region, which is
///          F_TRANSLATION. A disabled half has no size to check: its addresses may still be in a
///          TLB, and only a walk for them faults
int fl_walk_select(const struct fl_cd* cd, uint64_t va, uint64_t* canonical);

/// Translate `va` (canonical, from fl_walk_select() which gave `which`).
///
/// returns  0 and *leaf, rights not yet checked against an access; or -FL_EFAULT and *fault
/// order    of faults within a level: external abort, translation, address size; then access flag
/// cost     at most four 64-bit reads and four stage-2 look-ups
/// source   Arm DDI 0487, "The VMSAv8-64 translation system"; Arm IHI 0070, 7.3.22
int fl_walk(const struct fl_walk_env* env, int which, uint64_t va, struct fl_leaf* leaf,
            struct fl_fault* fault);

/// Whether `rights` allow `access` (enum fl_access).
bool fl_rights_allow(uint8_t rights, uint32_t access);

FL_END_DECLS
