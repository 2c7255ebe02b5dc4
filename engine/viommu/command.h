// SPDX-License-Identifier: BSD-3-Clause
// hot path: one command of the guest's queue, from its 16 bytes to a checked value.
#pragma once

#include <cstdint>

#include "engine/viommu/feature_set.h"
#include "kernel/operation.h"

namespace faultline::viommu {

/// source  Arm IHI 0070, 4.1.1
enum class Opcode : std::uint8_t {
  kPrefetchConfig = 0x01,
  kPrefetchAddr = 0x02,
  kCfgiSte = 0x03,
  kCfgiSteRange = 0x04,  ///< with Range = 31: CFGI_ALL
  kCfgiCd = 0x05,
  kCfgiCdAll = 0x06,
  kCfgiVmsPidm = 0x07,
  kTlbiNhAll = 0x10,
  kTlbiNhAsid = 0x11,
  kTlbiNhVa = 0x12,
  kTlbiNhVaa = 0x13,
  kTlbiEl3All = 0x18,
  kTlbiEl3Va = 0x1a,
  kTlbiEl2All = 0x20,
  kTlbiEl2Asid = 0x21,
  kTlbiEl2Va = 0x22,
  kTlbiEl2Vaa = 0x23,
  kTlbiS12Vmall = 0x28,
  kTlbiS2Ipa = 0x2a,
  kTlbiNsnhAll = 0x30,
  kAtcInv = 0x40,
  kPriResp = 0x41,
  kResume = 0x44,
  kStallTerm = 0x45,
  kSync = 0x46,
};

/// CMDQ_CONS.ERR.
enum class CommandError : std::uint8_t { kNone = 0, kIllegal = 1, kAbort = 2, kAtcInvSync = 3 };

/// How a CMD_SYNC tells that it is complete, beside CMDQ_CONS.
enum class SyncSignal : std::uint8_t { kNone = 0, kInterrupt = 1, kEvent = 2 };

/// The action of a CMD_RESUME.
enum class ResumeAction : std::uint8_t { kTerminate = 0, kRetry = 1, kAbort = 2 };

/// A command as it lies in the queue.
struct RawCommand {
  std::uint64_t word[2] = {};
};

/// A decoded, legal command. Only the fields of its opcode are set; the others are 0.
struct Command {
  Opcode opcode = Opcode::kSync;
  SyncSignal signal = SyncSignal::kNone;           ///< SYNC
  ResumeAction action = ResumeAction::kTerminate;  ///< RESUME
  bool leaf = false;                               ///< CFGI_STE, CFGI_CD, TLBI by address
  bool ssid_valid = false;                         ///< PREFETCH, ATC_INV, PRI_RESP
  bool global = false;                             ///< ATC_INV with an SSID
  std::uint8_t range = 0;         ///< CFGI_STE_RANGE: 2^(range+1) streams; 31 = all
  std::uint8_t granule_log2 = 0;  ///< TLBI by address, ATC_INV: size of one page of `pages`
  std::uint8_t ttl = 0;           ///< TLBI by address: level hint, 0 = none
  std::uint8_t response = 0;      ///< PRI_RESP: 0 failure, 1 invalid, 2 success
  std::uint16_t asid = 0;
  std::uint16_t tag = 0;       ///< RESUME: STAG; PRI_RESP: page request group
  std::uint32_t sid = 0;       ///< the guest's StreamID; CFGI_STE_RANGE: first of the range
  std::uint32_t ssid = 0;      ///< CFGI_CD; elsewhere valid with ssid_valid
  std::uint32_t msi_data = 0;  ///< SYNC
  std::uint64_t msi_addr = 0;  ///< SYNC: GPA to write msi_data to; 0 = no write
  std::uint64_t addr = 0;      ///< aligned to its granule (ATC_INV: to its span)
  std::uint64_t pages = 0;     ///< TLBI by address: >= 1; ATC_INV: 0 = all

  [[nodiscard]] bool is_sync() const noexcept { return opcode == Opcode::kSync; }

  /// Something the sink must do (see to_operation), rather than the CommandDuty itself.
  [[nodiscard]] bool is_operation() const noexcept {
    switch (opcode) {
      case Opcode::kCfgiCd:
      case Opcode::kCfgiCdAll:
      case Opcode::kTlbiNhAll:
      case Opcode::kTlbiNhAsid:
      case Opcode::kTlbiNhVa:
      case Opcode::kTlbiNhVaa:
      case Opcode::kTlbiNsnhAll:
      case Opcode::kAtcInv:
        return true;
      default:
        return false;
    }
  }

  /// The streams that a CFGI_STE or CFGI_STE_RANGE concerns, inclusive.
  [[nodiscard]] std::uint32_t last_sid() const noexcept {
    if (opcode != Opcode::kCfgiSteRange) return sid;
    return range >= 31 ? 0xffff'ffffU : sid + ((std::uint32_t{2} << range) - 1);
  }
};

namespace detail {

constexpr std::uint64_t bits(std::uint64_t word, unsigned high, unsigned low) noexcept {
  return (word >> low) & (~std::uint64_t{0} >> (63 - (high - low)));
}

// SSec is bit 10 and must be 0 on the non-secure queue, else CERROR_ILL (IHI 0070 4.1.6; QEMU
// hw/arm/smmuv3-internal.h CMD_SSEC agrees). Commands that name a stream have it.
inline constexpr std::uint64_t kSSec = std::uint64_t{1} << 10;
inline constexpr std::uint64_t kSsv = std::uint64_t{1} << 11;

/// NUM, SCALE, TTL, TG, leaf and address of a TLBI by address (IHI 0070 4.4.1.1).
///
/// TG = 0: one page whatever its granule; NUM, SCALE and TTL are ignored (RES0).
/// TG ≠ 0: (NUM + 1) << SCALE granules; NUM = SCALE = TTL = 0 is reserved and illegal, and TTL 1 of
///         a 16 KiB granule counts as 0.
/// A reserved bit is illegal where ignoring it would invalidate less than what was meant (a granule
/// without IDR3.RIL, SCALE[5], TTL128); other reserved bits are ignored. 4.1.5 allows either.
inline CommandError decode_range(const RawCommand& raw, const Features& features,
                                 Command& out) noexcept {
  const auto tg = static_cast<unsigned>(bits(raw.word[1], 11, 10));
  out.leaf = (raw.word[1] & 1) != 0;
  out.addr = raw.word[1] & ~std::uint64_t{0xfff};
  out.granule_log2 = 12;
  out.pages = 1;
  if (tg == 0) return CommandError::kNone;
  if (!features.ranges) return CommandError::kIllegal;

  const std::uint64_t num = bits(raw.word[0], 16, 12);
  const std::uint64_t scale = bits(raw.word[0], 25, 20);
  auto ttl = static_cast<unsigned>(bits(raw.word[1], 9, 8));
  if (tg == 2 && ttl == 1) ttl = 0;
  if (scale > 31 || bits(raw.word[1], 7, 7) != 0) return CommandError::kIllegal;
  if (num == 0 && scale == 0 && ttl == 0) return CommandError::kIllegal;

  const unsigned granule = 10 + 2 * tg;
  std::uint64_t pages = (num + 1) << scale;
  // What a misaligned address invalidates is UNPREDICTABLE: cover every granule it touches, and
  // forget a level hint whose block it does not start.
  const std::uint64_t inside = out.addr & ((std::uint64_t{1} << granule) - 1);
  if (inside != 0) ++pages;
  out.addr -= inside;
  if (ttl != 0) {
    const unsigned block = granule + (3 - ttl) * (granule - 3);
    if (inside != 0 || (out.addr & ((std::uint64_t{1} << block) - 1)) != 0) ttl = 0;
  }
  // A range does not wrap past the top of the address space.
  if (out.addr != 0) {
    const std::uint64_t room = (std::uint64_t{0} - out.addr) >> granule;
    if (pages > room) pages = room;
  }
  out.granule_log2 = static_cast<std::uint8_t>(granule);
  out.ttl = static_cast<std::uint8_t>(ttl);
  out.pages = pages;
  return CommandError::kNone;
}

inline CommandError decode_sync(const RawCommand& raw, const Features& features,
                                Command& out) noexcept {
  const auto signal = bits(raw.word[0], 13, 12);
  if (signal == 3) return CommandError::kIllegal;
  out.signal = static_cast<SyncSignal>(signal);
  if (out.signal == SyncSignal::kInterrupt && features.msi) {
    out.msi_addr = raw.word[1] & kMsiAddr;
    out.msi_data = static_cast<std::uint32_t>(raw.word[0] >> 32);
  }
  return CommandError::kNone;
}

inline CommandError decode_atc(const RawCommand& raw, Command& out) noexcept {
  const auto size = static_cast<unsigned>(bits(raw.word[1], 5, 0));
  if (size > 52) return CommandError::kIllegal;
  out.global = out.ssid_valid && (raw.word[0] & (1U << 9)) != 0;
  out.granule_log2 = 12;
  if (size == 52) return CommandError::kNone;  // everything: addr = 0, pages = 0
  out.pages = std::uint64_t{1} << size;
  out.addr = raw.word[1] & ~((std::uint64_t{1} << (12 + size)) - 1);
  return CommandError::kNone;
}

/// SID and, where `with_ssid` says so, SSV and SSID; an SSID beyond the offered size loses its
/// upper bits, and without substreams there is none (4.1.7 allows it).
inline CommandError decode_stream(const RawCommand& raw, const Features& features, bool with_ssid,
                                  Command& out) noexcept {
  if ((raw.word[0] & kSSec) != 0) return CommandError::kIllegal;
  out.sid = static_cast<std::uint32_t>(raw.word[0] >> 32);
  if (with_ssid && (raw.word[0] & kSsv) != 0 && features.ssid_bits != 0) {
    out.ssid_valid = true;
    out.ssid =
        static_cast<std::uint32_t>(bits(raw.word[0], 31, 12)) & ((1U << features.ssid_bits) - 1);
  }
  return CommandError::kNone;
}

}  // namespace detail

/// Check and decode one command of a non-secure queue. `raw` must be a private copy: the guest may
/// rewrite the slot at any time.
///
/// returns  kNone and `out`; or kIllegal: the queue stops at this command with CERROR_ILL. Opcodes
///          of worlds that are not offered (stage 2, EL2, EL3, secure, MPAM, DPT) and reserved ones
///          are illegal, as are ATC_INV, PRI_RESP, RESUME and STALL_TERM without their feature
/// cost     no memory but its arguments
/// source   Arm IHI 0070, chapter 4
inline CommandError decode(const RawCommand& raw, const Features& features, Command& out) noexcept {
  using detail::bits;
  out = Command{};
  out.opcode = static_cast<Opcode>(raw.word[0] & 0xff);
  const auto asid = static_cast<std::uint16_t>(raw.word[0] >> 48);
  switch (out.opcode) {
    case Opcode::kSync:
      return detail::decode_sync(raw, features, out);
    case Opcode::kTlbiNhVa:
      out.asid = asid;
      return detail::decode_range(raw, features, out);
    case Opcode::kTlbiNhVaa:
      return detail::decode_range(raw, features, out);
    case Opcode::kTlbiNhAsid:
      out.asid = asid;
      return CommandError::kNone;
    case Opcode::kTlbiNhAll:
    case Opcode::kTlbiNsnhAll:
      return CommandError::kNone;  // VMID is RES0 without stage 2, and ignored
    case Opcode::kCfgiSte:
      out.leaf = (raw.word[1] & 1) != 0;
      return detail::decode_stream(raw, features, false, out);
    case Opcode::kCfgiSteRange:
      if (detail::decode_stream(raw, features, false, out) != CommandError::kNone) {
        return CommandError::kIllegal;
      }
      out.range = static_cast<std::uint8_t>(bits(raw.word[1], 4, 0));
      out.sid = out.range == 31 ? 0 : out.sid & ~((std::uint32_t{2} << out.range) - 1);
      return CommandError::kNone;
    case Opcode::kCfgiCd:
      // CFGI_CD has no SSV: its SSID is an index into the table, 0 without substreams.
      out.leaf = (raw.word[1] & 1) != 0;
      out.ssid =
          static_cast<std::uint32_t>(bits(raw.word[0], 31, 12)) & ((1U << features.ssid_bits) - 1);
      return detail::decode_stream(raw, features, false, out);
    case Opcode::kCfgiCdAll:
      return detail::decode_stream(raw, features, false, out);
    case Opcode::kPrefetchConfig:
    case Opcode::kPrefetchAddr:
      return detail::decode_stream(raw, features, true, out);
    case Opcode::kAtcInv:
      if (!features.ats) return CommandError::kIllegal;
      if (detail::decode_stream(raw, features, true, out) != CommandError::kNone) {
        return CommandError::kIllegal;
      }
      return detail::decode_atc(raw, out);
    case Opcode::kPriResp:
      if (!features.pri) return CommandError::kIllegal;
      out.response = static_cast<std::uint8_t>(bits(raw.word[1], 13, 12));
      if (out.response == 3) return CommandError::kIllegal;
      out.tag = static_cast<std::uint16_t>(bits(raw.word[1], 8, 0));
      return detail::decode_stream(raw, features, true, out);
    case Opcode::kResume:
      if (!features.stalls) return CommandError::kIllegal;
      // Ac [12], Ab [13]: with Ac = 1 (retry) Ab is ignored.
      out.action = (raw.word[0] & (1U << 12)) != 0   ? ResumeAction::kRetry
                   : (raw.word[0] & (1U << 13)) != 0 ? ResumeAction::kAbort
                                                     : ResumeAction::kTerminate;
      out.tag = static_cast<std::uint16_t>(raw.word[1]);
      return detail::decode_stream(raw, features, false, out);
    case Opcode::kStallTerm:
      if (!features.stalls) return CommandError::kIllegal;
      return detail::decode_stream(raw, features, false, out);
    case Opcode::kCfgiVmsPidm:
    case Opcode::kTlbiEl3All:
    case Opcode::kTlbiEl3Va:
    case Opcode::kTlbiEl2All:
    case Opcode::kTlbiEl2Asid:
    case Opcode::kTlbiEl2Va:
    case Opcode::kTlbiEl2Vaa:
    case Opcode::kTlbiS12Vmall:
    case Opcode::kTlbiS2Ipa:
      return CommandError::kIllegal;
  }
  return CommandError::kIllegal;  // reserved, secure, DPT or implementation defined
}

/// What a command asks of the sink. Requires command.is_operation().
inline Operation to_operation(const Command& command) noexcept {
  Operation op;
  op.leaf = command.leaf;
  op.asid = command.asid;
  op.sid = command.sid;
  op.ssid = command.ssid;
  op.addr = command.addr;
  op.pages = command.pages;
  op.ttl = command.ttl;
  op.ssid_valid = command.ssid_valid;
  op.global = command.global;
  if (command.granule_log2 != 0) op.granule_log2 = command.granule_log2;
  switch (command.opcode) {
    case Opcode::kTlbiNhAsid:
      op.kind = OperationKind::kTlbAsid;
      break;
    case Opcode::kTlbiNhVa:
      op.kind = OperationKind::kTlbVa;
      break;
    case Opcode::kTlbiNhVaa:
      op.kind = OperationKind::kTlbVaa;
      break;
    case Opcode::kCfgiCd:
      op.kind = OperationKind::kCfgCd;
      break;
    case Opcode::kCfgiCdAll:
      op.kind = OperationKind::kCfgCdAll;
      break;
    case Opcode::kAtcInv:
      op.kind = OperationKind::kAtcInv;
      break;
    default:
      op.kind = OperationKind::kTlbAll;
      break;
  }
  return op;
}

}  // namespace faultline::viommu
