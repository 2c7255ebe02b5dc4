// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
#include "kernel/model/fl_iommu.h"

#define CD_BYTES UINT64_C(64)
#define CTXPTR_MASK UINT64_C(0x000fffffffffffc0)
#define L2PTR_MASK UINT64_C(0x000ffffffffff000)
#define RIGHTS_DATA (FL_PROT_READ | FL_PROT_WRITE)

/// A translation found, before it is cut to one transaction.
struct found {
  uint64_t va;  ///< of the piece's first byte, as the lookup saw the address
  uint64_t ipa;
  uint64_t host;
  uint64_t offset;  ///< of the transaction in the piece
  uint64_t size;    ///< of the piece
  uint64_t serial;
  uint32_t prot;    ///< stage 2
  uint8_t granted;  ///< data rights of both stages at the transaction's privilege
  bool cached;
};

int fl_iommu_init(struct fl_iommu* iommu, const struct fl_mem* mem,
                  const struct fl_iommu_memory* memory) {
  const struct fl_iommu_stats none = {0};
  int err;

  iommu->mem = *mem;
  iommu->oas_bits = 48;
  iommu->ssid_bits = 20;
  iommu->stats = none;
  err = fl_tlb_init(&iommu->tlb, memory->tlb_sets, memory->nr_tlb_sets);
  if (!err) err = fl_walk_cache_init(&iommu->walks, memory->walk_sets, memory->nr_walk_sets);
  if (!err)
    err = fl_config_cache_init(&iommu->configs, memory->config_sets, memory->nr_config_sets);
  return err;
}

int fl_stream_set_s1(struct fl_iommu* iommu, struct fl_stream* stream,
                     const struct fl_s1_config* s1) {
  if (s1->mode < FL_S1_TRANSLATE || s1->mode > FL_S1_ABORT) return -FL_EINVAL;
  if (s1->mode == FL_S1_TRANSLATE && s1->s1cdmax > iommu->ssid_bits) return -FL_EINVAL;
  stream->s1 = *s1;
  stream->s1.base_ptr &= CTXPTR_MASK;
  iommu->stats.invalidated += fl_config_cache_drop_sid(&iommu->configs, stream->sid);
  return 0;
}

static int fail(struct fl_fault* fault, uint8_t id) {
  fault->id = id;
  fault->class_ = FL_CLASS_IN;
  fault->s2 = false;
  fault->addr2 = 0;
  return -FL_EFAULT;
}

static int fail_s2(struct fl_fault* fault, uint8_t id, uint64_t ipa) {
  fault->id = id;
  fault->class_ = FL_CLASS_IN;
  fault->s2 = true;
  fault->addr2 = ipa;
  return -FL_EFAULT;
}

// IPA of the CD at `ssid`; reads the level-1 descriptor of a two-level table unless it is cached.
static int locate_cd(struct fl_iommu* iommu, const struct fl_stream* stream, uint32_t ssid,
                     uint64_t* ipa, struct fl_fault* fault) {
  const struct fl_s1_config* s1 = &stream->s1;
  struct fl_config_entry l1 = {.sid = stream->sid, .l1 = true};
  const struct fl_config_entry* e;

  *ipa = s1->base_ptr + CD_BYTES * ssid;
  if (!s1->s1cdmax || (s1->s1fmt != FL_S1_2LVL_4K && s1->s1fmt != FL_S1_2LVL_64K)) return 0;

  l1.split = s1->s1fmt == FL_S1_2LVL_4K ? 6 : 10;
  l1.index = ssid >> l1.split;
  e = fl_config_cache_find(&iommu->configs, stream->sid, l1.index, true);
  if (!e) {
    uint64_t desc;
    int err = fl_read_guest(&iommu->mem, &stream->domain->s2, s1->base_ptr + 8 * (uint64_t)l1.index,
                            FL_CLASS_CD, &desc, fault);

    if (err) return err;
    l1.bad = !(desc & 1);
    l1.l2ptr = desc & L2PTR_MASK;
    if (s1->s1fmt == FL_S1_2LVL_64K) l1.l2ptr &= ~UINT64_C(0xffff);
    // An L2Ptr beyond the intermediate address size counts as a bad substream.
    if (l1.l2ptr >> iommu->oas_bits) l1.bad = true;
    fl_config_cache_put(&iommu->configs, &l1);
    e = &l1;
  }
  if (e->bad) return fail(fault, FL_EVT_C_BAD_SUBSTREAMID);
  *ipa = e->l2ptr + CD_BYTES * (ssid & ((1U << l1.split) - 1));
  return 0;
}

// The decoded CD at `ssid`. *fresh is where it goes when the cache has no room to keep it.
static int get_cd(struct fl_iommu* iommu, const struct fl_stream* stream, uint32_t ssid,
                  struct fl_config_entry* fresh, const struct fl_cd** cd, struct fl_fault* fault) {
  const struct fl_config_entry* e = fl_config_cache_find(&iommu->configs, stream->sid, ssid, false);
  uint64_t raw[FL_CD_WORDS], ipa;
  unsigned i;
  int err;

  if (e) {
    iommu->stats.cd_hits++;
  } else {
    iommu->stats.cd_misses++;
    err = locate_cd(iommu, stream, ssid, &ipa, fault);
    // Word 0 holds V and is written last by software: read first, it vouches for the others.
    for (i = 0; !err && i < FL_CD_WORDS; i++)
      err =
          fl_read_guest(&iommu->mem, &stream->domain->s2, ipa + 8 * i, FL_CLASS_CD, &raw[i], fault);
    if (err) return err;
    *fresh = (struct fl_config_entry){.sid = stream->sid, .index = ssid};
    fresh->bad = fl_cd_decode(raw, iommu->oas_bits, &fresh->cd) != 0;
    fl_config_cache_put(&iommu->configs, fresh);
    e = fresh;
  }
  if (e->bad) return fail(fault, FL_EVT_C_BAD_CD);
  *cd = &e->cd;
  return 0;
}

// Stage 2 alone: nothing to cache, the table of DMA maps is looked up each time.
static int through_stage2(struct fl_iommu* iommu, const struct fl_stream* stream,
                          const struct fl_request* req, struct found* out, struct fl_fault* fault) {
  const struct fl_s2_map* m;

  if (req->iova >> iommu->oas_bits) return fail(fault, FL_EVT_F_ADDR_SIZE);
  m = fl_stage2_find(&stream->domain->s2, req->iova);
  if (!m) return fail_s2(fault, FL_EVT_F_TRANSLATION, req->iova);
  if (!(m->prot & (req->access & FL_ACCESS_WRITE ? FL_PROT_WRITE : FL_PROT_READ)))
    return fail_s2(fault, FL_EVT_F_PERMISSION, req->iova);
  out->va = out->ipa = m->ipa;
  out->host = m->host;
  out->offset = req->iova - m->ipa;
  out->size = m->size;
  out->serial = 0;
  out->prot = m->prot;
  out->granted = (uint8_t)(m->prot & RIGHTS_DATA);
  out->cached = false;
  return 0;
}

// Largest of the cached sizes around `ipa` that is within the leaf and within one stage-2 mapping.
static uint8_t piece_log2(const struct fl_s2_map* m, uint64_t ipa, uint8_t leaf_log2) {
  uint8_t log2;

  for (log2 = leaf_log2; log2 > 12; log2 = (uint8_t)(log2 - 9)) {
    uint64_t mask = (UINT64_C(1) << log2) - 1, first = ipa & ~mask;

    if (first >= m->ipa && first + mask <= m->ipa + (m->size - 1)) return log2;
  }
  return 12;
}

// Walk both stages and cache what was found. A translation that stage 1 or 2 has not got is never
// cached; one that only forbids this access is.
static int fill_tlb(struct fl_iommu* iommu, const struct fl_stream* stream, const struct fl_cd* cd,
                    int which, uint64_t va, uint32_t access, struct fl_tlb_entry* e,
                    struct fl_fault* fault) {
  const struct fl_walk_env env = {.mem = &iommu->mem,
                                  .s2 = &stream->domain->s2,
                                  .cd = cd,
                                  .cache = iommu->walks.nr_sets ? &iommu->walks : NULL,
                                  .vmid = stream->domain->vmid};
  const struct fl_s2_map* m;
  struct fl_leaf leaf;
  uint64_t ipa, mask;
  int err = fl_walk(&env, which, va, &leaf, fault);

  if (err) return err;
  ipa = leaf.ipa + (va - leaf.va);
  m = fl_stage2_find(&stream->domain->s2, ipa);
  if (!m) {
    // Stage-1 permissions are checked before stage 2 is looked at.
    if (!fl_rights_allow(leaf.rights, access)) return fail(fault, FL_EVT_F_PERMISSION);
    return fail_s2(fault, FL_EVT_F_TRANSLATION, ipa);
  }
  e->log2 = piece_log2(m, ipa, leaf.log2);
  mask = (UINT64_C(1) << e->log2) - 1;
  e->va = va & ~mask;
  e->ipa = ipa & ~mask;
  e->host = m->host + (e->ipa - m->ipa);
  e->leaf_va = leaf.va;
  e->leaf_log2 = leaf.log2;
  e->level = leaf.level;
  e->vmid = stream->domain->vmid;
  e->asid = cd->asid;
  e->rights = leaf.rights;
  e->prot = (uint8_t)m->prot;
  e->global = leaf.global;
  e->aset = cd->aset;
  e->valid = true;
  e->serial = fl_tlb_put(&iommu->tlb, e);
  return 0;
}

static int through_stage1(struct fl_iommu* iommu, const struct fl_stream* stream,
                          const struct fl_request* req, uint32_t ssid, struct found* out,
                          struct fl_fault* fault, bool* record) {
  const uint8_t priv = req->access & FL_ACCESS_PRIV;
  struct fl_config_entry fresh_cd;
  struct fl_tlb_entry fresh;
  const struct fl_tlb_entry* e;
  const struct fl_cd* cd;
  uint64_t va;
  int which, err;

  err = get_cd(iommu, stream, ssid, &fresh_cd, &cd, fault);
  if (err) return err;
  *record = cd->record;
  which = fl_walk_select(cd, req->iova, &va);
  if (which < 0) return fail(fault, FL_EVT_F_TRANSLATION);
  e = fl_tlb_find(&iommu->tlb, stream->domain->vmid, cd->asid, cd->aset, va);
  out->cached = e != NULL;
  if (e) {
    iommu->stats.tlb_hits++;
  } else {
    iommu->stats.tlb_misses++;
    err = fill_tlb(iommu, stream, cd, which, va, req->access, &fresh, fault);
    if (err) return err;
    e = &fresh;
  }
  if (!fl_rights_allow(e->rights, req->access)) return fail(fault, FL_EVT_F_PERMISSION);
  out->offset = va - e->va;
  if (!(e->prot & (req->access & FL_ACCESS_WRITE ? FL_PROT_WRITE : FL_PROT_READ)))
    return fail_s2(fault, FL_EVT_F_PERMISSION, e->ipa + out->offset);
  out->va = req->iova - out->offset;
  out->ipa = e->ipa;
  out->host = e->host;
  out->size = UINT64_C(1) << e->log2;
  out->serial = e->serial;
  out->prot = e->prot;
  out->granted = 0;
  if (fl_rights_allow(e->rights, priv)) out->granted |= FL_PROT_READ;
  if (fl_rights_allow(e->rights, priv | FL_ACCESS_WRITE)) out->granted |= FL_PROT_WRITE;
  out->granted &= e->prot;
  return 0;
}

// What the stream's configuration makes of the transaction. *record tells whether a stage-1
// translation fault would leave an event.
static int through_config(struct fl_iommu* iommu, const struct fl_stream* stream,
                          const struct fl_request* req, struct found* out, struct fl_fault* fault,
                          bool* record) {
  const struct fl_s1_config* s1 = &stream->s1;
  uint32_t ssid = 0;

  if (s1->mode == FL_S1_BYPASS) {
    if (req->ssv) return fail(fault, FL_EVT_C_BAD_SUBSTREAMID);
    return through_stage2(iommu, stream, req, out, fault);
  }
  if (req->ssv) {
    if (!s1->s1cdmax || req->ssid >> s1->s1cdmax) return fail(fault, FL_EVT_C_BAD_SUBSTREAMID);
    if (s1->s1dss == FL_S1_DSS_CD0 && req->ssid == 0) return fail(fault, FL_EVT_F_STREAM_DISABLED);
    ssid = req->ssid;
  } else if (s1->s1cdmax) {
    if (s1->s1dss == FL_S1_DSS_BYPASS) return through_stage2(iommu, stream, req, out, fault);
    if (s1->s1dss != FL_S1_DSS_CD0) return fail(fault, FL_EVT_F_STREAM_DISABLED);
  }
  return through_stage1(iommu, stream, req, ssid, out, fault, record);
}

static enum fl_outcome faulted(struct fl_iommu* iommu, const struct fl_stream* stream,
                               const struct fl_request* req, const struct fl_fault* fault,
                               bool record, struct fl_event* event) {
  const struct fl_origin origin = {.iova = req->iova,
                                   .sid = stream->sid,
                                   .ssid = req->ssid,
                                   .ssv = req->ssv,
                                   .access = req->access};

  // CD.R suppresses the four translation faults of stage 1, nothing else.
  if (!record && !fault->s2 && fault->id >= FL_EVT_F_TRANSLATION) {
    iommu->stats.unrecorded++;
    return FL_TERMINATED;
  }
  iommu->stats.events++;
  if (fault->s2) {
    if (fault->class_ == FL_CLASS_IN) iommu->stats.s2_events++;
    if (fault->class_ == FL_CLASS_TT) iommu->stats.s2_tt_events++;
    if (fault->class_ == FL_CLASS_CD) iommu->stats.s2_cd_events++;
  }
  fl_event_fill(&origin, fault, event);
  return FL_FAULTED;
}

static bool from_atc(struct fl_iommu* iommu, const struct fl_stream* stream,
                     const struct fl_request* req, struct fl_result* result) {
  const bool write = req->access & FL_ACCESS_WRITE;
  const struct fl_atc_entry* e;

  e = fl_atc_find(stream->atc, req->ssv, req->ssid, req->access & FL_ACCESS_PRIV, req->iova);
  if (!e || !(e->access & (write ? FL_PROT_WRITE : FL_PROT_READ)) ||
      (!write && (req->access & FL_ACCESS_EXEC) && !e->exec)) {
    iommu->stats.atc_misses++;
    return false;
  }
  iommu->stats.atc_hits++;
  result->host = e->host + (req->iova - e->va);
  result->size = (UINT64_C(1) << e->log2) - (req->iova - e->va);
  result->ipa = 0;
  result->entry = e->serial;
  result->prot = e->access;
  result->cached = true;
  result->from_atc = true;
  return true;
}

static void to_atc(const struct fl_stream* stream, const struct fl_request* req,
                   const struct found* f) {
  // The answer to an ATS request has a power-of-two size: the page, or the largest piece around it.
  const struct fl_s2_map whole = {.ipa = f->va, .size = f->size};
  const uint8_t log2 = piece_log2(&whole, req->iova, 30);
  const uint64_t va = req->iova & ~((UINT64_C(1) << log2) - 1);
  const struct fl_atc_entry e = {
      .va = va,
      .host = f->host + (va - f->va),
      .ssid = req->ssv ? req->ssid : 0,
      .log2 = log2,
      .access = f->granted,
      .ssv = req->ssv,
      .priv = (req->access & FL_ACCESS_PRIV) != 0,
      .exec = !(req->access & FL_ACCESS_WRITE) && (req->access & FL_ACCESS_EXEC),
  };

  (void)fl_atc_put(stream->atc, &e);
}

enum fl_outcome fl_translate(struct fl_iommu* iommu, const struct fl_stream* stream,
                             const struct fl_request* req, struct fl_result* result,
                             struct fl_event* event) {
  struct fl_fault fault;
  struct found f;
  bool record = true;

  iommu->stats.translations++;
  if (!stream->domain || stream->s1.mode < FL_S1_TRANSLATE || stream->s1.mode >= FL_S1_ABORT) {
    iommu->stats.aborted++;
    return FL_TERMINATED;
  }
  if (stream->atc && from_atc(iommu, stream, req, result)) return FL_TRANSLATED;
  if (through_config(iommu, stream, req, &f, &fault, &record))
    return faulted(iommu, stream, req, &fault, record, event);
  if (stream->atc && !(f.prot & FL_PROT_MMIO)) to_atc(stream, req, &f);
  result->host = f.host + f.offset;
  result->size = f.size - f.offset;
  result->ipa = f.ipa + f.offset;
  result->entry = f.serial;
  result->prot = f.prot;
  result->cached = f.cached;
  result->from_atc = false;
  return FL_TRANSLATED;
}
