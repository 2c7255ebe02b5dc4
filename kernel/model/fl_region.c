// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
#include "kernel/model/fl_region.h"

// The 20-byte header is five 32-bit words, the consumer's two.
enum { HDR_VERSION, HDR_NB_ENTRIES, HDR_ENTRY_SIZE, HDR_OFFSET, HDR_PROD };
enum { CONS_VERSION, CONS_INDEX };

static uint32_t* header(const struct fl_region* r) {
  return r->mem.prod;
}

static void set(uint32_t* word, uint32_t value) {
  __atomic_store_n(word, value, __ATOMIC_RELAXED);
}

static uint64_t* at(void* base, uint64_t offset) {
  return (uint64_t*)(void*)((uint8_t*)base + offset);
}

static void clear(void* base, uint64_t bytes) {
  uint64_t i;

  for (i = 0; i < bytes; i += 8) __atomic_store_n(at(base, i), 0, __ATOMIC_RELAXED);
}

int fl_region_init(struct fl_region* r, const struct fl_region_memory* mem, uint32_t max_abi,
                   uint32_t quirks) {
  const uint64_t ring = mem->prod_size - mem->page_size;
  const uint64_t nb2 = ring / FL_RING2_RECORD_SIZE;

  if (mem->page_size < 4096 || (mem->page_size & (mem->page_size - 1))) return -FL_EINVAL;
  if (mem->prod_size < 2 * (uint64_t)mem->page_size || ring % mem->page_size) return -FL_EINVAL;
  if (max_abi < 1 || max_abi > 2) return -FL_EINVAL;
  if (max_abi == 2 && (nb2 & (nb2 - 1) || nb2 > UINT32_MAX)) return -FL_EINVAL;
  clear(mem->prod, mem->prod_size);
  clear(mem->cons, mem->page_size);
  r->mem = *mem;
  r->max_abi = max_abi;
  r->quirks = quirks;
  r->abi = 0;
  r->cons = 0;
  // Only offset is known before the ABI is chosen; `version` stays like this in ABI 1.
  set(&header(r)[HDR_VERSION], FL_REGION_VERSION_UNSET);
  set(&header(r)[HDR_OFFSET], mem->page_size);
  r->ring1 = (struct fl_ring1){
      .prod = &header(r)[HDR_PROD],
      .queue = at(mem->prod, mem->page_size),
      .nb = mem->page_size / FL_RING1_RECORD_SIZE,
      .quirks = quirks,
  };
  r->ring2 = (struct fl_ring2){
      .prod = at(mem->prod, FL_RING2_PROD_OFFSET),
      .lost = at(mem->prod, FL_RING2_LOST_OFFSET),
      .cons = at(mem->cons, FL_RING2_CONS_OFFSET),
      .queue = at(mem->prod, mem->page_size),
      .nb = (uint32_t)nb2,
  };
  return 0;
}

int64_t fl_region_read_prod(const struct fl_region* r, uint64_t pos, void* buf, uint64_t count) {
  const uint8_t* from = r->mem.prod;
  uint8_t* to = buf;
  uint64_t i;

  if (!r->abi || pos >= r->mem.prod_size) return -FL_EINVAL;
  if (count > r->mem.prod_size - pos) count = r->mem.prod_size - pos;
  // Only the producer writes this memory, and it holds the same lock.
  for (i = 0; i < count; i++) to[i] = from[pos + i];
  return (int64_t)count;
}

// What the consumer header would be with `count` bytes of buf at `pos`.
static void overlay(uint32_t words[2], uint64_t pos, const void* buf, uint64_t count) {
  const uint8_t* from = buf;
  uint64_t i;

  for (i = 0; i < count; i++) {
    const unsigned shift = 8U * (unsigned)((pos + i) % 4);
    uint32_t* word = &words[(pos + i) / 4];

    *word = (*word & ~(UINT32_C(0xff) << shift)) | (uint32_t)from[i] << shift;
  }
}

static bool acceptable(const struct fl_region* r, uint32_t version, uint32_t cons) {
  if (version == 0 || version > r->max_abi || (r->abi && version != r->abi)) return false;
  if (version == 2) return cons == 0;
  // v7 stored whatever came with the version that chose the ABI.
  if (!r->abi && (r->quirks & FL_QUIRK_FIRST_CONS)) return true;
  return cons < r->ring1.nb;
}

static void choose(struct fl_region* r, uint32_t abi) {
  r->abi = abi;
  if (abi == 2) set(&header(r)[HDR_VERSION], 2);
  set(&header(r)[HDR_ENTRY_SIZE], abi == 2 ? FL_RING2_RECORD_SIZE : FL_RING1_RECORD_SIZE);
  set(&header(r)[HDR_NB_ENTRIES], abi == 2 ? r->ring2.nb : r->ring1.nb);
}

int64_t fl_region_write_cons(struct fl_region* r, uint64_t pos, const void* buf, uint64_t count) {
  // Not read back from the page: with ABI 2 userspace has it mapped.
  uint32_t words[2] = {r->abi, r->cons};
  uint32_t* page = r->mem.cons;

  if (pos >= FL_REGION_CONS_HEADER_SIZE) return -FL_EINVAL;
  if (count > FL_REGION_CONS_HEADER_SIZE - pos) count = FL_REGION_CONS_HEADER_SIZE - pos;
  overlay(words, pos, buf, count);
  if (!acceptable(r, words[CONS_VERSION], words[CONS_INDEX])) return -FL_EINVAL;
  if (!r->abi) choose(r, words[CONS_VERSION]);
  r->cons = words[CONS_INDEX];
  set(&page[CONS_VERSION], words[CONS_VERSION]);
  set(&page[CONS_INDEX], words[CONS_INDEX]);
  return (int64_t)count;
}

enum fl_produced fl_region_produce(struct fl_region* r, const struct fl_event* event,
                                   uint64_t timestamp_ns) {
  struct fl_record1 record;
  int err;

  if (r->abi == 2) {
    if (!fl_ring2_due(event)) return FL_NOT_DUE;
    err = fl_ring2_push(&r->ring2, event, timestamp_ns);
  } else {
    if (!fl_record1_from_event(event, r->quirks, &record)) return FL_NOT_DUE;
    if (!r->abi) return FL_NO_ABI;
    err = fl_ring1_push(&r->ring1, r->cons, &record);
  }
  return err ? FL_DROPPED_FULL : FL_PRODUCED;
}
