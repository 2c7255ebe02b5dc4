// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>

#include "kernel/base/units.h"

namespace faultline::guest {

/// One CMDQ entry, both words in host order.
struct Command {
  std::uint64_t word[2] = {};

  [[nodiscard]] constexpr std::uint8_t opcode() const noexcept {
    return static_cast<std::uint8_t>(word[0]);
  }
  bool operator==(const Command&) const = default;
};

/// Opcodes that the guest's driver issues or looks for in a trace.
namespace op {
inline constexpr std::uint8_t kPrefetchConfig = 0x01;
inline constexpr std::uint8_t kCfgiSte = 0x03;
inline constexpr std::uint8_t kCfgiSteRange = 0x04;
inline constexpr std::uint8_t kCfgiCd = 0x05;
inline constexpr std::uint8_t kCfgiCdAll = 0x06;
inline constexpr std::uint8_t kTlbiNhAll = 0x10;
inline constexpr std::uint8_t kTlbiNhAsid = 0x11;
inline constexpr std::uint8_t kTlbiNhVa = 0x12;
inline constexpr std::uint8_t kTlbiNhVaa = 0x13;
inline constexpr std::uint8_t kTlbiNsnhAll = 0x30;
inline constexpr std::uint8_t kSync = 0x46;
inline constexpr std::uint8_t kIllegal = 0xfe;  ///< no command of any version
}  // namespace op

/// The guest's own encoder, independent of the engine's decoder.
/// source   Arm IHI 0070, 4.3 to 4.7; fields as Linux sets them
constexpr Command prefetch_config(StreamId sid) noexcept {
  return {{op::kPrefetchConfig | std::uint64_t{sid.value} << 32, 0}};
}

constexpr Command cfgi_ste(StreamId sid, bool leaf = true) noexcept {
  return {{op::kCfgiSte | std::uint64_t{sid.value} << 32, leaf ? 1U : 0U}};
}

/// CFGI_STE_RANGE with Range 31 invalidates every stream's configuration.
constexpr Command cfgi_all() noexcept {
  return {{op::kCfgiSteRange, 31}};
}

constexpr Command cfgi_cd(StreamId sid, std::uint32_t ssid = 0, bool leaf = true) noexcept {
  return {
      {op::kCfgiCd | std::uint64_t{ssid} << 12 | std::uint64_t{sid.value} << 32, leaf ? 1U : 0U}};
}

constexpr Command tlbi_nsnh_all() noexcept {
  return {{op::kTlbiNsnhAll, 0}};
}

constexpr Command tlbi_asid(std::uint16_t asid) noexcept {
  return {{op::kTlbiNhAsid | std::uint64_t{asid} << 48, 0}};
}

/// One 4 KiB page, no range: TG, NUM, SCALE and TTL stay 0.
constexpr Command tlbi_va(std::uint16_t asid, Iova iova, bool leaf = true) noexcept {
  return {{op::kTlbiNhVa | std::uint64_t{asid} << 48,
           (iova.value & ~std::uint64_t{0xfff}) | (leaf ? 1U : 0U)}};
}

/// `pages` (1..32) pages of 4 KiB from `iova`: NUM = pages - 1, SCALE = 0, TTL = 3. Needs IDR3.RIL.
constexpr Command tlbi_va_range(std::uint16_t asid, Iova iova, unsigned pages) noexcept {
  return {{op::kTlbiNhVa | std::uint64_t{pages - 1} << 12 | std::uint64_t{asid} << 48,
           (iova.value & ~std::uint64_t{0xfff}) | 1U << 10 | 3U << 8 | 1U}};
}

/// Completes by CONS passing it. CS = SEV, inner shareable, write-back: what Linux writes.
constexpr Command sync_by_cons() noexcept {
  return {{op::kSync | 2U << 12 | 3U << 22 | 0xfU << 24, 0}};
}

/// Completes by a 32-bit write of `data` to `at`.
constexpr Command sync_by_msi(Gpa at, std::uint32_t data) noexcept {
  return {{op::kSync | 1U << 12 | 3U << 22 | 0xfU << 24 | std::uint64_t{data} << 32,
           at.value & 0x000f'ffff'ffff'fffcULL}};
}

/// Whether a command of a trace works on everything of the guest: it would also drop what the
/// workload has cached, and hide a lost invalidation.
constexpr bool is_global(const Command& c) noexcept {
  return c.opcode() == op::kTlbiNsnhAll || c.opcode() == op::kTlbiNhAll ||
         c.opcode() == op::kCfgiSteRange;
}

}  // namespace faultline::guest
