// SPDX-License-Identifier: BSD-3-Clause
#include "apps/live/command_tap.h"

#include <algorithm>

#include "kernel/base/shared.h"

namespace faultline::live {
namespace {

constexpr std::size_t kCommandBytes = 16;
constexpr std::uint64_t kQueueAddress = 0x000f'ffff'ffff'ffe0;
constexpr std::uint64_t kMsiAddress = 0x000f'ffff'ffff'fffc;
// As Linux builds a CMD_SYNC with an MSI: CS = IRQ, inner shareable, write-back.
constexpr std::uint64_t kSyncWithMsi = guest::op::kSync | 1U << 12 | 3U << 22 | 0xfU << 24;

bool is_tlbi(std::uint8_t opcode) {
  return opcode >= 0x10 && opcode <= 0x30;
}

bool is_configuration(std::uint8_t opcode) {
  return opcode >= guest::op::kPrefetchConfig && opcode <= guest::op::kCfgiCdAll;
}

}  // namespace

CommandTap::CommandTap(const GuestView& view, bool keep) noexcept
    : view_(view), registers_(view.at(view.registers.value, guest::reg::kPageBytes)), keep_(keep) {}

std::byte* CommandTap::slot(std::uint32_t index) const noexcept {
  return view_.at(base_ + std::uint64_t{index & (mask() >> 1)} * kCommandBytes, kCommandBytes);
}

bool CommandTap::latch() noexcept {
  const auto* low = view_.at(view_.registers.value + guest::reg::kCmdqBase, 8);
  const std::uint64_t base = load_relaxed(*reinterpret_cast<const std::uint64_t*>(low));
  base_ = base & kQueueAddress;
  log2_ = static_cast<unsigned>(base & 0x1f);
  if (log2_ > 19 || view_.at(base_, kCommandBytes << log2_) == nullptr) return false;
  // Linux starts both indices of a queue at 0.
  prod_ = cons_ = 0;
  error_ = 0;
  pending_.clear();
  return on_ = true;
}

guest::Command CommandTap::read(std::uint32_t index) noexcept {
  guest::Command command;
  copy_from_shared(&command, slot(index), sizeof command);
  const bool overwritten = (command.word[0] & 0xffff'ffff) == 0 &&
                           (command.word[1] & kMsiAddress) ==
                               base_ + std::uint64_t{index & (mask() >> 1)} * kCommandBytes;
  if (overwritten) command.word[0] = kSyncWithMsi;
  return command;
}

void CommandTap::count(const guest::Command& command) {
  ++counts_.commands;
  const std::uint8_t opcode = command.opcode();
  if (opcode == guest::op::kSync) {
    ++counts_.syncs;
    pending_.push_back(prod_);
  } else if (opcode == guest::op::kIllegal) {
    ++counts_.illegal;
  } else if (is_configuration(opcode)) {
    ++counts_.configurations;
  } else if (is_tlbi(opcode)) {
    ++counts_.invalidations;
  }
}

std::size_t CommandTap::poll(Nanos now) {
  if ((registers_.read32(guest::reg::kCr0Ack) & guest::reg::kCr0CmdqEn) == 0) {
    on_ = false;
    return 0;
  }
  if (!on_ && !latch()) return 0;
  const std::uint32_t prod = registers_.read32(guest::reg::kCmdqProd);
  const auto fresh = static_cast<std::uint32_t>(prod - static_cast<std::uint32_t>(prod_)) & mask();
  if (fresh > 1U << log2_) return 0;
  if (fresh > 0) {
    ++counts_.doorbells;
    if (keep_ && trace_.commands.empty()) first_ = now;
  }
  for (std::uint32_t left = fresh; left > 0;) {
    const std::uint32_t part = std::min<std::uint32_t>(left, 0xffff);
    if (keep_) {
      trace_.doorbells.push_back({now - first_, static_cast<std::uint32_t>(trace_.commands.size()),
                                  static_cast<std::uint16_t>(part), 0});
    }
    for (std::uint32_t i = 0; i < part; ++i, ++prod_) {
      guest::Command command = read(static_cast<std::uint32_t>(prod_));
      count(command);
      // What the driver puts there when it is told.
      if (command.opcode() == guest::op::kIllegal) command = {{guest::op::kSync, 0}};
      if (keep_) trace_.commands.push_back(command);
    }
    left -= part;
  }
  const std::uint32_t cons = registers_.read32(guest::reg::kCmdqCons);
  const auto passed = static_cast<std::uint32_t>(cons - static_cast<std::uint32_t>(cons_)) & mask();
  if (passed <= prod_ - cons_) cons_ += passed;
  while (!pending_.empty() && pending_.front() < cons_) {
    pending_.pop_front();
    ++counts_.syncs_completed;
  }
  const std::uint32_t gerror = registers_.read32(guest::reg::kGerror);
  if ((gerror & guest::reg::kGerrorCmdq) != error_) {
    error_ = gerror & guest::reg::kGerrorCmdq;
    ++counts_.errors;
  }
  return fresh;
}

bool CommandTap::spoil(Nanos limit) noexcept {
  if (!on_) return false;
  const std::uint32_t before = registers_.read32(guest::reg::kCmdqProd);
  for (const Nanos until = monotonic_ns() + limit; monotonic_ns() < until;) {
    const std::uint32_t prod = registers_.read32(guest::reg::kCmdqProd);
    for (std::uint32_t i = before; (i & mask()) != (prod & mask()); ++i) {
      auto& word = *reinterpret_cast<std::uint64_t*>(slot(i));
      const std::uint64_t was = load_relaxed(word);
      if (!is_tlbi(static_cast<std::uint8_t>(was))) continue;
      store_relaxed(word, (was & ~std::uint64_t{0xff}) | guest::op::kIllegal);
      return true;
    }
  }
  return false;
}

}  // namespace faultline::live
