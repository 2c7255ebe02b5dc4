// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "apps/guest/observation.h"
#include "kernel/base/histogram.h"
#include "kernel/base/units.h"
#include "kernel/soft/ledger.h"

namespace faultline::guest {

/// What became of the faults of one guest.
///
/// produced = delivered + lost_reported + lost_silent once the audit is finished.
struct FaultCounts {
  std::uint64_t produced = 0;       ///< events due to the guest, also those that found no room
  std::uint64_t delivered = 0;      ///< read by the guest once, in order, exact
  std::uint64_t lost_reported = 0;  ///< missing, covered by an overflow that the guest saw
  std::uint64_t lost_silent = 0;    ///< missing, and nothing told the guest
  std::uint64_t misdelivered = 0;   ///< read by the guest, but nobody's, altered or out of order
  std::uint64_t duplicated = 0;     ///< read by the guest a second time
  std::uint64_t dropped = 0;        ///< of those produced: the kernel's queue was full
};

/// The first event that no ledger entry explains, for the operator.
struct FirstStranger {
  bool found = false;
  std::uint64_t consumed = 0;  ///< events that the guest had read before it
  std::uint64_t words[4] = {};
};

/// Where the first silent loss was found, for the operator.
struct FirstLoss {
  std::uint64_t faults = 0;  ///< how many were missing there; 0: there was none
  StreamId sid;
  std::uint64_t address = 0;  ///< of the first one that is missing; 0 when the kernel dropped it
  std::uint64_t after = 0;    ///< events that the guest had read up to the one before the gap
  bool at_end = false;        ///< nothing of this device came afterwards
};

/// Compares, device by device, what the kernel's ledger says was raised with what the guest read
/// from its event queue, and nothing else.
///
/// A missing event is *covered* when the guest could know. Call consumed count the number of events
/// that the guest has read from its queue so far, and flagged interval [s, t] the consumed counts
/// between its seeing an OVFLG it did not know (s) and its acknowledging it (t). Let a be the
/// consumed count right after the delivered neighbour before the gap, b the one right before the
/// neighbour after it, and N the length of the queue.
///
/// An engine that reports the loss makes sure that OVFLG differs from OVACKFLG before the later
/// neighbour is published. Call r the number of events published at that moment; r <= b. If the
/// flag was not up already, the guest sees it in its next read of PROD: until then it has read no
/// further than what was published before, so s <= r <= b. If it was up already, it belongs to an
/// interval whose s is not later than that moment, so again s <= b. As to t: the guest acknowledges
/// only when it has read everything that a read of PROD with the flag in it showed, and a read of
/// PROD that shows r or more is such a read; so t >= r unless the engine had read the old OVACKFLG
/// while the acknowledgement was on its way, in which case t is no less than the CONS that the
/// engine knew, which is at least r - N, or there would have been no room for r. The report may
/// precede the earlier neighbour (version 1 learns of a loss by looking at a whole burst), but only
/// by records of that burst, and a burst is no longer than the queue: r >= a - N, thus
/// t >= a - 2N. So a loss is covered if some flagged interval has s <= b and t >= a - 2N.
///
/// memory   what the kernel produced and the guest has not read yet, and the last kHistory events
/// thread   one
class GuestAudit {
 public:
  static constexpr std::size_t kHistory = 4096;
  /// An event that no ledger entry explains is judged when the ledger is past it, at the end of the
  /// run, or after so long. The record is visible before its ledger entry, and in between the
  /// device's thread can be off its core for seconds where a machine is overcommitted.
  static constexpr Nanos kGrace = 60'000'000'000;

  /// sids      the guest's names of its devices
  /// entries   of its event queue
  /// typeless  the kernel's records lack their reason, as those of the real v7 did: every event
  ///           reaches the guest as F_TRANSLATION
  GuestAudit(std::vector<StreamId> sids, std::size_t entries, bool typeless = false);

  /// The next entry of device i's ledger.
  void ledger(std::size_t i, const soft::LedgerEntry& entry);

  /// The next observation of the guest. When it is given, everything that the ledgers held when it
  /// was made should have been given; what cannot be judged yet waits.
  void observed(const Observation& observation);

  /// Judge what waits for ledger entries; call after giving them.
  void settle(Nanos now);

  /// No event will be read any more: what was not read by now is lost.
  void finish();

  [[nodiscard]] const FaultCounts& counts() const noexcept { return counts_; }
  [[nodiscard]] const FirstLoss& first_loss() const noexcept { return first_loss_; }
  [[nodiscard]] const FirstStranger& first_stranger() const noexcept { return first_stranger_; }
  /// From the kernel's stamp to the guest's reading it, ns.
  [[nodiscard]] const Histogram& latency() const noexcept { return latency_; }
  /// Events produced and neither read nor known to be lost.
  [[nodiscard]] std::size_t pending() const noexcept;
  [[nodiscard]] std::size_t waiting() const noexcept { return waiting_.size(); }

 private:
  struct Expected {
    std::uint64_t words[4] = {};  ///< as the guest must read them
    Nanos at = 0;
    std::uint64_t dropped_before = 0;  ///< events that the kernel dropped right before this one
    std::uint16_t abi = 0;
  };
  struct Device {
    StreamId sid;
    std::deque<Expected> expected;
    std::uint64_t dropped = 0;       ///< by the kernel, since the last expected one
    std::uint64_t after_last = 0;    ///< consumed count after the last one delivered
    Nanos ledger_at = 0;             ///< stamp of the newest entry
    std::deque<Expected> delivered;  ///< the last kHistory
  };
  struct Flagged {
    std::uint64_t seen = 0;
    std::uint64_t acked = 0;
    bool open = true;
  };
  static bool same(const Expected& e, const std::uint64_t (&words)[4]) noexcept;
  bool judge(const Observation& o, Nanos now, bool final);
  void lost(Device& device, std::uint64_t n, std::uint64_t address, std::uint64_t before);
  void deliver(Device& device, std::size_t at, const Observation& o);

  std::vector<Device> devices_;
  std::size_t entries_;
  bool typeless_;
  std::deque<Flagged> flagged_;
  std::deque<Observation> waiting_;
  FaultCounts counts_;
  FirstLoss first_loss_;
  FirstStranger first_stranger_;
  Histogram latency_;
};

}  // namespace faultline::guest
