// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
#include "kernel/model/fl_cd.h"

// Word 0 of a context descriptor, by bit position. Fields of TTB1 are those of TTB0 plus 16.
enum {
  CD_TXSZ = 0,
  CD_TG = 6,
  CD_EPD = 14,
  CD_ENDI = 15,
  CD_V = 31,
  CD_IPS = 32,
  CD_AFFD = 35,
  CD_WXN = 36,
  CD_TBI = 38,
  CD_PAN = 40,
  CD_AA64 = 41,
  CD_HD = 42,
  CD_HA = 43,
  CD_S = 44,
  CD_R = 45,
  CD_A = 46,
  CD_ASET = 47,
  CD_ASID = 48,
};

static uint64_t field(uint64_t word, unsigned at, unsigned width) {
  return (word >> at) & ((UINT64_C(1) << width) - 1);
}

static bool flag(uint64_t word, unsigned at) {
  return field(word, at, 1) != 0;
}

// Effective IPS; 6 and 7 are reserved without 52-bit addresses and behave as 48 bits.
static uint8_t ips_bits(uint64_t word, uint8_t oas_bits) {
  static const uint8_t bits[8] = {32, 36, 40, 42, 44, 48, 48, 48};
  uint8_t ips = bits[field(word, CD_IPS, 3)];

  return ips < oas_bits ? ips : oas_bits;
}

static int decode_table(const uint64_t raw[FL_CD_WORDS], unsigned i, uint8_t ips,
                        struct fl_tt* tt) {
  // The two granule fields have different encodings of the same sizes.
  static const uint64_t granule_4k[2] = {0, 2};
  const unsigned at = 16 * i;
  unsigned bits, top_bits;
  uint64_t size;

  tt->disabled = flag(raw[0], CD_EPD + at);
  tt->tbi = flag(raw[0], CD_TBI + i);
  tt->had = flag(raw[1 + i], 1);
  tt->tsz = 0;
  tt->base = 0;
  if (tt->disabled) return 0;  // and everything else of this table is ignored

  tt->tsz = (uint8_t)field(raw[0], CD_TXSZ + at, 6);
  if (tt->tsz < 16 || tt->tsz > 39) return -FL_EINVAL;
  if (field(raw[0], CD_TG + at, 2) != granule_4k[i]) return -FL_EINVAL;
  tt->base = raw[1 + i] & UINT64_C(0x000ffffffffffff0);
  if (tt->base >> ips) return -FL_EINVAL;

  // The starting table may be shorter than a page and is aligned to its size, at least 16 bytes.
  bits = 64U - tt->tsz - 12U;
  top_bits = bits % 9U ? bits % 9U : 9U;
  size = UINT64_C(8) << top_bits;
  tt->base &= ~(size - 1);
  return 0;
}

int fl_cd_decode(const uint64_t raw[FL_CD_WORDS], uint8_t oas_bits, struct fl_cd* cd) {
  const uint64_t w = raw[0];
  unsigned i;

  if (!flag(w, CD_V) || !flag(w, CD_AA64)) return -FL_EINVAL;
  if (!flag(w, CD_A) || flag(w, CD_S)) return -FL_EINVAL;  // terminate model: abort, never stall
  if (flag(w, CD_HA) || flag(w, CD_HD)) return -FL_EINVAL;
  cd->ips_bits = ips_bits(w, oas_bits);
  for (i = 0; i < 2; i++) {
    int err = decode_table(raw, i, cd->ips_bits, &cd->tt[i]);

    if (err) return err;
  }
  if (flag(w, CD_ENDI) && !(cd->tt[0].disabled && cd->tt[1].disabled)) return -FL_EINVAL;
  cd->asid = (uint16_t)field(w, CD_ASID, 16);
  cd->aset = flag(w, CD_ASET);
  cd->affd = flag(w, CD_AFFD);
  cd->wxn = flag(w, CD_WXN);
  cd->pan = flag(w, CD_PAN);
  cd->record = flag(w, CD_R);
  return 0;
}
