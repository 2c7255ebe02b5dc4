// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
#include "kernel/model/fl_walk_cache.h"

#include "kernel/model/fl_hash.h"

#define LEVELS 3

static unsigned coverage_log2(unsigned level) {
  return 39U - 9U * level;
}

// The ASID is no part of the index: an invalidation for any ASID then finds everything of an
// address in one set.
static struct fl_walk_set* set_of(const struct fl_walk_cache* c, uint16_t vmid, uint8_t level,
                                  uint64_t va) {
  return &c->sets[fl_hash(va >> coverage_log2(level), vmid, level) & (c->nr_sets - 1)];
}

static uint64_t base_of(uint8_t level, uint64_t va) {
  return va & ~((UINT64_C(1) << coverage_log2(level)) - 1);
}

int fl_walk_cache_init(struct fl_walk_cache* c, struct fl_walk_set* sets, uint32_t nr_sets) {
  uint32_t i, w;

  if (nr_sets & (nr_sets - 1)) return -FL_EINVAL;
  c->sets = sets;
  c->nr_sets = nr_sets;
  for (i = 0; i < nr_sets; i++) {
    sets[i].victim = 0;
    for (w = 0; w < FL_WALK_WAYS; w++) sets[i].way[w].valid = false;
  }
  return 0;
}

static struct fl_walk_entry* find(const struct fl_walk_cache* c, uint16_t vmid, uint16_t asid,
                                  uint8_t level, uint64_t va) {
  struct fl_walk_set* set;
  uint32_t w;

  if (!c->nr_sets) return NULL;
  set = set_of(c, vmid, level, va);
  for (w = 0; w < FL_WALK_WAYS; w++) {
    struct fl_walk_entry* e = &set->way[w];

    if (e->valid && e->vmid == vmid && e->asid == asid && e->level == level &&
        e->va == base_of(level, va))
      return e;
  }
  return NULL;
}

const struct fl_walk_entry* fl_walk_cache_find(const struct fl_walk_cache* c, uint16_t vmid,
                                               uint16_t asid, uint8_t level, uint64_t va) {
  return find(c, vmid, asid, level, va);
}

void fl_walk_cache_put(struct fl_walk_cache* c, uint16_t vmid, uint16_t asid, uint8_t level,
                       uint64_t va, uint64_t table, uint8_t attrs) {
  struct fl_walk_entry* e;
  struct fl_walk_set* set;
  uint32_t w;

  if (!c->nr_sets) return;
  set = set_of(c, vmid, level, va);
  e = find(c, vmid, asid, level, va);
  for (w = 0; !e && w < FL_WALK_WAYS; w++)
    if (!set->way[w].valid) e = &set->way[w];
  if (!e) e = &set->way[set->victim++ % FL_WALK_WAYS];
  e->va = base_of(level, va);
  e->table = table;
  e->vmid = vmid;
  e->asid = asid;
  e->level = level;
  e->attrs = attrs;
  e->valid = true;
  e->zero = 0;
}

/// What an invalidation aims at.
struct target {
  uint64_t va, last;
  uint16_t vmid, asid;
  bool any_vmid;
  bool any_asid;
};

static uint32_t drop_in(struct fl_walk_set* set, const struct target* t) {
  uint32_t w, n = 0;

  for (w = 0; w < FL_WALK_WAYS; w++) {
    struct fl_walk_entry* e = &set->way[w];

    if (!e->valid || !(t->any_vmid || e->vmid == t->vmid)) continue;
    if (!t->any_asid && e->asid != t->asid) continue;
    if (e->va > t->last || e->va + ((UINT64_C(1) << coverage_log2(e->level)) - 1) < t->va) continue;
    e->valid = false;
    n++;
  }
  return n;
}

static uint32_t drop_everywhere(struct fl_walk_cache* c, const struct target* t) {
  uint32_t i, n = 0;

  for (i = 0; i < c->nr_sets; i++) n += drop_in(&c->sets[i], t);
  return n;
}

uint32_t fl_walk_cache_drop_all(struct fl_walk_cache* c) {
  const struct target t = {.va = 0, .last = UINT64_MAX, .any_vmid = true, .any_asid = true};

  return drop_everywhere(c, &t);
}

uint32_t fl_walk_cache_drop_vmid(struct fl_walk_cache* c, uint16_t vmid) {
  const struct target t = {.va = 0, .last = UINT64_MAX, .vmid = vmid, .any_asid = true};

  return drop_everywhere(c, &t);
}

uint32_t fl_walk_cache_drop_asid(struct fl_walk_cache* c, uint16_t vmid, uint16_t asid) {
  const struct target t = {.va = 0, .last = UINT64_MAX, .vmid = vmid, .asid = asid};

  return drop_everywhere(c, &t);
}

uint32_t fl_walk_cache_drop_range(struct fl_walk_cache* c, uint16_t vmid, uint16_t asid,
                                  bool any_asid, uint64_t va, uint64_t last) {
  const struct target t = {
      .va = va, .last = last, .vmid = vmid, .asid = asid, .any_asid = any_asid};
  uint32_t n = 0;
  uint8_t level;

  if (!c->nr_sets) return 0;
  // Level 2 has the most sets to look at; when it is more than there are, one pass is cheaper.
  if ((last >> coverage_log2(LEVELS - 1)) - (va >> coverage_log2(LEVELS - 1)) >= c->nr_sets)
    return drop_everywhere(c, &t);
  for (level = 0; level < LEVELS; level++) {
    uint64_t unit = va >> coverage_log2(level), end = last >> coverage_log2(level);

    for (;; unit++) {
      n += drop_in(set_of(c, vmid, level, unit << coverage_log2(level)), &t);
      if (unit == end) break;
    }
  }
  return n;
}
