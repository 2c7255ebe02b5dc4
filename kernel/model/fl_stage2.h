// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
// Stage 2 (guest physical → host) as the sorted table of DMA maps, with type1's rules for mapping
// and unmapping, and beside it a small table of nested MSI doorbells.
#pragma once

#include "kernel/model/fl_types.h"

FL_BEGIN_DECLS

#define FL_PAGE_SIZE UINT64_C(4096)

struct fl_s2_map {
  uint64_t ipa;   ///< first byte, 4 KiB aligned
  uint64_t size;  ///< bytes, a multiple of 4 KiB; ipa + size - 1 does not wrap
  uint64_t host;  ///< handle of the first byte
  uint32_t prot;  ///< enum fl_prot
  uint32_t zero;
};

/// Both tables are sorted by ipa and never overlap, neither within nor across.
struct fl_stage2 {
  struct fl_s2_map* maps;
  uint32_t nr_maps, max_maps;
  struct fl_s2_map* doorbells;
  uint32_t nr_doorbells, max_doorbells;
};

/// Give the tables their memory and make them empty. Either capacity may be 0.
void fl_stage2_init(struct fl_stage2* s2, struct fl_s2_map* maps, uint32_t max_maps,
                    struct fl_s2_map* doorbells, uint32_t max_doorbells);

/// Add one mapping, as VFIO_IOMMU_MAP_DMA does.
///
/// errors   -FL_EINVAL zero or unaligned size, unaligned ipa, wrap, no or unknown prot;
///          -FL_EEXIST overlaps a mapping or doorbell; -FL_ENOSPC table full
/// cost     O(log n) to find, O(n) to insert
/// thread   under the IOMMU's lock
int fl_stage2_map(struct fl_stage2* s2, uint64_t ipa, uint64_t size, uint64_t host, uint32_t prot);

/// Remove every mapping inside [ipa, ipa + size), as VFIO_IOMMU_UNMAP_DMA does for type1 v2, which
/// the nesting type is. size may be 2^64 - 4096 at ipa 0. A range without mappings removes 0 bytes.
///
/// unmapped bytes removed, written also on error (0)
/// errors   -FL_EINVAL unaligned, zero or wrapping range, or a range that would cut a mapping: then
///          nothing is removed
/// thread   under the IOMMU's lock; the caller then invalidates the VMID (fl_inv_vmid)
int fl_stage2_unmap(struct fl_stage2* s2, uint64_t ipa, uint64_t size, uint64_t* unmapped);

/// Add a nested MSI doorbell at guest physical `ipa`, writable and marked FL_PROT_MMIO.
///
/// errors   as fl_stage2_map()
int fl_stage2_bind_doorbell(struct fl_stage2* s2, uint64_t ipa, uint64_t size, uint64_t host);

/// Remove the doorbell that starts at `ipa`.
///
/// errors   -FL_ENOENT there is none
int fl_stage2_unbind_doorbell(struct fl_stage2* s2, uint64_t ipa);

/// The mapping or doorbell that holds `ipa`, or NULL. Valid until the table next changes.
///
/// cost     O(log n)
/// thread   under the IOMMU's lock
const struct fl_s2_map* fl_stage2_find(const struct fl_stage2* s2, uint64_t ipa);

FL_END_DECLS
