// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>

#include "engine/viommu/registers.h"
#include "kernel/base/clock.h"

namespace faultline::engine {

/// Guards the registers that a guest writes before it sets an enable bit.
///
/// Exitless, the page is plain memory and the guest's register writes may become visible in any
/// order: CR0.CMDQEN before CMDQ_BASE. So while the enable bit is off each of these registers holds
/// a poison that no guest may write (reserved bits set, sizes beyond any limit), and the enable is
/// taken only when none is poison any more. A guest that enables again without writing them all is
/// right, too: after kPatience its missing registers get the values they had before.
///
/// Whoever poisons must do so before CR0ACK says that the enable bit is off: after that the guest
/// writes them.
///
/// source  Linux arm_smmu_device_reset() (relaxed writes, no barrier before CR0)
class RegisterGate {
 public:
  static constexpr Nanos kPatience = 1'000'000;
  static constexpr std::uint32_t kPoison32 = 0xffff'ffff;
  static constexpr std::uint64_t kPoison64 = ~std::uint64_t{0};

  RegisterGate(viommu::Reg64 base, viommu::Reg32 first, viommu::Reg32 second) noexcept
      : base_(base), first_(first), second_(second) {}

  /// What the registers are said to have held, for a guest that does not write them.
  void set_prior(std::uint64_t base, std::uint32_t first, std::uint32_t second) noexcept {
    prior_base_ = base;
    prior_first_ = first;
    prior_second_ = second;
  }

  /// Remember what the guest wrote last, then poison.
  void poison(const viommu::RegisterPage& page) noexcept {
    set_prior(page.load(base_), page.load(first_), page.load(second_));
    poison_fresh(page);
  }
  /// Poison; prior values are as set.
  void poison_fresh(const viommu::RegisterPage& page) noexcept {
    page.store(base_, kPoison64);
    page.store(first_, kPoison32);
    page.store(second_, kPoison32);
    deadline_ = 0;
  }

  /// May the enable be taken?
  ///
  /// returns  true once no register is poison; or kPatience after the first call, when what is
  ///          still poison gets its prior value back (`late` is then set)
  bool open(const viommu::RegisterPage& page, Nanos now, bool& late) noexcept {
    const bool base = poisoned(page.load(base_));
    const bool first = page.load(first_) == kPoison32;
    const bool second = page.load(second_) == kPoison32;
    if (!base && !first && !second) {
      deadline_ = 0;
      return true;
    }
    if (deadline_ == 0) deadline_ = now + kPatience;
    if (now < deadline_) return false;
    deadline_ = 0;
    late = true;
    if (base) page.store(base_, prior_base_);
    if (first) page.store(first_, prior_first_);
    if (second) page.store(second_, prior_second_);
    return true;
  }

  /// A 64-bit register may be written as two halves; neither may be all ones.
  static constexpr bool poisoned(std::uint64_t value) noexcept {
    return static_cast<std::uint32_t>(value) == kPoison32 || value >> 32 == kPoison32;
  }

 private:
  viommu::Reg64 base_;
  viommu::Reg32 first_;
  viommu::Reg32 second_;
  Nanos deadline_ = 0;
  std::uint64_t prior_base_ = 0;
  std::uint32_t prior_first_ = 0;
  std::uint32_t prior_second_ = 0;
};

}  // namespace faultline::engine
