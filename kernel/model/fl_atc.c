// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
#include "kernel/model/fl_atc.h"

void fl_atc_init(struct fl_atc* atc, struct fl_atc_entry* entries, uint32_t nr_entries) {
  uint32_t i;

  atc->entries = entries;
  atc->nr_entries = nr_entries;
  atc->victim = 0;
  atc->serial = 0;
  for (i = 0; i < nr_entries; i++) entries[i].valid = false;
}

static struct fl_atc_entry* find(const struct fl_atc* atc, bool ssv, uint32_t ssid, bool priv,
                                 uint64_t va) {
  uint32_t i;

  for (i = 0; i < atc->nr_entries; i++) {
    struct fl_atc_entry* e = &atc->entries[i];

    if (e->valid && e->ssv == ssv && (!ssv || e->ssid == ssid) && e->priv == priv &&
        !((e->va ^ va) >> e->log2))
      return e;
  }
  return NULL;
}

const struct fl_atc_entry* fl_atc_find(const struct fl_atc* atc, bool ssv, uint32_t ssid, bool priv,
                                       uint64_t va) {
  return find(atc, ssv, ssid, priv, va);
}

uint64_t fl_atc_put(struct fl_atc* atc, const struct fl_atc_entry* e) {
  struct fl_atc_entry* slot;
  uint32_t i;

  if (!atc->nr_entries) return 0;
  // A new answer for an address replaces the one that did not suffice.
  slot = find(atc, e->ssv, e->ssid, e->priv, e->va);
  for (i = 0; !slot && i < atc->nr_entries; i++)
    if (!atc->entries[i].valid) slot = &atc->entries[i];
  if (!slot) slot = &atc->entries[atc->victim++ % atc->nr_entries];
  *slot = *e;
  slot->valid = true;
  slot->serial = ++atc->serial;
  return slot->serial;
}

uint32_t fl_atc_drop(struct fl_atc* atc, bool ssv, bool global, uint32_t ssid, uint64_t va,
                     uint8_t size) {
  const bool all = size >= FL_ATC_ALL;
  const uint64_t span = all ? 0 : (UINT64_C(4096) << size) - 1;
  const uint64_t first = all ? 0 : va & ~(span | 4095);
  const uint64_t last = all ? UINT64_MAX : first + span;
  uint32_t i, n = 0;

  for (i = 0; i < atc->nr_entries; i++) {
    struct fl_atc_entry* e = &atc->entries[i];

    if (!e->valid || e->ssv != ssv || (ssv && !global && e->ssid != ssid)) continue;
    if (e->va > last || e->va + ((UINT64_C(1) << e->log2) - 1) < first) continue;
    e->valid = false;
    n++;
  }
  return n;
}

uint32_t fl_atc_drop_all(struct fl_atc* atc) {
  uint32_t i, n = 0;

  for (i = 0; i < atc->nr_entries; i++) {
    n += atc->entries[i].valid;
    atc->entries[i].valid = false;
  }
  return n;
}
