// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <array>

#include "engine/viommu/stream_table.h"

namespace faultline::viommu {

namespace {

constexpr std::uint64_t kCdBytes = 64;
constexpr std::uint64_t kDescBytes = 8;
constexpr std::uint64_t kL2Ptr = 0x000f'ffff'ffff'f000;  ///< [51:12] of an L1CD

/// log2 of the CDs in one leaf; 0 for a linear table.
unsigned leaf_log2(const Stage1Config& config) noexcept {
  if (config.s1cdmax == 0 || config.s1fmt == 0) return 0;
  return config.s1fmt == 1 ? 6 : 10;
}

/// The CD table's start, aligned as the architecture aligns it (IHI 0070 5.2, S1Fmt).
std::uint64_t table_base(const Stage1Config& config, unsigned leaf) noexcept {
  std::uint64_t bytes = kCdBytes << config.s1cdmax;
  if (leaf != 0) {
    bytes = config.s1cdmax > leaf ? kDescBytes << (config.s1cdmax - leaf) : kDescBytes;
    bytes = std::max(bytes, kCdBytes);
  }
  return config.cd_table & ~(bytes - 1);
}

/// Where the leaf of `ssid` starts. returns false: there is none
bool find_leaf(const GuestMemory& memory, std::uint64_t base, unsigned leaf, std::uint32_t ssid,
               std::uint64_t& at) noexcept {
  std::uint64_t descriptor = 0;
  const Gpa where{base + (std::uint64_t{ssid} >> leaf) * kDescBytes};
  if (!memory.read64(where, descriptor) || (descriptor & 1) == 0) return false;
  at = descriptor & kL2Ptr;
  return true;
}

bool read_cd(const GuestMemory& memory, std::uint64_t at, std::uint32_t ssid,
             Context& out) noexcept {
  std::array<std::uint64_t, 8> cd{};
  return memory.copy_in(Gpa{at}, cd) && decode_cd(cd, ssid, out);
}

}  // namespace

bool decode_cd(std::span<const std::uint64_t, 8> cd, std::uint32_t ssid, Context& out) noexcept {
  constexpr std::uint64_t kV = std::uint64_t{1} << 31;
  if ((cd[0] & kV) == 0) return false;
  // TG0 [7:6] and TG1 [23:22] are coded as in TCR_ELx, each its own way; EPD switches one off.
  constexpr std::uint8_t kTg0[] = {12, 16, 14, 0};
  constexpr std::uint8_t kTg1[] = {0, 14, 12, 16};
  out.ssid = ssid;
  out.asid = static_cast<std::uint16_t>(cd[0] >> 48);
  out.granule0_log2 = (cd[0] >> 14 & 1) != 0 ? 0 : kTg0[cd[0] >> 6 & 3];
  out.granule1_log2 = (cd[0] >> 30 & 1) != 0 ? 0 : kTg1[cd[0] >> 22 & 3];
  return true;
}

std::size_t list_contexts(const GuestMemory& memory, const Stage1Config& config, ContextWalk& walk,
                          std::span<Context> out, std::size_t budget) noexcept {
  if (config.mode != Stage1Config::Mode::kTranslate || config.s1cdmax > 20) {
    walk.done = true;
    return 0;
  }
  const std::uint32_t end = std::uint32_t{1} << config.s1cdmax;
  const unsigned leaf = leaf_log2(config);
  const std::uint64_t base = table_base(config, leaf);
  const std::uint32_t in_leaf = (std::uint32_t{1} << leaf) - 1;
  std::uint64_t start = base;
  bool have_leaf = leaf == 0;
  std::size_t found = 0;
  // One read finds the leaf and one the descriptor: with less there would be no progress.
  budget = std::max<std::size_t>(budget, 2);
  while (walk.next < end && found < out.size() && budget > 0) {
    const std::uint32_t ssid = walk.next;
    if (!have_leaf) {
      --budget;
      have_leaf = find_leaf(memory, base, leaf, ssid, start);
      if (!have_leaf) {
        walk.next = (ssid | in_leaf) + 1;
        continue;
      }
      // Without budget for a CD the leaf is looked up again next time.
      if (budget == 0) break;
    }
    --budget;
    const std::uint64_t index = leaf == 0 ? ssid : ssid & in_leaf;
    if (read_cd(memory, start + index * kCdBytes, ssid, out[found])) ++found;
    walk.next = ssid + 1;
    if (leaf != 0 && (walk.next & in_leaf) == 0) have_leaf = false;
  }
  if (walk.next >= end) walk.done = true;
  return found;
}

bool read_context(const GuestMemory& memory, const Stage1Config& config, std::uint32_t ssid,
                  Context& out) noexcept {
  if (config.mode != Stage1Config::Mode::kTranslate || config.s1cdmax > 20) return false;
  if (ssid >> config.s1cdmax != 0) return false;
  const unsigned leaf = leaf_log2(config);
  const std::uint64_t base = table_base(config, leaf);
  if (leaf == 0) return read_cd(memory, base + ssid * kCdBytes, ssid, out);
  std::uint64_t start = 0;
  if (!find_leaf(memory, base, leaf, ssid, start)) return false;
  const std::uint64_t index = ssid & ((std::uint32_t{1} << leaf) - 1);
  return read_cd(memory, start + index * kCdBytes, ssid, out);
}

}  // namespace faultline::viommu
