// SPDX-License-Identifier: BSD-3-Clause
// hot path: the producer's side of the CMDQ.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "apps/guest/commands.h"
#include "apps/guest/memory.h"
#include "apps/guest/registers.h"

namespace faultline::guest {

/// Position of one command in the queue since it was enabled: 0, 1, 2, … never wraps.
using Position = std::uint64_t;

/// The guest's side of the command queue, shared by all vCPUs of the guest.
///
/// A slot is used again only after CONS has passed it *and* every CMD_SYNC up to it has been seen
/// complete, because Linux lets a CMD_SYNC write its completion into its own slot.
///
/// thread   the guest's
class CommandQueue {
 public:
  /// log2size  4..19 entries; memory comes from `memory`, aligned to its size
  CommandQueue(GuestMemory& memory, Registers registers, unsigned log2size);

  [[nodiscard]] std::uint64_t base_register() const noexcept;

  /// Commands that fit now.
  [[nodiscard]] std::size_t room() const noexcept;

  /// CONS has passed every command that was written.
  [[nodiscard]] bool empty() const noexcept { return tail_ == head_; }

  /// Append one command that is no CMD_SYNC; room() must be > 0. The engine sees it at publish().
  void push(const Command& command) noexcept;

  /// Append a CMD_SYNC.
  ///
  /// by_msi   its completion is a write to its own slot, as Linux does it; else CONS passing it
  /// returns  what to ask done() for
  Position push_sync(bool by_msi) noexcept;

  /// Ring: write CMDQ_PROD.
  void publish() noexcept;

  /// Read CMDQ_CONS and look which CMD_SYNCs have completed.
  /// returns  CMD_SYNCs newly seen complete
  std::size_t poll() noexcept;

  /// Whether the CMD_SYNC at `sync` was seen complete by poll().
  [[nodiscard]] bool done(Position sync) const noexcept;

  /// What Linux does on a command queue error: an illegal command is replaced by a CMD_SYNC, a
  /// failed fetch is tried again. The caller acknowledges in GERRORN afterwards.
  void handle_error() noexcept;

  [[nodiscard]] std::uint64_t commands() const noexcept { return head_; }
  [[nodiscard]] std::uint64_t syncs() const noexcept { return syncs_; }
  [[nodiscard]] std::uint64_t syncs_completed() const noexcept { return syncs_completed_; }
  [[nodiscard]] std::size_t outstanding() const noexcept { return outstanding_.size(); }
  /// CONS went where no consumer may put it, or passed a CMD_SYNC whose MSI had not been written.
  [[nodiscard]] std::uint64_t violations() const noexcept { return violations_; }
  [[nodiscard]] std::uint64_t errors_handled() const noexcept { return errors_handled_; }

 private:
  struct Outstanding {
    Position position;
    bool by_msi;
  };
  [[nodiscard]] std::uint64_t* slot(Position at) const noexcept;
  void put(const Command& command) noexcept;

  GuestMemory& memory_;
  Registers registers_;
  unsigned log2size_;
  Gpa base_;
  Position head_ = 0;       ///< next position to be written
  Position published_ = 0;  ///< what PROD says
  Position tail_ = 0;       ///< what CONS says
  std::vector<Outstanding> outstanding_;
  std::uint64_t syncs_ = 0;
  std::uint64_t syncs_completed_ = 0;
  std::uint64_t violations_ = 0;
  std::uint64_t errors_handled_ = 0;
};

}  // namespace faultline::guest
