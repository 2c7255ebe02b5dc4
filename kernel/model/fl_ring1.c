// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
#include "kernel/model/fl_ring1.h"

#include "kernel/model/fl_fault.h"

#define RECORD_WORDS (FL_RING1_RECORD_SIZE / 8)
#define FETCH_FIELD UINT64_C(0x000ffffffffffff8)

enum { TYPE_DMA_UNRECOV = 1 };

// enum iommu_fault_reason
enum {
  REASON_NONE = 0,
  REASON_PASID_FETCH = 1,
  REASON_BAD_PASID_ENTRY = 2,
  REASON_PASID_INVALID = 3,
  REASON_WALK_EABT = 4,
  REASON_PTE_FETCH = 5,
  REASON_PERMISSION = 6,
  REASON_ACCESS = 7,
  REASON_OOR_ADDRESS = 8,
};

static uint32_t reason_of(uint8_t id) {
  switch (id) {
    case FL_EVT_C_BAD_SUBSTREAMID:
      return REASON_PASID_INVALID;
    case FL_EVT_F_CD_FETCH:
      return REASON_PASID_FETCH;
    case FL_EVT_C_BAD_CD:
      return REASON_BAD_PASID_ENTRY;
    case FL_EVT_F_WALK_EABT:
      return REASON_WALK_EABT;
    case FL_EVT_F_TRANSLATION:
      return REASON_PTE_FETCH;
    case FL_EVT_F_ADDR_SIZE:
      return REASON_OOR_ADDRESS;
    case FL_EVT_F_ACCESS:
      return REASON_ACCESS;
    case FL_EVT_F_PERMISSION:
      return REASON_PERMISSION;
    default:
      return REASON_NONE;
  }
}

bool fl_record1_from_event(const struct fl_event* event, uint32_t quirks,
                           struct fl_record1* record) {
  const struct fl_record1 empty = {.type = TYPE_DMA_UNRECOV};
  const uint8_t id = fl_event_id(event);
  const uint32_t reason = reason_of(id);
  const bool of_access = id >= FL_EVT_F_WALK_EABT;
  const bool fetch = id == FL_EVT_F_CD_FETCH || id == FL_EVT_F_WALK_EABT;
  // The substream of C_BAD_SUBSTREAMID is valid without SSV, which v7 overlooked.
  const bool implied = id == FL_EVT_C_BAD_SUBSTREAMID && !(quirks & FL_QUIRK_PASID_LOST);

  if (reason == REASON_NONE || (of_access && fl_event_s2(event))) return false;
  *record = empty;
  if (!(quirks & FL_QUIRK_REASON_ZERO)) record->reason = reason;
  if (implied || fl_event_ssv(event)) {
    record->flags |= FL_RECORD1_PASID_VALID;
    record->pasid = fl_event_ssid(event);
  }
  if (of_access) {
    record->flags |= FL_RECORD1_PERM_VALID | FL_RECORD1_ADDR_VALID;
    if (!fl_event_rnw(event)) record->perm |= FL_RECORD1_WRITE;
    if (fl_event_ind(event)) record->perm |= FL_RECORD1_EXEC;
    if (fl_event_pnu(event)) record->perm |= FL_RECORD1_PRIV;
    record->addr = event->w[2];
  }
  if (fetch) {
    record->flags |= FL_RECORD1_FETCH_ADDR_VALID;
    record->fetch_addr = event->w[3] & FETCH_FIELD;
    if (quirks & FL_QUIRK_FETCH_SHIFT) record->fetch_addr >>= 3;
  }
  return true;
}

bool fl_ring1_full(uint32_t prod, uint32_t cons, uint32_t nb, bool masked) {
  if (masked) return ((cons - prod - 1) & (nb - 1)) == 0;
  return (prod + 1) % nb == cons;
}

static void put(uint64_t* word, uint32_t low, uint32_t high) {
  __atomic_store_n(word, (uint64_t)high << 32 | low, __ATOMIC_RELAXED);
}

int fl_ring1_push(const struct fl_ring1* ring, uint32_t cons, const struct fl_record1* record) {
  const uint32_t prod = __atomic_load_n(ring->prod, __ATOMIC_RELAXED);
  uint64_t* slot = ring->queue + (uint64_t)prod * RECORD_WORDS;

  if (fl_ring1_full(prod, cons, ring->nb, ring->quirks & FL_QUIRK_MASKED_SPACE)) return -FL_ENOSPC;
  put(&slot[0], record->type, record->reserved);
  put(&slot[1], record->reason, record->flags);
  put(&slot[2], record->pasid, record->perm);
  __atomic_store_n(&slot[3], record->addr, __ATOMIC_RELAXED);
  __atomic_store_n(&slot[4], record->fetch_addr, __ATOMIC_RELAXED);
  __atomic_store_n(&slot[5], record->unused, __ATOMIC_RELAXED);
  // Release: who sees the new index sees the record. Pairs with the reader's acquire of prod.
  __atomic_store_n(ring->prod, (prod + 1) % ring->nb, __ATOMIC_RELEASE);
  return 0;
}
