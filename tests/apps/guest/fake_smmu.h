// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "apps/guest/commands.h"
#include "apps/guest/memory.h"
#include "apps/guest/registers.h"

namespace faultline::guest {

/// A guest's RAM and register page, with an SMMU behind them that takes one step when told to.
/// It remembers the order of what the driver did.
class FakeSmmu {
 public:
  static constexpr std::uint64_t kBase = 0x4000'0000;
  static constexpr std::size_t kRam = 4U << 20;

  FakeSmmu()
      : bytes_(new (std::align_val_t{4096}) unsigned char[kRam + reg::kPageBytes]()),
        memory(Gpa{kBase}, bytes_.get(), kRam),
        registers(bytes_.get() + kRam) {
    registers.write32(reg::kIdr0, 2U | 2U << 2 | 1U << 27 | reg::kIdr0Msi);
    registers.write32(reg::kIdr1, 16U | 12U << 16 | 12U << 21);
    registers.write32(reg::kIdr3, reg::kIdr3Ril);
    registers.write32(reg::kIdr5, 4);
  }

  /// Acknowledge register writes, then consume at most `most` commands up to (and with) CMD_SYNC.
  void step(std::size_t most = 1000) {
    acknowledge(reg::kCr0, reg::kCr0Ack, "CR0");
    acknowledge(reg::kIrqCtrl, reg::kIrqCtrlAck, "IRQ_CTRL");
    if ((registers.read32(reg::kCr0Ack) & reg::kCr0CmdqEn) != 0) consume(most);
  }

  void inject(const std::uint64_t (&words)[4], std::uint32_t overflow = 0) {
    const std::uint64_t base = load(reg::kEvtqBase);
    const auto log2 = static_cast<unsigned>(base & 31);
    const Gpa slot{(base & 0x000f'ffff'ffff'ffe0ULL) + 32 * (event_prod & ((1U << log2) - 1))};
    for (unsigned i = 0; i < 4; ++i) memory.word(slot + 8 * i) = words[i];
    event_prod = (event_prod + 1) & ((2U << log2) - 1);
    registers.write32(reg::kEvtqProd, event_prod | overflow);
  }

  std::uint64_t load(std::size_t at) {
    std::uint64_t value = 0;
    std::memcpy(&value, bytes_.get() + kRam + at, sizeof value);
    return value;
  }

 private:
  struct Free {
    void operator()(unsigned char* p) const { ::operator delete[](p, std::align_val_t{4096}); }
  };
  std::unique_ptr<unsigned char[], Free> bytes_;

  void acknowledge(std::size_t at, std::size_t ack, const char* name) {
    const std::uint32_t value = registers.read32(at);
    if (value == registers.read32(ack)) return;
    log.push_back(std::string(name) + "=" + std::to_string(value));
    registers.write32(ack, value);
  }

  void consume(std::size_t most) {
    const std::uint64_t base = load(reg::kCmdqBase);
    const auto log2 = static_cast<unsigned>(base & 31);
    const std::uint32_t mask = (2U << log2) - 1;
    std::uint32_t cons = registers.read32(reg::kCmdqCons) & mask;
    while (most-- > 0 && cons != (registers.read32(reg::kCmdqProd) & mask)) {
      const Gpa slot{(base & 0x000f'ffff'ffff'ffe0ULL) + 16 * (cons & (mask >> 1))};
      const Command c{{memory.word(slot), memory.word(slot + 8)}};
      if (c.opcode() == illegal_opcode) {
        registers.write32(reg::kCmdqCons, cons | reg::kErrIllegal << reg::kConsErrShift);
        registers.write32(reg::kGerror, registers.read32(reg::kGerror) ^ reg::kGerrorCmdq);
        illegal_opcode = 0xff;
        return;
      }
      commands.push_back(c);
      if (c.opcode() == op::kSync && (c.word[0] >> 12 & 3) == 1) {
        memory.at<std::uint32_t>(Gpa{c.word[1] & ~std::uint64_t{3}}) =
            static_cast<std::uint32_t>(c.word[0] >> 32);
      }
      cons = (cons + 1) & mask;
      registers.write32(reg::kCmdqCons, cons);
      if (c.opcode() == op::kSync && stop_after_sync) return;
    }
  }

 public:
  GuestMemory memory;
  Registers registers;
  std::vector<Command> commands;
  std::vector<std::string> log;
  std::uint8_t illegal_opcode = 0xff;  ///< refused once
  bool stop_after_sync = false;
  std::uint32_t event_prod = 0;
};

}  // namespace faultline::guest
