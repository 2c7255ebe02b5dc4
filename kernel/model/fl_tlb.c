// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
#include "kernel/model/fl_tlb.h"

#include "kernel/model/fl_hash.h"

#define SIZES FL_TLB_LEAF_SIZES

static const uint8_t leaf_log2[SIZES] = {12, 21, 30};

static unsigned size_class(uint8_t log2) {
  return (log2 - 12U) / 9U;
}

// Indexed by the leaf, not by the piece, and not by the ASID: then an invalidation of any address
// of a leaf, for one ASID or all, finds everything made of that leaf in one set.
static struct fl_tlb_set* set_of(const struct fl_tlb* tlb, uint16_t vmid, unsigned size,
                                 uint64_t va) {
  return &tlb->sets[fl_hash(va >> leaf_log2[size], vmid, size) & (tlb->nr_sets - 1)];
}

int fl_tlb_init(struct fl_tlb* tlb, struct fl_tlb_set* sets, uint32_t nr_sets) {
  uint32_t i, w;

  if (nr_sets & (nr_sets - 1)) return -FL_EINVAL;
  tlb->sets = sets;
  tlb->nr_sets = nr_sets;
  tlb->serial = 0;
  for (i = 0; i < SIZES; i++) tlb->used[i] = 0;
  for (i = 0; i < nr_sets; i++) {
    sets[i].victim = 0;
    sets[i].used = 0;
    for (w = 0; w < FL_TLB_WAYS; w++) sets[i].way[w].valid = false;
  }
  return 0;
}

static struct fl_tlb_entry* find(const struct fl_tlb* tlb, unsigned size, uint16_t vmid,
                                 uint16_t asid, bool aset, uint64_t va) {
  struct fl_tlb_set* set = set_of(tlb, vmid, size, va);
  uint32_t w;

  if (!set->used) return NULL;
  for (w = 0; w < FL_TLB_WAYS; w++) {
    struct fl_tlb_entry* e = &set->way[w];

    if (!e->valid || e->vmid != vmid || e->leaf_log2 != leaf_log2[size]) continue;
    if ((e->va ^ va) >> e->log2) continue;
    if (e->global ? e->aset == aset : e->asid == asid) return e;
  }
  return NULL;
}

const struct fl_tlb_entry* fl_tlb_find(const struct fl_tlb* tlb, uint16_t vmid, uint16_t asid,
                                       bool aset, uint64_t va) {
  unsigned size;

  for (size = 0; size < SIZES; size++) {
    const struct fl_tlb_entry* e;

    if (!tlb->used[size]) continue;
    e = find(tlb, size, vmid, asid, aset, va);
    if (e) return e;
  }
  return NULL;
}

static void forget(struct fl_tlb* tlb, struct fl_tlb_set* set, struct fl_tlb_entry* e) {
  e->valid = false;
  set->used--;
  tlb->used[size_class(e->leaf_log2)]--;
}

uint64_t fl_tlb_put(struct fl_tlb* tlb, const struct fl_tlb_entry* e) {
  const unsigned size = size_class(e->leaf_log2);
  struct fl_tlb_entry* slot;
  struct fl_tlb_set* set;
  uint32_t w;

  if (!tlb->nr_sets) return 0;
  set = set_of(tlb, e->vmid, size, e->va);
  slot = find(tlb, size, e->vmid, e->asid, e->aset, e->va);
  for (w = 0; !slot && w < FL_TLB_WAYS; w++)
    if (!set->way[w].valid) slot = &set->way[w];
  if (!slot) slot = &set->way[set->victim++ % FL_TLB_WAYS];
  if (slot->valid) forget(tlb, set, slot);
  *slot = *e;
  slot->valid = true;
  slot->serial = ++tlb->serial;
  set->used++;
  tlb->used[size]++;
  return slot->serial;
}

/// What an invalidation aims at.
struct target {
  uint64_t va, last;
  uint16_t vmid, asid;
  bool any_vmid;
  bool any_asid;
  bool spare_global;
};

static bool hits(const struct target* t, const struct fl_tlb_entry* e) {
  if (!e->valid || !(t->any_vmid || e->vmid == t->vmid)) return false;
  if (!t->any_asid && !(e->global ? !t->spare_global : e->asid == t->asid)) return false;
  return e->leaf_va <= t->last && e->leaf_va + ((UINT64_C(1) << e->leaf_log2) - 1) >= t->va;
}

static uint32_t drop_in(struct fl_tlb* tlb, struct fl_tlb_set* set, const struct target* t) {
  uint32_t w, n = 0;

  if (!set->used) return 0;
  for (w = 0; w < FL_TLB_WAYS; w++) {
    if (!hits(t, &set->way[w])) continue;
    forget(tlb, set, &set->way[w]);
    n++;
  }
  return n;
}

static uint32_t drop_everywhere(struct fl_tlb* tlb, const struct target* t) {
  uint32_t i, n = 0;

  for (i = 0; i < tlb->nr_sets; i++) n += drop_in(tlb, &tlb->sets[i], t);
  return n;
}

uint32_t fl_tlb_drop_all(struct fl_tlb* tlb) {
  const struct target t = {.va = 0, .last = UINT64_MAX, .any_vmid = true, .any_asid = true};

  return drop_everywhere(tlb, &t);
}

uint32_t fl_tlb_drop_vmid(struct fl_tlb* tlb, uint16_t vmid) {
  const struct target t = {.va = 0, .last = UINT64_MAX, .vmid = vmid, .any_asid = true};

  return drop_everywhere(tlb, &t);
}

uint32_t fl_tlb_drop_asid(struct fl_tlb* tlb, uint16_t vmid, uint16_t asid) {
  const struct target t = {
      .va = 0, .last = UINT64_MAX, .vmid = vmid, .asid = asid, .spare_global = true};

  return drop_everywhere(tlb, &t);
}

uint32_t fl_tlb_drop_range(struct fl_tlb* tlb, uint16_t vmid, uint16_t asid, bool any_asid,
                           uint64_t va, uint64_t last) {
  const struct target t = {
      .va = va, .last = last, .vmid = vmid, .asid = asid, .any_asid = any_asid};
  unsigned size;
  uint32_t n = 0;

  for (size = 0; size < SIZES; size++) {
    uint64_t unit = va >> leaf_log2[size], end = last >> leaf_log2[size];

    if (!tlb->used[size]) continue;
    // More leaves than sets: one pass over all sets, which also covers the other sizes.
    if (end - unit >= tlb->nr_sets) return n + drop_everywhere(tlb, &t);
    for (;; unit++) {
      n += drop_in(tlb, set_of(tlb, vmid, size, unit << leaf_log2[size]), &t);
      if (unit == end) break;
    }
  }
  return n;
}
