// SPDX-License-Identifier: BSD-3-Clause
#include "engine/viommu/stream_table.h"

#include <algorithm>
#include <array>

namespace faultline::viommu {

namespace {

constexpr std::uint64_t kSteBytes = 64;
constexpr std::uint64_t kDescBytes = 8;
constexpr std::uint64_t kAddr = 0x000f'ffff'ffff'ffc0;  ///< [51:6] of an STE or L1STD pointer

constexpr std::uint64_t bits(std::uint64_t word, unsigned high, unsigned low) noexcept {
  return (word >> low) & (~std::uint64_t{0} >> (63 - (high - low)));
}

constexpr std::uint64_t align_down(std::uint64_t value, std::uint64_t size) noexcept {
  return value & ~(size - 1);
}

/// Where the STE of `sid` lies.
/// returns  kValid and `at`; or why there is none
StreamStatus locate(const GuestMemory& memory, const StreamTable& table, std::uint32_t sid,
                    Gpa& at) noexcept {
  if (table.log2size < 32 && sid >> table.log2size != 0) return StreamStatus::kBadStreamId;
  if (!table.two_level) {
    at = Gpa{table.base + sid * kSteBytes};
    return StreamStatus::kValid;
  }
  std::uint64_t descriptor = 0;
  const std::uint64_t index = sid >> table.split;
  if (!memory.read64(Gpa{table.base + index * kDescBytes}, descriptor)) {
    return StreamStatus::kFetchAbort;
  }
  // Span n > 0: 2^(n-1) entries. 0, 12 and more, and more than the split leaves, are invalid
  // (IHI 0070 5.1).
  const auto span = static_cast<unsigned>(bits(descriptor, 4, 0));
  if (span == 0 || span > 11 || span - 1 > table.split) return StreamStatus::kBadStreamId;
  const std::uint64_t leaf = sid & ((std::uint64_t{1} << table.split) - 1);
  if (leaf >> (span - 1) != 0) return StreamStatus::kBadStreamId;
  at = Gpa{align_down(descriptor & kAddr, kSteBytes << (span - 1)) + leaf * kSteBytes};
  return StreamStatus::kValid;
}

bool fits(std::uint64_t address, unsigned oas_bits) noexcept {
  return address >> oas_bits == 0;
}

/// Everything that makes a stage-1 STE illegal (SteIllegal() of the architecture), with what is
/// never offered taken as absent. Fields that are then IGNORED are not looked at: STRW without EL2,
/// EATS without ATS, S1Fmt and S1CDMax without substreams.
bool legal_stage1(std::span<const std::uint64_t, 8> ste, const Features& features) noexcept {
  const bool stalld = bits(ste[1], 27, 27) != 0;
  if (stalld && !features.stalls) return false;
  // Split-stage ATS needs stage 2.
  if (features.ats && bits(ste[1], 29, 28) == 2) return false;
  if (features.ssid_bits != 0) {
    const std::uint64_t cdmax = bits(ste[0], 63, 59);
    const std::uint64_t fmt = bits(ste[0], 5, 4);
    if (cdmax > features.ssid_bits) return false;
    if (cdmax != 0 && !features.two_level_contexts && (fmt == 1 || fmt == 2)) return false;
  }
  return fits(ste[0] & kAddr, features.oas_bits);
}

}  // namespace

StreamTable StreamTable::latch(std::uint64_t base_register, std::uint32_t config_register,
                               const Features& features) noexcept {
  StreamTable table;
  const std::uint32_t log2size = config_register & strtab::kLog2Size;
  table.log2size = std::min(log2size, features.sid_bits);
  table.two_level = features.two_level_streams &&
                    ((config_register >> strtab::kFmtShift) & strtab::kFmt) == strtab::kFmtTwoLevel;
  const std::uint32_t split = (config_register >> strtab::kSplitShift) & strtab::kSplit;
  if (table.two_level) table.split = split == 8 || split == 10 ? split : 6;
  // The alignment follows the size as written, not as capped.
  unsigned align = 6 + log2size;
  if (table.two_level) align = log2size > table.split ? 3 + log2size - table.split : 3;
  align = std::clamp(align, 6U, 52U);
  table.base = align_down(base_register & strtab::kAddr, std::uint64_t{1} << align);
  return table;
}

StreamEntry decode_ste(std::span<const std::uint64_t, 8> ste, const Features& features) noexcept {
  StreamEntry entry;
  entry.status = StreamStatus::kBadSte;
  entry.config.ste[0] = ste[0];
  entry.config.ste[1] = ste[1];
  if ((ste[0] & 1) == 0) return entry;
  const std::uint64_t config = bits(ste[0], 3, 1);
  switch (config) {
    case 4:
      entry.status = StreamStatus::kValid;
      entry.config.mode = Stage1Config::Mode::kBypass;
      return entry;
    case 5:
      break;
    case 6:
    case 7:
      return entry;
    default:  // 0b0xx: the stream is switched off, without an event
      entry.status = StreamStatus::kValid;
      return entry;
  }
  if (!legal_stage1(ste, features)) return entry;
  entry.status = StreamStatus::kValid;
  entry.config.mode = Stage1Config::Mode::kTranslate;
  entry.config.cd_table = ste[0] & kAddr;
  if (features.ssid_bits != 0) {
    entry.config.s1cdmax = static_cast<std::uint8_t>(bits(ste[0], 63, 59));
  }
  if (entry.config.s1cdmax != 0) {
    // Reserved values behave as 0.
    const std::uint64_t fmt = bits(ste[0], 5, 4);
    const std::uint64_t dss = bits(ste[1], 1, 0);
    entry.config.s1fmt = static_cast<std::uint8_t>(fmt == 3 ? 0 : fmt);
    entry.config.s1dss = static_cast<std::uint8_t>(dss == 3 ? 0 : dss);
  }
  return entry;
}

StreamEntry read_stream(const GuestMemory& memory, const StreamTable& table, StreamId sid,
                        const Features& features) noexcept {
  StreamEntry entry;
  Gpa at;
  entry.status = locate(memory, table, sid.value, at);
  if (entry.status != StreamStatus::kValid) return entry;
  std::array<std::uint64_t, 8> ste{};
  if (!memory.copy_in(at, ste)) {
    entry.status = StreamStatus::kFetchAbort;
    return entry;
  }
  return decode_ste(ste, features);
}

}  // namespace faultline::viommu
