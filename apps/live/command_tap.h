// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "apps/guest/commands.h"
#include "apps/guest/registers.h"
#include "apps/guest/trace.h"
#include "kernel/base/clock.h"
#include "kernel/base/units.h"

namespace faultline::live {

/// The memory of a guest as a bystander maps it.
struct GuestView {
  std::byte* memory = nullptr;
  std::size_t bytes = 0;
  Gpa base;
  Gpa registers;

  /// `size` bytes at a guest address; null: not all of them are memory.
  [[nodiscard]] std::byte* at(std::uint64_t gpa, std::size_t size) const noexcept {
    if (gpa < base.value || gpa - base.value > bytes || size > bytes - (gpa - base.value)) {
      return nullptr;
    }
    return memory + (gpa - base.value);
  }
};

/// Everything that one guest's driver writes into its command queue, seen by a bystander: the
/// slots stay as they are for a whole lap. It neither owns nor changes anything, and shares no code
/// with the engine, so what it counts can judge the engine.
///
/// Linux lets the MSI of a CMD_SYNC overwrite the command's own first word; such a slot is told by
/// the address that is still in it.
///
/// keep     whether every command is kept, for a trace; costs 40 bytes each
/// thread   one; poll() more often than the driver fills its queue
class CommandTap {
 public:
  struct Counts {
    std::uint64_t commands = 0;
    std::uint64_t invalidations = 0;  ///< of the TLB
    std::uint64_t configurations = 0;
    std::uint64_t syncs = 0;
    std::uint64_t syncs_completed = 0;  ///< CONS has passed them
    std::uint64_t doorbells = 0;        ///< changes of PROD that were seen; the guest rang as often
                                        ///< or oftener
    std::uint64_t illegal = 0;          ///< no command of any version
    std::uint64_t errors = 0;           ///< CONS.ERR seen
  };

  CommandTap(const GuestView& view, bool keep) noexcept;

  /// Take what is new. returns  commands
  std::size_t poll(Nanos now);

  /// The queue starts anew: its guest was reset.
  void restart() noexcept { on_ = false; }

  [[nodiscard]] const Counts& counts() const noexcept { return counts_; }
  [[nodiscard]] const guest::Trace& trace() const noexcept { return trace_; }

  /// Write an opcode that no version has over a TLB invalidation that the engine has not fetched,
  /// if one comes within `limit` ns. The engine must be at rest. returns  whether it was done
  bool spoil(Nanos limit) noexcept;

 private:
  [[nodiscard]] std::uint32_t mask() const noexcept { return (2U << log2_) - 1; }
  [[nodiscard]] std::byte* slot(std::uint32_t index) const noexcept;
  bool latch() noexcept;
  guest::Command read(std::uint32_t index) noexcept;
  void count(const guest::Command& command);

  GuestView view_;
  guest::Registers registers_;
  bool keep_;
  bool on_ = false;
  std::uint64_t base_ = 0;
  unsigned log2_ = 0;
  std::uint64_t prod_ = 0;  ///< commands seen, runs freely
  std::uint64_t cons_ = 0;  ///< of them passed by CONS
  std::uint32_t error_ = 0;
  std::deque<std::uint64_t> pending_;  ///< positions of SYNCs that CONS has not passed
  Counts counts_;
  guest::Trace trace_;
  Nanos first_ = 0;
};

}  // namespace faultline::live
