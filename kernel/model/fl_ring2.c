// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
#include "kernel/model/fl_ring2.h"

#include "kernel/model/fl_fault.h"

bool fl_ring2_due(const struct fl_event* event) {
  switch (fl_event_id(event)) {
    case FL_EVT_F_STREAM_DISABLED:
    case FL_EVT_C_BAD_SUBSTREAMID:
    case FL_EVT_F_CD_FETCH:
    case FL_EVT_C_BAD_CD:
      return true;
    case FL_EVT_F_WALK_EABT:
    case FL_EVT_F_TRANSLATION:
    case FL_EVT_F_ADDR_SIZE:
    case FL_EVT_F_ACCESS:
    case FL_EVT_F_PERMISSION:
      return !fl_event_s2(event);
    default:
      return false;
  }
}

int fl_ring2_push(struct fl_ring2* ring, const struct fl_event* event, uint64_t timestamp_ns) {
  const uint64_t sequence = ring->next + ring->nr_lost;
  // Acquire: the reader's reads of a slot are over before it is written again. Pairs with the
  // reader's release of cons.
  const uint64_t cons = __atomic_load_n(ring->cons, __ATOMIC_ACQUIRE);
  uint64_t* slot = ring->queue + (ring->next & (ring->nb - 1)) * FL_RING2_RECORD_WORDS;
  unsigned i;

  if (ring->next - cons <= ring->nb)
    ring->good_cons = cons;
  else
    ring->bad_cons++;
  if (ring->next - ring->good_cons >= ring->nb) {
    ring->nr_lost++;
    __atomic_store_n(ring->lost, ring->nr_lost, __ATOMIC_RELEASE);
    return -FL_ENOSPC;
  }
  __atomic_store_n(&slot[0], sequence, __ATOMIC_RELAXED);
  __atomic_store_n(&slot[1], timestamp_ns, __ATOMIC_RELAXED);
  for (i = 0; i < 4; i++) __atomic_store_n(&slot[2 + i], event->w[i], __ATOMIC_RELAXED);
  __atomic_store_n(&slot[6], 0, __ATOMIC_RELAXED);
  __atomic_store_n(&slot[7], 0, __ATOMIC_RELAXED);
  ring->next++;
  // Release: who sees the new index sees the record. Pairs with the reader's acquire of prod.
  __atomic_store_n(ring->prod, ring->next, __ATOMIC_RELEASE);
  return 0;
}
