// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
#include "kernel/model/fl_walk.h"

#define OA_MASK UINT64_C(0x0000fffffffff000)

// Restrictions that table descriptors put on everything below them.
enum table_attrs {
  TABLE_NO_USER = 1 << 0,   // APTable[0]
  TABLE_NO_WRITE = 1 << 1,  // APTable[1]
  TABLE_UXN = 1 << 2,
  TABLE_PXN = 1 << 3,
};

static bool bit(uint64_t word, unsigned at) {
  return (word >> at) & 1;
}

static unsigned level_shift(unsigned level) {
  return 39U - 9U * level;
}

// 4 KiB granule: each level resolves 9 bits, the last one above the 12 bits of the page.
static unsigned start_level(const struct fl_tt* tt) {
  return 4U - (64U - tt->tsz - 12U + 8U) / 9U;
}

int fl_walk_select(const struct fl_cd* cd, uint64_t va, uint64_t* canonical) {
  const int which = bit(va, 55);
  const struct fl_tt* tt = &cd->tt[which];
  uint64_t above;

  if (tt->tbi) va = which ? va | UINT64_C(0xff) << 56 : va & ~(UINT64_C(0xff) << 56);
  *canonical = va;
  if (tt->disabled) return which;
  above = va >> (64U - tt->tsz);
  return above == (which ? UINT64_MAX >> (64U - tt->tsz) : 0) ? which : -1;
}

static int fail(struct fl_fault* fault, uint8_t id, bool s2, uint8_t class_, uint64_t addr2) {
  fault->id = id;
  fault->class_ = class_;
  fault->s2 = s2;
  fault->addr2 = addr2;
  return -FL_EFAULT;
}

// A stage-1 fault of a descriptor always has CLASS IN and no second address.
static int fail_s1(struct fl_fault* fault, uint8_t id) {
  return fail(fault, id, false, FL_CLASS_IN, 0);
}

int fl_read_guest(const struct fl_mem* mem, const struct fl_stage2* s2, uint64_t ipa,
                  uint8_t class_, uint64_t* value, struct fl_fault* fault) {
  const struct fl_s2_map* m = fl_stage2_find(s2, ipa);
  uint64_t host;

  if (!m) return fail(fault, FL_EVT_F_TRANSLATION, true, class_, ipa);
  host = m->host + (ipa - m->ipa);
  // A doorbell is device memory: it has no read permission and nothing to walk through.
  if (!(m->prot & FL_PROT_READ)) return fail(fault, FL_EVT_F_PERMISSION, true, class_, ipa);
  if (mem->read64(mem->ctx, host, value))
    return fail(fault, class_ == FL_CLASS_CD ? FL_EVT_F_CD_FETCH : FL_EVT_F_WALK_EABT, false,
                class_, host);
  return 0;
}

static uint8_t collect(uint8_t attrs, uint64_t desc) {
  if (bit(desc, 61)) attrs |= TABLE_NO_USER;
  if (bit(desc, 62)) attrs |= TABLE_NO_WRITE;
  if (bit(desc, 60)) attrs |= TABLE_UXN;
  if (bit(desc, 59)) attrs |= TABLE_PXN;
  return attrs;
}

static uint8_t rights_of(const struct fl_cd* cd, uint64_t desc, uint8_t attrs) {
  const bool user = bit(desc, 6) && !(attrs & TABLE_NO_USER);
  const bool write = !bit(desc, 7) && !(attrs & TABLE_NO_WRITE);
  const bool uxn = bit(desc, 54) || (attrs & TABLE_UXN) || (cd->wxn && user && write);
  // What user code may write, privileged code never executes.
  const bool pxn = bit(desc, 53) || (attrs & TABLE_PXN) || (user && write) || (cd->wxn && write);
  const bool pan = cd->pan && user;
  uint8_t r = 0;

  if (user) r |= FL_RIGHT_USER_READ;
  if (user && write) r |= FL_RIGHT_USER_WRITE;
  if (!uxn) r |= FL_RIGHT_USER_EXEC;
  if (!pan) r |= FL_RIGHT_PRIV_READ;
  if (!pan && write) r |= FL_RIGHT_PRIV_WRITE;
  if (!pxn) r |= FL_RIGHT_PRIV_EXEC;
  return r;
}

// The deepest remembered table on the way to `va`; otherwise the starting table.
static unsigned begin(const struct fl_walk_env* env, const struct fl_tt* tt, uint64_t va,
                      uint64_t* table, uint8_t* attrs) {
  const unsigned start = start_level(tt);
  unsigned level = 3;

  while (env->cache && level > start) {
    const struct fl_walk_entry* e =
        fl_walk_cache_find(env->cache, env->vmid, env->cd->asid, (uint8_t)(level - 1), va);

    if (e) {
      *table = e->table;
      *attrs = e->attrs;
      return level;
    }
    level--;
  }
  *table = tt->base;
  *attrs = 0;
  return start;
}

static uint64_t index_of(const struct fl_tt* tt, unsigned level, uint64_t va) {
  // The starting table resolves only the bits that the region has above it.
  uint64_t offset = va & (UINT64_MAX >> tt->tsz);

  return (offset >> level_shift(level)) & 511;
}

int fl_walk(const struct fl_walk_env* env, int which, uint64_t va, struct fl_leaf* leaf,
            struct fl_fault* fault) {
  const struct fl_cd* cd = env->cd;
  const struct fl_tt* tt = &cd->tt[which];
  uint64_t table, desc, oa;
  uint8_t attrs;
  unsigned level;

  if (tt->disabled) return fail_s1(fault, FL_EVT_F_TRANSLATION);
  for (level = begin(env, tt, va, &table, &attrs);; level++) {
    bool is_table;
    int err = fl_read_guest(env->mem, env->s2, table + 8 * index_of(tt, level, va), FL_CLASS_TT,
                            &desc, fault);

    if (err) return err;
    is_table = level < 3 && bit(desc, 1);
    // Blocks exist at levels 1 and 2; at level 3 only the page format is valid.
    if (!bit(desc, 0) || (level == 0 && !is_table) || (level == 3 && !bit(desc, 1)))
      return fail_s1(fault, FL_EVT_F_TRANSLATION);
    oa = desc & OA_MASK;
    if (!is_table) oa &= ~((UINT64_C(1) << level_shift(level)) - 1);
    if (oa >> cd->ips_bits) return fail_s1(fault, FL_EVT_F_ADDR_SIZE);
    if (!is_table) break;
    if (!tt->had) attrs = collect(attrs, desc);
    table = oa;
    if (env->cache)
      fl_walk_cache_put(env->cache, env->vmid, cd->asid, (uint8_t)level, va, table, attrs);
  }
  if (!bit(desc, 10) && !cd->affd) return fail_s1(fault, FL_EVT_F_ACCESS);
  leaf->log2 = (uint8_t)level_shift(level);
  leaf->level = (uint8_t)level;
  leaf->va = va & ~((UINT64_C(1) << leaf->log2) - 1);
  leaf->ipa = oa;
  leaf->rights = rights_of(cd, desc, attrs);
  leaf->global = !bit(desc, 11);
  return 0;
}

bool fl_rights_allow(uint8_t rights, uint32_t access) {
  uint8_t need;

  if (access & FL_ACCESS_WRITE)
    need = FL_RIGHT_USER_WRITE;
  else if (access & FL_ACCESS_EXEC)
    need = FL_RIGHT_USER_EXEC;
  else
    need = FL_RIGHT_USER_READ;
  if (access & FL_ACCESS_PRIV) need = (uint8_t)(need * FL_RIGHT_PRIV_READ);
  return (rights & need) != 0;
}
