// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
#include "kernel/model/fl_stage2.h"

#define FL_PAGE_MASK (FL_PAGE_SIZE - 1)

static uint64_t map_last(const struct fl_s2_map* m) {
  return m->ipa + m->size - 1;
}

// Index of the first map whose last byte is at or after `ipa`; n when there is none.
static uint32_t first_ending_at(const struct fl_s2_map* maps, uint32_t n, uint64_t ipa) {
  uint32_t low = 0, high = n;

  while (low < high) {
    uint32_t mid = low + (high - low) / 2;

    if (map_last(&maps[mid]) < ipa)
      low = mid + 1;
    else
      high = mid;
  }
  return low;
}

static bool overlaps(const struct fl_s2_map* maps, uint32_t n, uint64_t ipa, uint64_t last) {
  uint32_t i = first_ending_at(maps, n, ipa);

  return i < n && maps[i].ipa <= last;
}

static bool bad_range(uint64_t ipa, uint64_t size) {
  return size == 0 || ((ipa | size) & FL_PAGE_MASK) != 0 || ipa + size - 1 < ipa;
}

static int insert(const struct fl_stage2* s2, struct fl_s2_map* maps, uint32_t* n, uint32_t max,
                  const struct fl_s2_map* m) {
  uint64_t last;
  uint32_t i, at;

  if (bad_range(m->ipa, m->size)) return -FL_EINVAL;
  last = map_last(m);
  if (overlaps(s2->maps, s2->nr_maps, m->ipa, last) ||
      overlaps(s2->doorbells, s2->nr_doorbells, m->ipa, last))
    return -FL_EEXIST;
  if (*n == max) return -FL_ENOSPC;
  at = first_ending_at(maps, *n, m->ipa);
  for (i = *n; i > at; i--) maps[i] = maps[i - 1];
  maps[at] = *m;
  ++*n;
  return 0;
}

void fl_stage2_init(struct fl_stage2* s2, struct fl_s2_map* maps, uint32_t max_maps,
                    struct fl_s2_map* doorbells, uint32_t max_doorbells) {
  s2->maps = maps;
  s2->nr_maps = 0;
  s2->max_maps = max_maps;
  s2->doorbells = doorbells;
  s2->nr_doorbells = 0;
  s2->max_doorbells = max_doorbells;
}

int fl_stage2_map(struct fl_stage2* s2, uint64_t ipa, uint64_t size, uint64_t host, uint32_t prot) {
  const struct fl_s2_map m = {.ipa = ipa, .size = size, .host = host, .prot = prot};

  if (prot == 0 || (prot & ~(uint32_t)(FL_PROT_READ | FL_PROT_WRITE)) != 0) return -FL_EINVAL;
  return insert(s2, s2->maps, &s2->nr_maps, s2->max_maps, &m);
}

int fl_stage2_unmap(struct fl_stage2* s2, uint64_t ipa, uint64_t size, uint64_t* unmapped) {
  uint32_t first, end, i;
  uint64_t last;

  *unmapped = 0;
  if (bad_range(ipa, size)) return -FL_EINVAL;
  last = ipa + size - 1;
  first = first_ending_at(s2->maps, s2->nr_maps, ipa);
  for (end = first; end < s2->nr_maps && s2->maps[end].ipa <= last; end++) {
    if (s2->maps[end].ipa < ipa || map_last(&s2->maps[end]) > last) {
      *unmapped = 0;
      return -FL_EINVAL;
    }
    *unmapped += s2->maps[end].size;
  }
  for (i = end; i < s2->nr_maps; i++) s2->maps[first + (i - end)] = s2->maps[i];
  s2->nr_maps -= end - first;
  return 0;
}

int fl_stage2_bind_doorbell(struct fl_stage2* s2, uint64_t ipa, uint64_t size, uint64_t host) {
  const struct fl_s2_map m = {
      .ipa = ipa, .size = size, .host = host, .prot = FL_PROT_WRITE | FL_PROT_MMIO};

  return insert(s2, s2->doorbells, &s2->nr_doorbells, s2->max_doorbells, &m);
}

int fl_stage2_unbind_doorbell(struct fl_stage2* s2, uint64_t ipa) {
  uint32_t i = first_ending_at(s2->doorbells, s2->nr_doorbells, ipa);

  if (i == s2->nr_doorbells || s2->doorbells[i].ipa != ipa) return -FL_ENOENT;
  for (; i + 1 < s2->nr_doorbells; i++) s2->doorbells[i] = s2->doorbells[i + 1];
  s2->nr_doorbells--;
  return 0;
}

const struct fl_s2_map* fl_stage2_find(const struct fl_stage2* s2, uint64_t ipa) {
  uint32_t i = first_ending_at(s2->maps, s2->nr_maps, ipa);

  if (i < s2->nr_maps && s2->maps[i].ipa <= ipa) return &s2->maps[i];
  i = first_ending_at(s2->doorbells, s2->nr_doorbells, ipa);
  if (i < s2->nr_doorbells && s2->doorbells[i].ipa <= ipa) return &s2->doorbells[i];
  return NULL;
}
