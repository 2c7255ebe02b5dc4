// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>

#include "engine/viommu/registers.h"
#include "kernel/base/result.h"
#include "kernel/operation.h"

namespace faultline::viommu {

/// What the virtual SMMU offers its guest. Stage 2, hypervisor (EL2) and secure worlds, SEV, BTM,
/// HTTU, ATOS and MPAM are never offered; translation tables are VMSAv8-64, little endian.
///
/// The defaults are what the soft kernel serves.
struct Features {
  unsigned sid_bits = 16;   ///< StreamID size, <= 32
  unsigned ssid_bits = 0;   ///< SubstreamID size, 0 (none) .. 20
  unsigned oas_bits = 44;   ///< output address size: 32, 36, 40, 42, 44 or 48
  unsigned cmdq_log2 = 19;  ///< largest command queue, log2 entries, <= 19
  unsigned evtq_log2 = 19;  ///< largest event queue, log2 entries, <= 19
  bool granule_4k = true;
  bool granule_16k = false;
  bool granule_64k = false;
  bool ranges = true;             ///< RIL: range and level fields in TLBI by address
  bool ats = false;               ///< CMD_ATC_INV
  bool pri = false;               ///< page requests
  bool stalls = false;            ///< stall model, CMD_RESUME, CMD_STALL_TERM
  bool msi = true;                ///< completion and interrupts by memory writes
  bool two_level_streams = true;  ///< two-level stream table
  bool two_level_contexts = true;
  bool coherent = true;  ///< COHACC: the engine's accesses are coherent with the guest's caches

  /// Whether the guest can use 4 KiB pages and no other.
  [[nodiscard]] bool only_4k() const noexcept { return granule_4k && !granule_16k && !granule_64k; }
};

/// The read-only registers.
struct IdRegisters {
  std::uint32_t idr[6] = {};
  std::uint32_t iidr = 0;
  std::uint32_t aidr = 0;
};

/// What remains of `wanted` with a sink that can do `caps`.
///
/// ats     needs a sink that takes ATC invalidations; the seed's kernel does them by itself
/// ranges  stay: an operation carries its number of pages, and a sink without hardware ranges
///         says it as (granule, count)
/// errors  a value that SMMUv3 cannot express, or Linux refuses to drive (cmdq_log2 < 7, evtq_log2
///         < 7, no granule)
/// thread  control path
Result<Features> negotiate(const Features& wanted, const SinkCaps& caps);

/// The ID registers that say `features`.
/// source  Arm IHI 0070, 6.3.1 to 6.3.8
IdRegisters id_registers(const Features& features) noexcept;

/// Write the ID registers and zero every other register of the page, as after reset: GBPA bypasses
/// (ABORT = 0), all queues are off.
void reset_registers(const RegisterPage& page, const IdRegisters& ids) noexcept;

}  // namespace faultline::viommu
