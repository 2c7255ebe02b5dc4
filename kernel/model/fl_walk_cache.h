// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
// Walk cache: table descriptors that a walk went through. It is what makes the LEAF flag of an
// invalidation observable: a leaf-only one leaves these entries, and a walk goes on through them.
#pragma once

#include "kernel/model/fl_types.h"

FL_BEGIN_DECLS

#define FL_WALK_WAYS 4

/// A table descriptor of level `level` (0..2): it maps the 2^(39 - 9 * level) bytes from `va`.
struct fl_walk_entry {
  uint64_t va;
  uint64_t table;       ///< IPA of the next table
  uint16_t vmid, asid;  ///< intermediate entries always belong to one ASID
  uint8_t level;
  uint8_t attrs;  ///< hierarchical restrictions collected so far, private to the walker
  bool valid;
  uint8_t zero;
};

struct fl_walk_set {
  struct fl_walk_entry way[FL_WALK_WAYS];
  uint32_t victim;  ///< round robin, so that replacement is deterministic
};

struct fl_walk_cache {
  struct fl_walk_set* sets;
  uint32_t nr_sets;  ///< a power of two, or 0: nothing is ever remembered
};

/// Make the cache empty on the given memory.
///
/// errors   -FL_EINVAL nr_sets is not 0 and not a power of two
int fl_walk_cache_init(struct fl_walk_cache* c, struct fl_walk_set* sets, uint32_t nr_sets);

/// The entry of `level` that covers `va`, or NULL.
const struct fl_walk_entry* fl_walk_cache_find(const struct fl_walk_cache* c, uint16_t vmid,
                                               uint16_t asid, uint8_t level, uint64_t va);

/// Remember a table descriptor; an entry with the same tags is overwritten.
void fl_walk_cache_put(struct fl_walk_cache* c, uint16_t vmid, uint16_t asid, uint8_t level,
                       uint64_t va, uint64_t table, uint8_t attrs);

/// Remove what matches; each returns the number of entries removed.
uint32_t fl_walk_cache_drop_all(struct fl_walk_cache* c);
uint32_t fl_walk_cache_drop_vmid(struct fl_walk_cache* c, uint16_t vmid);
uint32_t fl_walk_cache_drop_asid(struct fl_walk_cache* c, uint16_t vmid, uint16_t asid);

/// Remove entries that cover any byte of [va, last]. any_asid: `asid` is ignored.
uint32_t fl_walk_cache_drop_range(struct fl_walk_cache* c, uint16_t vmid, uint16_t asid,
                                  bool any_asid, uint64_t va, uint64_t last);

FL_END_DECLS
