// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
// The index function of the caches: fixed, so that what is evicted by what is the same in each run.
#pragma once

#include "kernel/model/fl_types.h"

FL_BEGIN_DECLS

static inline uint32_t fl_hash(uint64_t number, uint32_t tag, uint32_t kind) {
  uint64_t h = number * UINT64_C(0x9e3779b97f4a7c15);

  h ^= ((uint64_t)tag << 8 | kind) * UINT64_C(0xd6e8feb86659fd93);
  h ^= h >> 32;
  h *= UINT64_C(0xd6e8feb86659fd93);
  return (uint32_t)(h >> 32);
}

FL_END_DECLS
