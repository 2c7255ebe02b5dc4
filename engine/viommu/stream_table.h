// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/viommu/feature_set.h"
#include "engine/viommu/guest_memory.h"
#include "kernel/base/units.h"
#include "kernel/operation.h"

namespace faultline::viommu {

/// The guest's stream table, as its registers said when SMMUEN was taken.
struct StreamTable {
  std::uint64_t base = 0;  ///< GPA, aligned to the table
  unsigned log2size = 0;   ///< streams below 2^log2size have an entry; <= Features::sid_bits
  unsigned split = 0;      ///< two-level: 6, 8 or 10 bits of the StreamID index the leaf
  bool two_level = false;

  /// Latch the registers: reserved values behave as the architecture says (FMT as linear, SPLIT as
  /// 6), LOG2SIZE is capped at the offered StreamID size.
  /// source  Arm IHI 0070, 6.3.24 and 6.3.25
  static StreamTable latch(std::uint64_t base_register, std::uint32_t config_register,
                           const Features& features) noexcept;
};

/// Why a stream's configuration is what it is.
enum class StreamStatus : std::uint8_t {
  kValid,        ///< a legal STE, which may still say abort
  kBadStreamId,  ///< outside the table: transactions abort (C_BAD_STREAMID)
  kFetchAbort,   ///< the table is not in guest memory: transactions abort (F_STE_FETCH)
  kBadSte,       ///< V = 0 or illegal: transactions abort (C_BAD_STE)
};

struct StreamEntry {
  StreamStatus status = StreamStatus::kBadStreamId;
  Stage1Config config;  ///< mode kAbort unless the STE is valid and says otherwise
};

/// Decode one STE, already copied.
///
/// ste     8 words
/// errors  kBadSte: V = 0; stage 2 (Config 6, 7); a stage-1 configuration beyond what is offered
///         (S1CDMax, two-level contexts, S1STALLD without stalls, split-stage ATS, address size)
/// source  Arm IHI 0070, 5.2, SteIllegal()
StreamEntry decode_ste(std::span<const std::uint64_t, 8> ste, const Features& features) noexcept;

/// Read the configuration of one stream: at most one L1 descriptor and one STE, each copied once.
/// thread  any; work is bounded by those 72 bytes
StreamEntry read_stream(const GuestMemory& memory, const StreamTable& table, StreamId sid,
                        const Features& features) noexcept;

/// What the engine wants to know of one context descriptor.
struct Context {
  std::uint32_t ssid = 0;
  std::uint16_t asid = 0;
  std::uint8_t granule0_log2 = 0;  ///< of TTB0: 12, 14 or 16; 0 = disabled (EPD0) or reserved
  std::uint8_t granule1_log2 = 0;  ///< of TTB1

  bool operator==(const Context&) const = default;
};

/// Decode one CD, already copied.
/// returns  false: V = 0
/// source   Arm IHI 0070, 5.4
bool decode_cd(std::span<const std::uint64_t, 8> cd, std::uint32_t ssid, Context& out) noexcept;

/// A walk over the context descriptors of one stream that can stop and go on, because a guest may
/// claim 2^20 of them.
struct ContextWalk {
  std::uint32_t next = 0;  ///< the SubstreamID to look at next
  bool done = false;
};

/// List the valid contexts of a stream.
///
/// config   a stage-1 configuration; with another mode there is nothing
/// walk     where to go on; set done when the last one was seen
/// out      filled with at most out.size() contexts
/// budget   reads of guest memory (descriptors of either level) to make at most; at least 2 are
/// made returns  contexts filled. 0 with walk.done false: call again note     unreadable
/// descriptors are passed over; the guest's own device would fault on them
std::size_t list_contexts(const GuestMemory& memory, const Stage1Config& config, ContextWalk& walk,
                          std::span<Context> out, std::size_t budget) noexcept;

/// Read one context descriptor.
/// returns  false: there is none at ssid, or it is not valid
bool read_context(const GuestMemory& memory, const Stage1Config& config, std::uint32_t ssid,
                  Context& out) noexcept;

}  // namespace faultline::viommu
