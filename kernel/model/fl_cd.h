// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
// Context descriptor: 64 bytes of guest memory, decoded once into what translation needs.
#pragma once

#include "kernel/model/fl_types.h"

FL_BEGIN_DECLS

#define FL_CD_WORDS 8

/// One of the two translation tables of a context descriptor.
struct fl_tt {
  uint64_t base;  ///< IPA of the starting table, aligned to its size
  uint8_t tsz;    ///< 16..39: the region is 2^(64 - tsz) bytes
  bool disabled;  ///< EPD: an address of this region faults without a walk
  bool tbi;       ///< top byte ignored
  bool had;       ///< hierarchical attributes (APTable, UXNTable, PXNTable) ignored
};

struct fl_cd {
  struct fl_tt tt[2];  ///< TTB0 (low addresses), TTB1 (high addresses)
  uint16_t asid;
  uint8_t ips_bits;  ///< effective IPS: 32, 36, 40, 42, 44 or 48, capped to the SMMU's OAS
  bool aset;         ///< tags global entries beside the VMID
  bool affd;         ///< access flag faults disabled
  bool wxn;          ///< what is writable is not executable
  bool pan;          ///< privileged data access to user-accessible pages faults
  bool record;       ///< R: stage-1 translation faults leave an event
};

/// Decode a context descriptor for an SMMU with VMSAv8-64, 4 KiB granule, little endian, 16-bit
/// ASIDs, terminate model (A must be 1, S must be 0), no hardware flag update, HAD.
///
/// raw       eight words as read from guest memory
/// oas_bits  output address size of the SMMU, 32..48
/// errors    -FL_EINVAL invalid (V = 0) or ILLEGAL: the transaction ends with C_BAD_CD
/// source    Arm IHI 0070, 5.4 "CD, Context Descriptor" and 5.4.2 "Validity of CD"
int fl_cd_decode(const uint64_t raw[FL_CD_WORDS], uint8_t oas_bits, struct fl_cd* cd);

FL_END_DECLS
