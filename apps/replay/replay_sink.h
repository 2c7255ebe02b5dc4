// SPDX-License-Identifier: BSD-3-Clause
// hot path: where the operations of a replay end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "apps/replay/entries.h"
#include "apps/replay/options.h"
#include "apps/replay/replay_time.h"
#include "engine/merge/policy.h"
#include "kernel/backend.h"

namespace faultline {

/// A kernel that does nothing but take its time: ioctls, host CMD_SYNCs and entries at what the
/// options say each costs. Nothing fails.
///
/// Time    now() and until()
/// thread  the engine's
template <class Time>
class ReplaySink {
 public:
  static constexpr std::uint32_t kArraySize = merge::kMaxSubmission;

  /// time, entries   outlive the sink
  ReplaySink(const ReplayOptions& options, Time& time, Entries& entries) noexcept
      : options_(&options), time_(&time), entries_(&entries) {}

  SinkCaps caps() noexcept {
    return {.max_batch = options_->sink == SinkModel::kArray ? kArraySize : 1,
            .tlb_all = true,
            .config_caches = true,
            .atc = true,
            .range = true};
  }

  SubmitResult submit(std::span<const Operation> ops) noexcept {
    const Nanos start = time_->now();
    const auto n = static_cast<std::uint32_t>(ops.size());
    SubmitResult result{0, n, n};
    if (options_->sink == SinkModel::kArray) result = {0, 1, (n + kArraySize - 1) / kArraySize};
    entries_->submit(ops);
    time_->until(start + result.calls * options_->ioctl + result.host_syncs * options_->host_sync +
                 n * options_->entry);
    spent_ += time_->now() - start;
    return result;
  }

  void note_asid(std::size_t /*device*/, std::uint16_t /*asid*/) noexcept {}

  SubmitResult set_stage1(std::size_t /*device*/, const Stage1Config& /*config*/) noexcept {
    return {0, 1, 0};
  }

  /// ns that all submissions took.
  [[nodiscard]] Nanos spent() const noexcept { return spent_; }

 private:
  const ReplayOptions* options_;
  Time* time_;
  Entries* entries_;
  Nanos spent_ = 0;
};

static_assert(InvalidationSink<ReplaySink<VirtualTime>> && InvalidationSink<ReplaySink<WallTime>>);

}  // namespace faultline
