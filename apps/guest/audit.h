// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "apps/guest/guest.h"
#include "apps/guest/guest_audit.h"

namespace faultline::guest {

/// What the audit of a whole run found.
struct Verdict {
  FaultCounts faults;
  GuestCounters guests;               ///< summed over the guests
  std::vector<std::string> findings;  ///< one line each; empty: clean
  [[nodiscard]] bool clean() const noexcept { return findings.empty(); }
};

/// Merges the kernel's ledgers with what the guests saw, while they run and in bounded memory.
///
/// thread   one: the same for poll() and finish()
class Audit {
 public:
  /// Attach to the ledgers; from then on poll() must be called often, since a device waits rather
  /// than lose a ledger entry.
  ///
  /// ledgers   of device i of guest g: ledgers[g][i]; outlive the audit, as do the guests
  /// typeless  see GuestAudit
  Audit(const std::vector<Guest*>& guests, const std::vector<std::vector<void*>>& ledgers,
        bool typeless = false);
  ~Audit();

  /// Take what came; returns how much.
  std::size_t poll(Nanos now);

  /// Events that were produced and that no guest has read yet.
  [[nodiscard]] std::size_t pending() const noexcept;

  /// After the guests have been joined: read what is left and judge.
  Verdict finish(Nanos now);

  [[nodiscard]] const FaultCounts& counts(std::size_t guest) const noexcept;
  [[nodiscard]] const Histogram& latency(std::size_t guest) const noexcept;

 private:
  struct Side;
  std::size_t poll_guest(Side& side, Nanos now);
  std::vector<std::unique_ptr<Side>> sides_;
};

}  // namespace faultline::guest
