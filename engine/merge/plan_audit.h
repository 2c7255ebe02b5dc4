// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "engine/merge/counters.h"
#include "engine/merge/options.h"
#include "engine/merge/policy.h"
#include "kernel/base/result.h"
#include "kernel/operation.h"

namespace faultline::merge {

/// Whether `planned` removes all that `asked` removes, found out without any of the planner's code:
/// page by page and operation by operation.
///
/// nonglobal  MergeOptions::assume_nonglobal
/// cost       operations × pieces; slow on purpose
[[nodiscard]] bool covers(std::span<const Operation> planned, const Operation& asked,
                          bool nonglobal) noexcept;

/// Recomputes the coverage of every n-th plan of one guest while it runs. A mismatch is counted,
/// told on stderr and written to a file that replay() repeats.
///
/// thread  the shard that owns the policy; it allocates and takes its time, so it is off by default
class PlanAudit {
 public:
  /// name  of the guest, for the file: PREFIX-NAME-NUMBER.audit
  PlanAudit(const MergeOptions& options, const SinkCaps& caps, bool sole_granule, std::string name,
            std::string prefix = "faultline");

  /// An operation was added; it is in the `stage`-th stage ever.
  void note(const Operation& op, Position at, std::uint64_t stage) noexcept;
  /// A plan was made of everything up to the `stage`-th stage.
  void check(std::uint64_t stage, std::span<const Operation> planned,
             MergeCounters& counters) noexcept;
  void clear() noexcept { noted_.clear(); }

  /// The last file written; empty: none.
  [[nodiscard]] const std::string& file() const noexcept { return file_; }

 private:
  struct Noted {
    Operation op;
    Position at = 0;
    std::uint64_t stage = 0;
  };
  void report(std::span<const Operation> asked, std::span<const Operation> planned,
              const Operation& missed) noexcept;

  MergeOptions options_;
  SinkCaps caps_;
  bool sole_granule_;
  std::string name_;
  std::string prefix_;
  std::string file_;
  std::uint64_t plans_ = 0;
  std::uint64_t reports_ = 0;
  std::deque<Noted> noted_;
};

/// Plan again what a file of a PlanAudit says was asked.
///
/// returns  whether the plan that this program makes of it covers it
/// errors   a file that is not one of these
[[nodiscard]] Result<bool> replay_audit(const std::string& file);

}  // namespace faultline::merge
