// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>

namespace faultline {

/// What one invalidation operation removes. Scope is always one guest.
enum class OperationKind : std::uint8_t {
  kTlbAll,    ///< every stage-1 entry of the guest (TLBI_NH_ALL, TLBI_NSNH_ALL)
  kTlbAsid,   ///< non-global entries of `asid`
  kTlbVa,     ///< [addr, addr + pages × granule) of `asid`, and global entries there
  kTlbVaa,    ///< the same of every ASID
  kCfgCd,     ///< the context descriptor (sid, ssid)
  kCfgCdAll,  ///< every context descriptor of sid
  kAtcInv,    ///< the device's own cache: sid, ssid where ssid_valid, 2^n pages or all
};

/// One thing we ask a kernel to invalidate: decoded, checked, free of any ABI.
struct Operation {
  OperationKind kind = OperationKind::kTlbAll;
  bool leaf = false;               ///< only last-level entries need go
  bool ssid_valid = false;         ///< kAtcInv
  bool global = false;             ///< kAtcInv
  std::uint8_t granule_log2 = 12;  ///< size of one page of `pages`: 12, 14 or 16
  std::uint8_t ttl = 0;            ///< level hint, 0 = none
  std::uint16_t asid = 0;
  std::uint32_t sid = 0;  ///< the guest's StreamID
  std::uint32_t ssid = 0;
  std::uint64_t addr = 0;   ///< aligned to the granule
  std::uint64_t pages = 0;  ///< kTlbVa, kTlbVaa, kAtcInv: >= 1; kAtcInv: 0 = all

  bool operator==(const Operation&) const = default;
};

/// The guest's stage-1 configuration of one stream, decoded from its STE.
struct Stage1Config {
  enum class Mode : std::uint8_t { kAbort, kBypass, kTranslate };

  Mode mode = Mode::kAbort;
  std::uint8_t s1fmt = 0;      ///< 0 linear, 1 two-level 4 KiB leaves, 2 two-level 64 KiB leaves
  std::uint8_t s1dss = 0;      ///< what a transaction without SSID does when s1cdmax > 0
  std::uint8_t s1cdmax = 0;    ///< log2 of the number of context descriptors
  std::uint64_t cd_table = 0;  ///< GPA of the context descriptor (table)
  std::uint64_t ste[2] = {};   ///< the guest's first two STE words, for sinks that take them whole

  bool operator==(const Stage1Config&) const = default;
};

/// What one submission did.
///
/// error       0: everything asked took effect. Otherwise a positive errno, and nothing may be
///             assumed of any operation (the kernel's own count is never trusted)
/// calls       ioctls made
/// host_syncs  CMD_SYNCs which that cost the host, as far as the interface tells; else = calls
/// atc_timeout with an error: all that failed is that a device did not answer an ATC invalidation
///             in time. Every other operation took effect
struct SubmitResult {
  int error = 0;
  std::uint32_t calls = 0;
  std::uint32_t host_syncs = 0;
  bool atc_timeout = false;
};

/// What a sink's kernel can do, asked once at start.
struct SinkCaps {
  std::uint32_t max_batch = 1;  ///< operations per ioctl (1: the seed's; 63: one host sync)
  bool tlb_all = false;         ///< kTlbAll is one ioctl; else it is made of every ASID seen
  bool config_caches = false;   ///< kCfgCd/kCfgCdAll are ioctls; else stage 1 is bound again
  bool atc = false;             ///< kAtcInv is an ioctl; else the kernel does it by itself
  bool range = false;           ///< ranges reach the hardware as ranges (kernel/range_encoding.h)
  /// Most pages of one kTlbVa that stay what they are; what is longer, the sink cuts or, with
  /// tlb_all, makes everything of. 0: no limit
  std::uint32_t max_pages = 0;
};

}  // namespace faultline
