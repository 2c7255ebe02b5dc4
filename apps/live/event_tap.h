// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "apps/guest/guest_audit.h"
#include "apps/guest/registers.h"
#include "apps/live/command_tap.h"
#include "kernel/base/clock.h"
#include "kernel/soft/ledger.h"

namespace faultline::live {

/// What one guest's driver finds in its event queue, seen by a bystander and compared with the
/// ledgers of the kernel behind it: an event counts as delivered when the driver's EVTQ_CONS has
/// passed it, an overflow as reported when the driver acknowledged it.
///
/// thread   one; poll() more often than events fill the queue
class EventTap {
 public:
  /// sids      the guest's names of its devices
  /// ledgers   of the same devices; outlive this object
  EventTap(const GuestView& view, const std::vector<StreamId>& sids,
           const std::vector<void*>& ledgers);

  /// Take what is new. returns  events and ledger entries
  std::size_t poll(Nanos now);

  /// The guest was reset: what it had not read is lost with it, and the next queue begins.
  void restart();

  /// Events produced and neither read nor known to be lost.
  [[nodiscard]] std::size_t pending() const noexcept { return audit_ ? audit_->pending() : 0; }
  [[nodiscard]] std::uint64_t overflows() const noexcept { return overflows_; }
  /// Events in the queue that a reset made void.
  [[nodiscard]] std::uint64_t voided() const noexcept { return voided_; }
  /// Of the whole run: produced = delivered + voided() + lost, once finished.
  [[nodiscard]] guest::FaultCounts counts() const noexcept;
  /// No event will be read any more: what was not read by now is lost.
  void finish();

 private:
  bool latch();
  std::size_t take_events(Nanos now);

  GuestView view_;
  guest::Registers registers_;
  std::vector<StreamId> sids_;
  std::vector<std::unique_ptr<soft::LedgerReader>> ledgers_;
  std::unique_ptr<guest::GuestAudit> audit_;
  std::uint64_t base_ = 0;
  unsigned log2_ = 0;
  std::uint32_t prod_ = 0;  ///< up to where events have been copied, as the register says it
  std::uint32_t cons_ = 0;
  std::uint64_t consumed_ = 0;
  bool overflow_ = false;
  bool acked_ = false;
  std::deque<guest::Observation> unread_;  ///< in the queue, not passed by CONS
  std::vector<guest::Observation> seen_;
  std::uint64_t overflows_ = 0;
  std::uint64_t voided_ = 0;
  guest::FaultCounts before_;  ///< of queues that are gone
};

}  // namespace faultline::live
