// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/supervisor.h"

#include <poll.h>

#include <algorithm>
#include <csignal>
#include <utility>

#include "kernel/base/shared.h"

namespace faultline {
namespace {

constexpr Nanos kLongestLife = 100'000'000;
// A step that has not been passed for so long is not on the way of this run.
constexpr Nanos kStepLimit = 10'000'000'000;
constexpr Nanos kStartLimit = 30'000'000'000;

}  // namespace

Supervisor::Supervisor(const RunOptions& options, Description description,
                       std::vector<engine::Journal>& journals)
    : description_(std::move(description)),
      journals_(journals),
      random_(options.seed),
      ioctls_(description_.guests.size()) {
  if (options.chaos_steps) {
    // Those that are passed only while the guests enable their SMMUs come first.
    using engine::JournalStep;
    const std::vector<JournalStep> first = {JournalStep::kRegistersJournalled,
                                            JournalStep::kEvtqJournalled,
                                            JournalStep::kIrqJournalled};
    for (const JournalStep step : first) lives_.push_back({step, 1});
    for (unsigned i = 0; i < engine::kJournalSteps; ++i) {
      const auto step = static_cast<JournalStep>(i);
      if (std::find(first.begin(), first.end(), step) != first.end()) continue;
      lives_.push_back({step, 1 + static_cast<std::uint32_t>(random_() % 3)});
    }
  }
  for (unsigned i = 0; i < options.chaos; ++i) lives_.push_back({});
}

Result<std::unique_ptr<EngineProcess>> Supervisor::spawn(std::size_t life) {
  Description d = description_;
  if (life < lives_.size() && lives_[life].step) {
    d.kill = engine::KillAtStep(*lives_[life].step, lives_[life].count);
  }
  return EngineProcess::spawn(std::move(d));
}

Result<void> Supervisor::begin() {
  auto first = spawn(0);
  if (!first) return tl::unexpected(first.error());
  active_ = std::move(*first);
  active_->go();
  killed_ = monotonic_ns();
  auto spare = spawn(1);
  if (!spare) return tl::unexpected(spare.error());
  spare_ = std::move(*spare);
  // It resets the registers of the guests that it takes on: what a driver writes before is gone.
  while (due_ == 0) {
    if (auto ok = turn(); !ok) return ok;
    ::poll(nullptr, 0, 1);
  }
  return {};
}

Nanos Supervisor::last_beat() const noexcept {
  Nanos oldest = ~Nanos{0};
  for (const engine::Journal& j : journals_) oldest = std::min(oldest, j.last_beat());
  return oldest;
}

Result<void> Supervisor::kill_more(unsigned kills) {
  lives_.resize(life_ + kills);
  due_ = monotonic_ns() + random_() % kLongestLife;
  if (spare_ != nullptr) return {};
  auto spare = spawn(life_ + 1);
  if (!spare) return tl::unexpected(spare.error());
  spare_ = std::move(*spare);
  return {};
}

void Supervisor::kill_no_more() {
  if (std::exchange(no_more_, true) || last_life()) return;
  if (!lives_[life_].step) {
    life_ = lives_.size();
    return;
  }
  // It may still come to its step; then one takes over that has none.
  lives_.resize(life_ + 1);
  if (auto spare = spawn(lives_.size()); spare) spare_ = std::move(*spare);
}

bool Supervisor::finished() const noexcept {
  return last_life() && due_ != 0;
}

std::vector<std::uint64_t> Supervisor::ioctls() const {
  std::vector<std::uint64_t> all = ioctls_;
  for (std::size_t g = 0; g < all.size() && active_ != nullptr; ++g) {
    all[g] += load_relaxed(active_->status().ioctls[g]);
  }
  return all;
}

// The one at work is dead: the spare takes over, and the next spare is started.
Result<void> Supervisor::succeed(Nanos now) {
  ioctls_ = ioctls();
  killed_ = now;
  gone_ = monotonic_ns();
  due_ = 0;
  ++kills_;
  ++life_;
  active_ = std::move(spare_);
  active_->go();
  if (last_life()) return {};
  auto spare = spawn(life_ + 1);
  if (!spare) return tl::unexpected(spare.error());
  spare_ = std::move(*spare);
  return {};
}

Result<void> Supervisor::died(Nanos now) {
  const bool on_purpose = !last_life() && lives_[life_].step && active_->signal() == SIGKILL;
  if (on_purpose) return succeed(now);
  return fail(0, active_->signal() != 0
                     ? "the engine was ended by signal " + std::to_string(active_->signal())
                     : std::string("the engine ended by itself"));
}

Result<void> Supervisor::turn() {
  const Nanos now = monotonic_ns();
  if (active_->ended()) return died(now);
  if (due_ == 0) {
    const Nanos beat = last_beat();
    if (!active_->running() || beat <= gone_) {
      const bool step = !last_life() && lives_[life_].step.has_value();
      if (now - killed_ > kStartLimit + (step ? kStepLimit : 0)) {
        return fail(0, "the engine did not come back within 30 s");
      }
      return {};
    }
    if (kills_ > 0) restarts_.record(beat - killed_);
    abi_ = load_relaxed(active_->status().abi);
    shards_ = load_relaxed(active_->status().shards);
    const bool step = !last_life() && lives_[life_].step.has_value();
    due_ = now + (step ? kStepLimit : random_() % kLongestLife);
    return {};
  }
  if (last_life() || now < due_ || !spare_->spare()) return {};
  if (lives_[life_].step) {
    not_reached_.emplace_back(engine::step_name(*lives_[life_].step));
  }
  const Nanos sent = monotonic_ns();
  active_->kill();
  return succeed(sent);
}

bool Supervisor::stop() noexcept {
  spare_.reset();
  return active_->stop(kStartLimit);
}

}  // namespace faultline
