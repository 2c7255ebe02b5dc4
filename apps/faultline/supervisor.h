// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "apps/faultline/description.h"
#include "apps/faultline/engine_process.h"
#include "apps/faultline/options.h"
#include "engine/journal.h"
#include "engine/journal_step.h"
#include "kernel/base/histogram.h"
#include "kernel/base/result.h"

namespace faultline {

/// Starts an engine, kills it, starts the next one, as often as it was asked to. One spare is
/// always being prepared, so that a restart costs no more than taking over.
///
/// thread   one: turn() is called often
class Supervisor {
 public:
  /// description   of every engine, less what differs between them
  /// journals      of its guests, kept here through all lives
  Supervisor(const RunOptions& options, Description description,
             std::vector<engine::Journal>& journals);

  /// Start the first engine and wait until it serves; the guests may be started then.
  /// errors   it does not start, or ends by itself
  Result<void> begin();

  /// Kill, notice deaths, start. errors   an engine that ended by itself, or did not start
  Result<void> turn();

  /// So many kills more, at random moments from now on. To be called while an engine serves that
  /// is not to be killed. errors   the spare engine does not start
  Result<void> kill_more(unsigned kills);

  /// Take the engine at work off its cores, and let it go on.
  void pause() noexcept { active_->pause(); }
  void resume() noexcept { active_->resume(); }

  /// Leave out the kills that are still to come.
  void kill_no_more();

  /// All kills have been made and the last engine serves.
  [[nodiscard]] bool finished() const noexcept;

  /// End the last engine the regular way. returns  whether it did
  bool stop() noexcept;

  [[nodiscard]] unsigned kills() const noexcept { return kills_; }
  /// From a kill to the moment at which all duties of the next engine beat, ns.
  [[nodiscard]] const Histogram& restarts() const noexcept { return restarts_; }
  /// Steps that no engine came to within its time.
  [[nodiscard]] const std::vector<std::string>& not_reached() const noexcept {
    return not_reached_;
  }
  /// Ioctls per guest over all lives, as of the last few ms before each kill.
  [[nodiscard]] std::vector<std::uint64_t> ioctls() const;
  [[nodiscard]] unsigned abi() const noexcept { return abi_; }
  [[nodiscard]] std::size_t shards() const noexcept { return shards_; }

 private:
  /// How one engine ends: at a step, or when its time is over.
  struct Life {
    std::optional<engine::JournalStep> step;
    std::uint32_t count = 1;
  };
  [[nodiscard]] Nanos last_beat() const noexcept;
  [[nodiscard]] bool last_life() const noexcept { return life_ >= lives_.size(); }
  Result<std::unique_ptr<EngineProcess>> spawn(std::size_t life);
  Result<void> succeed(Nanos now);
  Result<void> died(Nanos now);

  Description description_;
  std::vector<engine::Journal>& journals_;
  std::vector<Life> lives_;
  std::size_t life_ = 0;  ///< index of the engine at work; beyond the end: it is not to be killed
  std::unique_ptr<EngineProcess> active_;
  std::unique_ptr<EngineProcess> spare_;
  std::mt19937_64 random_;
  Nanos killed_ = 0;  ///< moment of the last kill
  Nanos gone_ = 0;    ///< when the engine killed then was known to be dead
  Nanos due_ = 0;     ///< when the one at work is to be killed; 0: it does not serve yet
  bool no_more_ = false;
  unsigned kills_ = 0;
  Histogram restarts_;
  std::vector<std::string> not_reached_;
  std::vector<std::uint64_t> ioctls_;
  unsigned abi_ = 0;
  std::size_t shards_ = 0;
};

}  // namespace faultline
