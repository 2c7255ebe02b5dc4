// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
// Configuration cache: decoded context descriptors by (StreamID, index in the CD table), and the
// level-1 descriptors of two-level CD tables.
#pragma once

#include "kernel/model/fl_cd.h"
#include "kernel/model/fl_types.h"

FL_BEGIN_DECLS

#define FL_CONFIG_WAYS 4

/// Invalid descriptors are remembered as well, as the architecture allows: making one valid needs
/// an invalidation.
struct fl_config_entry {
  struct fl_cd cd;  ///< decoded, for a CD that is not bad
  uint64_t l2ptr;   ///< IPA of the leaf table, for a level-1 descriptor that is not bad
  uint32_t sid;
  uint32_t index;  ///< index of the CD, or of the level-1 descriptor
  bool l1;         ///< a level-1 descriptor
  bool bad;        ///< invalid or illegal
  uint8_t split;   ///< log2 of the CDs under one level-1 descriptor
  bool valid;
};

struct fl_config_set {
  struct fl_config_entry way[FL_CONFIG_WAYS];
  uint32_t victim;
};

struct fl_config_cache {
  struct fl_config_set* sets;
  uint32_t nr_sets;  ///< a power of two, or 0: every transaction fetches its CD
};

/// errors   -FL_EINVAL nr_sets is not 0 and not a power of two
int fl_config_cache_init(struct fl_config_cache* c, struct fl_config_set* sets, uint32_t nr_sets);

/// The cached CD or level-1 descriptor, or NULL. Valid until the cache next changes.
const struct fl_config_entry* fl_config_cache_find(const struct fl_config_cache* c, uint32_t sid,
                                                   uint32_t index, bool l1);

/// Remember a copy of *e (its valid is ignored); an entry with the same tags is overwritten.
void fl_config_cache_put(struct fl_config_cache* c, const struct fl_config_entry* e);

/// Remove what matches; each returns the number of entries removed.
///
/// cd   the CD at `ssid` of that stream; leaf false: also its level-1 descriptor
/// sid  everything of the stream (CMD_CFGI_CD_ALL, and CMD_CFGI_STE, which covers the CDs)
uint32_t fl_config_cache_drop_cd(struct fl_config_cache* c, uint32_t sid, uint32_t ssid, bool leaf);
uint32_t fl_config_cache_drop_sid(struct fl_config_cache* c, uint32_t sid);
uint32_t fl_config_cache_drop_all(struct fl_config_cache* c);

FL_END_DECLS
