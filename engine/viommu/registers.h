// SPDX-License-Identifier: BSD-3-Clause
// hot path: the register page of one virtual SMMUv3, in guest memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/viommu/guest_memory.h"
#include "kernel/base/result.h"
#include "kernel/base/shared.h"
#include "kernel/base/units.h"

namespace faultline::viommu {

/// Offsets of the 32-bit registers. Page 0 starts at 0, page 1 at 0x10000.
/// source  Arm IHI 0070 chapter 6.2; Linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.h
enum class Reg32 : std::uint32_t {
  kIdr0 = 0x00,
  kIdr1 = 0x04,
  kIdr2 = 0x08,
  kIdr3 = 0x0c,
  kIdr4 = 0x10,
  kIdr5 = 0x14,
  kIidr = 0x18,
  kAidr = 0x1c,
  kCr0 = 0x20,
  kCr0Ack = 0x24,
  kCr1 = 0x28,
  kCr2 = 0x2c,
  kStatusr = 0x40,
  kGbpa = 0x44,
  kIrqCtrl = 0x50,
  kIrqCtrlAck = 0x54,
  kGerror = 0x60,
  kGerrorn = 0x64,
  kGerrorIrqCfg1 = 0x70,  ///< MSI data
  kGerrorIrqCfg2 = 0x74,
  kStrtabBaseCfg = 0x88,
  kCmdqProd = 0x98,
  kCmdqCons = 0x9c,
  kEvtqIrqCfg1 = 0xb8,  ///< MSI data
  kEvtqIrqCfg2 = 0xbc,
  kPriqIrqCfg1 = 0xd8,
  kPriqIrqCfg2 = 0xdc,
  kEvtqProd = 0x100a8,
  kEvtqCons = 0x100ac,
  kPriqProd = 0x100c8,
  kPriqCons = 0x100cc,
};

/// Offsets of the 64-bit registers. A guest may write each as two 32-bit halves.
enum class Reg64 : std::uint32_t {
  kGerrorIrqCfg0 = 0x68,  ///< MSI address [51:2], 0 = no MSI
  kStrtabBase = 0x80,
  kCmdqBase = 0x90,
  kEvtqBase = 0xa0,
  kEvtqIrqCfg0 = 0xb0,  ///< MSI address [51:2], 0 = no MSI
  kPriqBase = 0xc0,
  kPriqIrqCfg0 = 0xd0,
};

inline constexpr std::size_t kRegisterBytes = 0x20000;

namespace cr0 {
inline constexpr std::uint32_t kSmmuEn = 1U << 0;
inline constexpr std::uint32_t kPriqEn = 1U << 1;
inline constexpr std::uint32_t kEvtqEn = 1U << 2;
inline constexpr std::uint32_t kCmdqEn = 1U << 3;
inline constexpr std::uint32_t kAtsChk = 1U << 4;
}  // namespace cr0

namespace cr2 {
inline constexpr std::uint32_t kE2h = 1U << 0;
inline constexpr std::uint32_t kRecInvSid = 1U << 1;
inline constexpr std::uint32_t kPtm = 1U << 2;
}  // namespace cr2

namespace gbpa {
inline constexpr std::uint32_t kAbort = 1U << 20;
inline constexpr std::uint32_t kUpdate = 1U << 31;
}  // namespace gbpa

namespace irq_ctrl {
inline constexpr std::uint32_t kGerror = 1U << 0;
inline constexpr std::uint32_t kPriq = 1U << 1;
inline constexpr std::uint32_t kEvtq = 1U << 2;
}  // namespace irq_ctrl

/// Bits of GERROR; an error is active where GERROR and GERRORN differ.
namespace gerror {
inline constexpr std::uint32_t kCmdq = 1U << 0;
inline constexpr std::uint32_t kEvtqAbt = 1U << 2;
inline constexpr std::uint32_t kPriqAbt = 1U << 3;
inline constexpr std::uint32_t kMsiCmdqAbt = 1U << 4;
inline constexpr std::uint32_t kMsiEvtqAbt = 1U << 5;
inline constexpr std::uint32_t kMsiPriqAbt = 1U << 6;
inline constexpr std::uint32_t kMsiGerrorAbt = 1U << 7;
inline constexpr std::uint32_t kSfm = 1U << 8;
inline constexpr std::uint32_t kAll = 0x1fd;
}  // namespace gerror

/// STRTAB_BASE and STRTAB_BASE_CFG.
namespace strtab {
inline constexpr std::uint64_t kAddr = 0x000f'ffff'ffff'ffc0;  ///< [51:6]
inline constexpr std::uint32_t kLog2Size = 0x3f;
inline constexpr unsigned kSplitShift = 6;
inline constexpr std::uint32_t kSplit = 0x1f;
inline constexpr unsigned kFmtShift = 16;
inline constexpr std::uint32_t kFmt = 3;
inline constexpr std::uint32_t kFmtTwoLevel = 1;
}  // namespace strtab

/// CMDQ_BASE, EVTQ_BASE, PRIQ_BASE, and their indexes.
namespace queue {
inline constexpr std::uint64_t kAddr = 0x000f'ffff'ffff'ffe0;  ///< [51:5]
inline constexpr std::uint64_t kLog2Size = 0x1f;
inline constexpr unsigned kMaxLog2Size = 19;
inline constexpr std::uint32_t kOverflow = 1U << 31;  ///< OVFLG in PROD, OVACKFLG in CONS
inline constexpr unsigned kConsErrShift = 24;         ///< CMDQ_CONS.ERR [30:24]
}  // namespace queue

/// MSI configuration registers (…_IRQ_CFG0).
inline constexpr std::uint64_t kMsiAddr = 0x000f'ffff'ffff'fffc;  ///< [51:2]

/// Access to the register page; every order is the caller's choice because each register has one
/// owner (doc/architecture.md) and registers owned by the engine are never read back.
///
/// thread  any; the page is shared with the guest and between the two duties of the guest
class RegisterPage {
 public:
  RegisterPage() = default;

  /// Find the 128 KiB at `at` in guest memory.
  ///
  /// errors  EINVAL: not 64 KiB aligned, or not inside one region of the map
  /// thread  control path
  static Result<RegisterPage> map(const GuestMemory& memory, Gpa at) {
    if (at.value % 0x10000 != 0) {
      return fail(0, "register page at " + hex(at.value) + " is not aligned to 64 KiB");
    }
    void* host = memory.pointer(at, kRegisterBytes);
    if (host == nullptr) {
      return fail(0, "register page at " + hex(at.value) +
                         " (128 KiB) is not inside one region of the guest's memory");
    }
    return RegisterPage(host);
  }

  [[nodiscard]] std::uint32_t load(Reg32 reg) const noexcept { return load_relaxed(at(reg)); }
  [[nodiscard]] std::uint64_t load(Reg64 reg) const noexcept { return load_relaxed(at(reg)); }

  /// Pairs with what the guest does before its register write: dma_wmb or a store-release.
  [[nodiscard]] std::uint32_t acquire(Reg32 reg) const noexcept { return load_acquire(at(reg)); }

  void store(Reg32 reg, std::uint32_t value) const noexcept { store_relaxed(at(reg), value); }
  void store(Reg64 reg, std::uint64_t value) const noexcept { store_relaxed(at(reg), value); }

  /// What was written before is seen by a guest that reads this value and then orders its loads.
  void release(Reg32 reg, std::uint32_t value) const noexcept { store_release(at(reg), value); }

  /// The word itself, for kernel/base/shared.h.
  [[nodiscard]] std::uint32_t& at(Reg32 reg) const noexcept {
    return *reinterpret_cast<std::uint32_t*>(host_ + static_cast<std::uint32_t>(reg));
  }
  [[nodiscard]] std::uint64_t& at(Reg64 reg) const noexcept {
    return *reinterpret_cast<std::uint64_t*>(host_ + static_cast<std::uint32_t>(reg));
  }

  [[nodiscard]] explicit operator bool() const noexcept { return host_ != nullptr; }

 private:
  explicit RegisterPage(void* host) : host_(static_cast<unsigned char*>(host)) {}

  unsigned char* host_ = nullptr;
};

}  // namespace faultline::viommu
