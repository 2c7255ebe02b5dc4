// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
// The fl_inv_* half of fl_iommu.h.
#include "kernel/model/fl_iommu.h"

#define PAGE_MASK UINT64_C(4095)

static uint32_t count(struct fl_iommu* iommu, uint32_t n) {
  iommu->stats.invalidated += n;
  return n;
}

uint32_t fl_inv_vmid(struct fl_iommu* iommu, uint16_t vmid) {
  uint32_t n = fl_tlb_drop_vmid(&iommu->tlb, vmid);

  return count(iommu, n + fl_walk_cache_drop_vmid(&iommu->walks, vmid));
}

uint32_t fl_inv_tlb_all(struct fl_iommu* iommu) {
  uint32_t n = fl_tlb_drop_all(&iommu->tlb);

  return count(iommu, n + fl_walk_cache_drop_all(&iommu->walks));
}

uint32_t fl_inv_asid(struct fl_iommu* iommu, uint16_t vmid, uint16_t asid) {
  uint32_t n = fl_tlb_drop_asid(&iommu->tlb, vmid, asid);

  return count(iommu, n + fl_walk_cache_drop_asid(&iommu->walks, vmid, asid));
}

static uint32_t drop(struct fl_iommu* iommu, uint16_t vmid, uint16_t asid, bool any_asid,
                     uint64_t va, uint64_t last, bool leaf) {
  uint32_t n = fl_tlb_drop_range(&iommu->tlb, vmid, asid, any_asid, va, last);

  if (!leaf) n += fl_walk_cache_drop_range(&iommu->walks, vmid, asid, any_asid, va, last);
  return count(iommu, n);
}

// Last byte of [va, va + size): a range never wraps from the high addresses to the low ones.
static uint64_t last_of(uint64_t va, uint64_t size) {
  return size - 1 > UINT64_MAX - va ? UINT64_MAX : va + (size - 1);
}

uint32_t fl_inv_va(struct fl_iommu* iommu, uint16_t vmid, uint16_t asid, uint64_t va, bool leaf) {
  return drop(iommu, vmid, asid, false, va & ~PAGE_MASK, va | PAGE_MASK, leaf);
}

uint32_t fl_inv_vaa(struct fl_iommu* iommu, uint16_t vmid, uint64_t va, bool leaf) {
  return drop(iommu, vmid, 0, true, va & ~PAGE_MASK, va | PAGE_MASK, leaf);
}

uint32_t fl_inv_va_range(struct fl_iommu* iommu, uint16_t vmid, uint16_t asid, uint64_t va,
                         uint64_t size, bool leaf) {
  return size ? drop(iommu, vmid, asid, false, va, last_of(va, size), leaf) : 0;
}

uint32_t fl_inv_vaa_range(struct fl_iommu* iommu, uint16_t vmid, uint64_t va, uint64_t size,
                          bool leaf) {
  return size ? drop(iommu, vmid, 0, true, va, last_of(va, size), leaf) : 0;
}

uint32_t fl_inv_cd(struct fl_iommu* iommu, uint32_t sid, uint32_t ssid, bool leaf) {
  return count(iommu, fl_config_cache_drop_cd(&iommu->configs, sid, ssid, leaf));
}

uint32_t fl_inv_cd_all(struct fl_iommu* iommu, uint32_t sid) {
  return count(iommu, fl_config_cache_drop_sid(&iommu->configs, sid));
}

uint32_t fl_inv_config_all(struct fl_iommu* iommu) {
  return count(iommu, fl_config_cache_drop_all(&iommu->configs));
}

uint32_t fl_inv_atc(struct fl_iommu* iommu, const struct fl_stream* stream, bool ssv, bool global,
                    uint32_t ssid, uint64_t va, uint8_t size) {
  return stream->atc ? count(iommu, fl_atc_drop(stream->atc, ssv, global, ssid, va, size)) : 0;
}

uint32_t fl_inv_atc_all(struct fl_iommu* iommu, const struct fl_stream* stream) {
  return stream->atc ? count(iommu, fl_atc_drop_all(stream->atc)) : 0;
}
