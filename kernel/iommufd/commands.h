// SPDX-License-Identifier: BSD-3-Clause
// hot path: one operation as the SMMUv3 commands that the kernel takes.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "kernel/operation.h"
#include "kernel/range_encoding.h"
#include "kernel/uapi/iommufd_nested.h"

namespace faultline::iommufd {

using SmmuCommand = uapi::iommu_viommu_arm_smmuv3_invalidate;

/// Most pages that one operation may name one by one, where the hardware has no ranges.
inline constexpr std::uint64_t kMostSinglePages = 512;

namespace command {

inline constexpr std::uint64_t kCfgiCd = 0x05;
inline constexpr std::uint64_t kCfgiCdAll = 0x06;
inline constexpr std::uint64_t kTlbiNhAll = 0x10;
inline constexpr std::uint64_t kTlbiNhAsid = 0x11;
inline constexpr std::uint64_t kTlbiNhVa = 0x12;
inline constexpr std::uint64_t kTlbiNhVaa = 0x13;
inline constexpr std::uint64_t kAtcInv = 0x40;
inline constexpr std::uint64_t kPageMask = ~std::uint64_t{0xfff};

constexpr SmmuCommand tlb_all() noexcept {
  return {{kTlbiNhAll, 0}};
}

constexpr std::uint64_t asid(const Operation& op) noexcept {
  return std::uint64_t{op.asid} << 48;
}

constexpr std::uint64_t stream(const Operation& op) noexcept {
  return std::uint64_t{op.sid} << 32;
}

constexpr std::uint64_t substream(std::uint32_t ssid) noexcept {
  return std::uint64_t{ssid & 0xfffffU} << 12;
}

/// TLBI by address without its range: TG = 0 means one page, whatever its size.
constexpr SmmuCommand page(const Operation& op, std::uint64_t addr) noexcept {
  const bool va = op.kind == OperationKind::kTlbVa;
  return {{(va ? kTlbiNhVa | asid(op) : kTlbiNhVaa), (addr & kPageMask) | (op.leaf ? 1U : 0U)}};
}

/// (num + 1) << scale granules. NUM = SCALE = TTL = 0 with a granule is reserved: one page then has
/// none.
constexpr SmmuCommand range(const Operation& op, std::uint64_t addr, RangeFields fields,
                            unsigned ttl) noexcept {
  SmmuCommand c = page(op, addr);
  if (fields.pages() == 1 && ttl == 0) return c;
  const unsigned tg = (op.granule_log2 - 10U) / 2;
  c.cmd[0] |= std::uint64_t{fields.num} << 12 | std::uint64_t{fields.scale} << 20;
  c.cmd[1] |= std::uint64_t{ttl} << 8 | std::uint64_t{tg} << 10;
  return c;
}

constexpr SmmuCommand atc(const Operation& op) noexcept {
  SmmuCommand c{{kAtcInv | stream(op), 0}};
  if (op.ssid_valid) {
    c.cmd[0] |= 1U << 11 | substream(op.ssid) | (op.global ? 1U << 9 : 0U);
  }
  // 52: everything. So does what is no aligned power of two: it must not cover less than was asked.
  constexpr std::uint64_t kAll = 52;
  const unsigned granule = op.granule_log2;
  const bool block = std::has_single_bit(op.pages) && granule >= 12 &&
                     granule + static_cast<unsigned>(std::countr_zero(op.pages)) < 64 &&
                     (op.addr & ((op.pages << granule) - 1)) == 0;
  c.cmd[1] =
      block ? op.addr | (granule - 12U + static_cast<unsigned>(std::countr_zero(op.pages))) : kAll;
  return c;
}

}  // namespace command

/// f(command) for each command that the operation comes to, in the order in which they may be
/// issued. Together they remove everything that it names. f returns false to stop.
///
/// ranges   IDR3.RIL of the host. Without, more than kMostSinglePages pages become everything
/// returns  false: f said so, or the operation is nothing that a command can say (a granule that
///          SMMUv3 does not have, no pages)
/// source   Arm IHI 0070, 4.3 to 4.5; UAPI: arm_vsmmu_convert_user_cmd() replaces VMID and SID
template <class F>
bool each_command(const Operation& op, bool ranges, F f) noexcept {
  switch (op.kind) {
    case OperationKind::kTlbAll:
      return f(command::tlb_all());
    case OperationKind::kTlbAsid:
      return f(SmmuCommand{{command::kTlbiNhAsid | command::asid(op), 0}});
    case OperationKind::kCfgCd:
      return f(SmmuCommand{{command::kCfgiCd | command::stream(op) | command::substream(op.ssid),
                            op.leaf ? 1U : 0U}});
    case OperationKind::kCfgCdAll:
      return f(SmmuCommand{{command::kCfgiCdAll | command::stream(op), 0}});
    case OperationKind::kAtcInv:
      return f(command::atc(op));
    case OperationKind::kTlbVa:
    case OperationKind::kTlbVaa:
      break;
  }
  const unsigned granule = op.granule_log2;
  if (op.pages == 0 || (granule != 12 && granule != 14 && granule != 16)) return false;
  if (!ranges) {
    if (op.pages > kMostSinglePages) return f(command::tlb_all());
    for (std::uint64_t i = 0; i < op.pages; ++i) {
      if (!f(command::page(op, op.addr + (i << granule)))) return false;
    }
    return true;
  }
  // A level hint holds for the whole range and must start a block of its level: it stays where one
  // command says all. TTL 1 of a 16 KiB granule counts as none.
  const bool hint = is_range(op.pages) && !(granule == 14 && op.ttl == 1);
  const unsigned ttl = hint ? op.ttl & 3U : 0;
  std::uint64_t addr = op.addr;
  for (std::uint64_t left = op.pages; left != 0;) {
    const RangeFields fields = longest_range(left);
    const std::uint64_t n = fields.pages();
    if (!f(command::range(op, addr, fields, ttl))) return false;
    if (n != left && 2 * n >= left) {  // the rest overlaps
      return f(command::range(op, addr + ((left - n) << granule), fields, 0));
    }
    left -= n;
    addr += n << granule;
  }
  return true;
}

}  // namespace faultline::iommufd
