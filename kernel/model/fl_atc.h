// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
// ATC: translations that one device fetched by ATS and keeps itself. TLB invalidations do not reach
// it, only ATC invalidations do.
#pragma once

#include "kernel/model/fl_types.h"

FL_BEGIN_DECLS

struct fl_atc_entry {
  uint64_t va;  ///< first address, aligned to its size; as the device sent it
  uint64_t host;
  uint64_t serial;
  uint32_t ssid;
  uint8_t log2;    ///< size, 12, 21 or 30
  uint8_t access;  ///< FL_PROT_READ | FL_PROT_WRITE granted
  bool ssv;        ///< entry belongs to `ssid`; otherwise to traffic without SubstreamID
  bool priv;       ///< fetched by a privileged request
  bool exec;       ///< granted for instruction reads
  bool valid;
};

struct fl_atc {
  struct fl_atc_entry* entries;  ///< fully associative: real ones are small
  uint32_t nr_entries;
  uint32_t victim;
  uint64_t serial;
};

/// SIZE of an ATC invalidation that covers the whole address space.
#define FL_ATC_ALL 52

void fl_atc_init(struct fl_atc* atc, struct fl_atc_entry* entries, uint32_t nr_entries);

const struct fl_atc_entry* fl_atc_find(const struct fl_atc* atc, bool ssv, uint32_t ssid, bool priv,
                                       uint64_t va);

/// returns  the entry's serial, 0 when the ATC has no entries
uint64_t fl_atc_put(struct fl_atc* atc, const struct fl_atc_entry* e);

/// Remove entries as CMD_ATC_INV does: those that overlap the 2^size pages around `va`.
///
/// ssv     only entries of `ssid`; clear: only entries without SubstreamID
/// global  with ssv: entries of every SubstreamID (G bit of the PCIe invalidation)
/// size    log2 of 4 KiB pages, 0..52; va's low bits below the range are ignored
/// returns entries removed
/// source  Arm IHI 0070, 4.5.1 "CMD_ATC_INV"
uint32_t fl_atc_drop(struct fl_atc* atc, bool ssv, bool global, uint32_t ssid, uint64_t va,
                     uint8_t size);

/// Remove everything, as a reset of the device or disabling ATS does.
uint32_t fl_atc_drop_all(struct fl_atc* atc);

FL_END_DECLS
