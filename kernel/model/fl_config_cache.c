// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
#include "kernel/model/fl_config_cache.h"

#include "kernel/model/fl_hash.h"

static struct fl_config_set* set_of(const struct fl_config_cache* c, uint32_t sid, uint32_t index,
                                    bool l1) {
  return &c->sets[fl_hash(index, sid, l1) & (c->nr_sets - 1)];
}

int fl_config_cache_init(struct fl_config_cache* c, struct fl_config_set* sets, uint32_t nr_sets) {
  uint32_t i, w;

  if (nr_sets & (nr_sets - 1)) return -FL_EINVAL;
  c->sets = sets;
  c->nr_sets = nr_sets;
  for (i = 0; i < nr_sets; i++) {
    sets[i].victim = 0;
    for (w = 0; w < FL_CONFIG_WAYS; w++) sets[i].way[w].valid = false;
  }
  return 0;
}

static struct fl_config_entry* find(const struct fl_config_cache* c, uint32_t sid, uint32_t index,
                                    bool l1) {
  struct fl_config_set* set;
  uint32_t w;

  if (!c->nr_sets) return NULL;
  set = set_of(c, sid, index, l1);
  for (w = 0; w < FL_CONFIG_WAYS; w++) {
    struct fl_config_entry* e = &set->way[w];

    if (e->valid && e->sid == sid && e->index == index && e->l1 == l1) return e;
  }
  return NULL;
}

const struct fl_config_entry* fl_config_cache_find(const struct fl_config_cache* c, uint32_t sid,
                                                   uint32_t index, bool l1) {
  return find(c, sid, index, l1);
}

void fl_config_cache_put(struct fl_config_cache* c, const struct fl_config_entry* e) {
  struct fl_config_entry* slot;
  struct fl_config_set* set;
  uint32_t w;

  if (!c->nr_sets) return;
  set = set_of(c, e->sid, e->index, e->l1);
  slot = find(c, e->sid, e->index, e->l1);
  for (w = 0; !slot && w < FL_CONFIG_WAYS; w++)
    if (!set->way[w].valid) slot = &set->way[w];
  if (!slot) slot = &set->way[set->victim++ % FL_CONFIG_WAYS];
  *slot = *e;
  slot->valid = true;
}

// The caches are small and configuration rarely changes, so every removal looks at all of it.
static uint32_t drop(struct fl_config_cache* c, bool any_sid, uint32_t sid, bool any_cd,
                     uint32_t ssid, bool leaf) {
  uint32_t i, w, n = 0;

  for (i = 0; i < c->nr_sets; i++) {
    for (w = 0; w < FL_CONFIG_WAYS; w++) {
      struct fl_config_entry* e = &c->sets[i].way[w];

      if (!e->valid || !(any_sid || e->sid == sid)) continue;
      if (!any_cd && !(e->l1 ? !leaf && e->index == ssid >> e->split : e->index == ssid)) continue;
      e->valid = false;
      n++;
    }
  }
  return n;
}

uint32_t fl_config_cache_drop_cd(struct fl_config_cache* c, uint32_t sid, uint32_t ssid,
                                 bool leaf) {
  return drop(c, false, sid, false, ssid, leaf);
}

uint32_t fl_config_cache_drop_sid(struct fl_config_cache* c, uint32_t sid) {
  return drop(c, false, sid, true, 0, false);
}

uint32_t fl_config_cache_drop_all(struct fl_config_cache* c) {
  return drop(c, true, 0, true, 0, false);
}
