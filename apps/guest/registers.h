// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernel/base/shared.h"

namespace faultline::guest {

/// Offsets and bits of the SMMUv3 register page, as the guest's driver knows them.
/// source   Arm IHI 0070, 6.3
namespace reg {
inline constexpr std::size_t kIdr0 = 0x0;
inline constexpr std::size_t kIdr1 = 0x4;
inline constexpr std::size_t kIdr3 = 0xc;
inline constexpr std::size_t kIdr5 = 0x14;
inline constexpr std::size_t kCr0 = 0x20;
inline constexpr std::size_t kCr0Ack = 0x24;
inline constexpr std::size_t kCr1 = 0x28;
inline constexpr std::size_t kCr2 = 0x2c;
inline constexpr std::size_t kGbpa = 0x44;
inline constexpr std::size_t kIrqCtrl = 0x50;
inline constexpr std::size_t kIrqCtrlAck = 0x54;
inline constexpr std::size_t kGerror = 0x60;
inline constexpr std::size_t kGerrorN = 0x64;
inline constexpr std::size_t kGerrorIrqCfg0 = 0x68;
inline constexpr std::size_t kStrtabBase = 0x80;
inline constexpr std::size_t kStrtabBaseCfg = 0x88;
inline constexpr std::size_t kCmdqBase = 0x90;
inline constexpr std::size_t kCmdqProd = 0x98;
inline constexpr std::size_t kCmdqCons = 0x9c;
inline constexpr std::size_t kEvtqBase = 0xa0;
inline constexpr std::size_t kEvtqIrqCfg0 = 0xb0;
inline constexpr std::size_t kEvtqProd = 0x100a8;
inline constexpr std::size_t kEvtqCons = 0x100ac;
inline constexpr std::size_t kPageBytes = 0x20000;

inline constexpr std::uint32_t kIdr0Msi = 1U << 13;
inline constexpr std::uint32_t kIdr0TwoLevel = 1U << 27;
inline constexpr std::uint32_t kIdr3Ril = 1U << 10;
inline constexpr std::uint32_t kCr0SmmuEn = 1U << 0;
inline constexpr std::uint32_t kCr0EvtqEn = 1U << 2;
inline constexpr std::uint32_t kCr0CmdqEn = 1U << 3;
inline constexpr std::uint32_t kGbpaAbort = 1U << 20;
inline constexpr std::uint32_t kGbpaUpdate = 1U << 31;
inline constexpr std::uint32_t kIrqGerror = 1U << 0;
inline constexpr std::uint32_t kIrqEvtq = 1U << 2;
inline constexpr std::uint32_t kGerrorCmdq = 1U << 0;
inline constexpr std::uint64_t kQueueRwa = 1ULL << 62;
inline constexpr unsigned kConsErrShift = 24;
inline constexpr std::uint32_t kConsErrMask = 0x7f;
inline constexpr std::uint32_t kErrIllegal = 1;
inline constexpr std::uint32_t kErrFetchAbort = 2;
inline constexpr std::uint32_t kErrAtcSync = 3;
inline constexpr std::uint32_t kOverflow = 1U << 31;
}  // namespace reg

/// The register page, mapped. Every access is one word, in program order with what it publishes.
class Registers {
 public:
  /// page   reg::kPageBytes, 8-byte aligned, shared with the engine
  explicit Registers(void* page) noexcept : page_(static_cast<std::byte*>(page)) {}

  [[nodiscard]] std::uint32_t read32(std::size_t at) const noexcept {
    return load_acquire(*reinterpret_cast<std::uint32_t*>(page_ + at));
  }
  void write32(std::size_t at, std::uint32_t value) const noexcept {
    // As writel: what was written to memory before is seen by who sees the register.
    store_release(*reinterpret_cast<std::uint32_t*>(page_ + at), value);
  }
  void write64(std::size_t at, std::uint64_t value) const noexcept {
    store_release(*reinterpret_cast<std::uint64_t*>(page_ + at), value);
  }

 private:
  std::byte* page_;
};

}  // namespace faultline::guest
