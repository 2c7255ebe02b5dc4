// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <time.h>

#include <algorithm>
#include <cerrno>
#include <span>

#include "engine/engine.h"
#include "engine/nudge.h"
#include "kernel/base/populate.h"

namespace faultline::engine {

// Engine's members. Control path: they allocate, wait and take the mutex; no shard calls them.

template <FaultSourceSet Sources, InvalidationSink Sink, StepHook Hook>
Result<void> Engine<Sources, Sink, Hook>::add_guest(GuestSpec spec, Sources sources, Sink sink,
                                                    Journal& journal,
                                                    const std::optional<GuestPlan>& place) {
  if (auto ok = check_guest(spec, sources.size(), journal); !ok) return ok;
  const std::string where = "guest " + spec.name;
  for (const auto& other : guests_) {
    if (other->spec().name == spec.name) return fail(EEXIST, where + " is there already");
  }
  auto memory = viommu::GuestMemory::make(spec.memory);
  if (!memory) return fail(std::move(memory.error()), where);
  auto page = viommu::RegisterPage::map(*memory, spec.registers);
  if (!page) return fail(std::move(page.error()), where);
  // What a polling core touches in the first round of a guest that comes while it polls others.
  populate(&page->at(viommu::Reg32::kIdr0), viommu::kRegisterBytes, true);
  auto features =
      viommu::negotiate(spec.features != nullptr ? *spec.features : options_.features, sink.caps());
  if (!features) return fail(std::move(features.error()), where);
  auto guest = std::make_unique<GuestType>(std::move(spec), std::move(sources), std::move(sink),
                                           std::move(*memory), *page, *features, journal);
  if (options_.idle == IdlePolicy::kSleep && !guest->hang_bell()) {
    return fail(errno, where + ": no eventfd by which its duties wake each other");
  }
  guest->make_duties(next_index_, options_.plant, hook_);
  if (running_) {
    GuestPlan at = place ? *place : least_loaded();
    at.name = guest->spec().name;
    if (auto ok = place_guest(*guest, at); !ok) return ok;
  }
  ++next_index_;
  const std::lock_guard lock(mutex_);
  guests_.push_back(std::move(guest));
  return {};
}

template <FaultSourceSet Sources, InvalidationSink Sink, StepHook Hook>
Result<void> Engine<Sources, Sink, Hook>::start(const Plan& plan, Launcher launcher) {
  if (running_) return fail(EALREADY, "the engine runs already");
  if (options_.idle) {
    if (auto ok = check_idle(*options_.idle); !ok) return ok;
  }
  if (plan.shards.empty()) return fail(EINVAL, "a plan without shards cannot be started");
  shards_.clear();
  for (std::size_t i = 0; i < plan.shards.size(); ++i) {
    shards_.push_back(std::make_unique<CoreShard>());
    if (options_.idle != IdlePolicy::kSleep) continue;
    auto sleeper = Sleeper::make();
    if (!sleeper) return tl::unexpected(sleeper.error());
    shards_.back()->sleep_on(std::move(*sleeper));
  }
  plan_ = plan;
  for (auto& guest : guests_) {
    const auto at = std::find_if(plan.guests.begin(), plan.guests.end(),
                                 [&](const GuestPlan& p) { return p.name == guest->spec().name; });
    if (at == plan.guests.end()) {
      return fail(EINVAL, "guest " + guest->spec().name + " has no place in the plan");
    }
    if (auto ok = place_guest(*guest, *at); !ok) return ok;
  }
  std::vector<std::function<void()>> loops;
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    const ShardPlan& shard = plan.shards[i];
    const bool alone = shard.isolated && !shard.shared;
    IdleOptions idle = options_.sleep;
    idle.policy = options_.idle.value_or(default_idle(!alone));
    loops.emplace_back([at = shards_[i].get(), idle] {
      run_loop(std::span<CoreShard* const>(&at, 1), idle, MonotonicClock{});
    });
  }
  if (auto ok = launcher.launch(std::move(loops)); !ok) return ok;
  launcher_ = std::move(launcher);
  running_ = true;
  started_ = monotonic_ns();
  control_stop_ = false;
  control_ = std::thread([this, cpus = plan.housekeeping] { serve_cold_work(cpus); });
  return {};
}

template <FaultSourceSet Sources, InvalidationSink Sink, StepHook Hook>
Result<void> Engine<Sources, Sink, Hook>::remove_guest(const std::string& name) {
  auto found = find_guest(name);
  if (!found) return tl::unexpected(found.error());
  if (auto ok = change_duties(**found, ShardMessage::Kind::kRemove); !ok) return ok;
  std::unique_ptr<GuestType> guest;
  {
    const std::lock_guard lock(mutex_);  // the control thread does not look at it any more
    const auto at = std::ranges::find(guests_, *found, &std::unique_ptr<GuestType>::get);
    guest = std::move(*at);
    guests_.erase(at);
  }
  // Work that the cold lane has begun is of this guest: it goes first.
  lane_->wait();
  if (guest->blocked_eventfds() != 0) blocked_gone_.push_back(name);
  return {};
}

template <FaultSourceSet Sources, InvalidationSink Sink, StepHook Hook>
auto Engine<Sources, Sink, Hook>::find_guest(const std::string& name) -> Result<GuestType*> {
  for (auto& guest : guests_) {
    if (guest->spec().name == name) return guest.get();
  }
  return fail(ENOENT, "there is no guest " + name);
}

template <FaultSourceSet Sources, InvalidationSink Sink, StepHook Hook>
Result<void> Engine<Sources, Sink, Hook>::pause_guest(const std::string& name) {
  auto guest = find_guest(name);
  if (!guest) return tl::unexpected(guest.error());
  if ((*guest)->paused) return fail(EALREADY, "guest " + name + " is paused already");
  if (auto ok = change_duties(**guest, ShardMessage::Kind::kRemove); !ok) return ok;
  {
    const std::lock_guard lock(mutex_);  // the control thread begins no more work of it
    (*guest)->paused = true;
  }
  lane_->wait();
  return {};
}

template <FaultSourceSet Sources, InvalidationSink Sink, StepHook Hook>
Result<void> Engine<Sources, Sink, Hook>::set_budget(const std::string& name,
                                                     const Budget& budget) {
  const auto at = std::find_if(guests_.begin(), guests_.end(),
                               [&](const auto& guest) { return guest->spec().name == name; });
  if (at == guests_.end()) return fail(ENOENT, "there is no guest " + name);
  if (!budget.valid()) return fail(EINVAL, "guest " + name + ": " + kBudgetRule);
  const std::lock_guard lock(mutex_);  // snapshots tell it
  (*at)->set_budget(budget);
  return {};
}

template <FaultSourceSet Sources, InvalidationSink Sink, StepHook Hook>
Result<void> Engine<Sources, Sink, Hook>::resume_guest(const std::string& name) {
  auto guest = find_guest(name);
  if (!guest) return tl::unexpected(guest.error());
  if (!(*guest)->paused) return fail(EALREADY, "guest " + name + " is not paused");
  const auto set = [&](bool paused) {
    const std::lock_guard lock(mutex_);
    (*guest)->paused = paused;
  };
  set(false);
  auto ok = change_duties(**guest, ShardMessage::Kind::kAdd);
  if (!ok) set(true);
  return ok;
}

template <FaultSourceSet Sources, InvalidationSink Sink, StepHook Hook>
Nanos Engine<Sources, Sink, Hook>::oldest_beat() const noexcept {
  Nanos oldest = monotonic_ns();
  if (!running_) return oldest;
  for (const auto& shard : shards_) {
    // One that has yet to begin its first round has had since the start.
    oldest = std::min(oldest, std::max(load_relaxed(shard->counters().beat), started_));
  }
  return oldest;
}

template <FaultSourceSet Sources, InvalidationSink Sink, StepHook Hook>
unsigned Engine<Sources, Sink, Hook>::nudge_stalled(Nanos before) noexcept {
  if (!running_ || !launcher_.nudge) return 0;
  unsigned nudged = 0;
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    if (shards_[i]->ended()) continue;
    if (std::max(load_relaxed(shards_[i]->counters().beat), started_) >= before) continue;
    launcher_.nudge(i);
    ++nudged;
  }
  return nudged;
}

template <FaultSourceSet Sources, InvalidationSink Sink, StepHook Hook>
Result<void> Engine<Sources, Sink, Hook>::stop() {
  if (!running_) return {};
  // With many guests there is hardly a moment in which all of them happen to be at rest.
  for (auto& guest : guests_) guest->hold(true);
  for (auto& shard : shards_) {
    const ShardMessage stop{ShardMessage::Kind::kStop, 0, 0, ++token_};
    // A full ring means that the shard is about to read it.
    wait_for_shards([&] { return shard->post(stop); });
  }
  // One that hangs in a guest's descriptor would not come to its end.
  if (launcher_.nudge) {
    wait_for_shards([&] {
      return std::ranges::all_of(shards_, [](const auto& shard) { return shard->ended(); });
    });
  }
  launcher_.join();
  // Until here it has answered the duties that were draining.
  control_stop_ = true;
  control_.join();
  lane_->wait();
  for (auto& guest : guests_) guest->hold(false);
  running_ = false;
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    if (!shards_[i]->quiet()) {
      return fail(ETIMEDOUT, "shard " + std::to_string(i) + " had work in flight when it stopped");
    }
  }
  return {};
}

template <FaultSourceSet Sources, InvalidationSink Sink, StepHook Hook>
EngineSnapshot Engine<Sources, Sink, Hook>::snapshot() const {
  EngineSnapshot out;
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    ShardSnapshot shard{plan_.shards[i].cpu, plan_.shards[i].shared, {}};
    copy_counters(shard.counters, shards_[i]->counters());
    out.shards.push_back(shard);
  }
  const std::lock_guard lock(mutex_);
  for (const auto& guest : guests_) out.guests.push_back(guest->snapshot());
  return out;
}

template <FaultSourceSet Sources, InvalidationSink Sink, StepHook Hook>
Result<void> Engine<Sources, Sink, Hook>::place_guest(GuestType& guest, const GuestPlan& plan) {
  if (plan.event_shard >= shards_.size() || plan.command_shard >= shards_.size()) {
    return fail(EINVAL, "guest " + plan.name + " is placed on a shard that is not there");
  }
  {
    const std::lock_guard lock(mutex_);  // snapshots tell where it is
    guest.event_shard = plan.event_shard;
    guest.command_shard = plan.command_shard;
  }
  return change_duties(guest, ShardMessage::Kind::kAdd);
}

template <FaultSourceSet Sources, InvalidationSink Sink, StepHook Hook>
GuestPlan Engine<Sources, Sink, Hook>::least_loaded() const {
  std::vector<std::size_t> duties(shards_.size());
  for (const auto& guest : guests_) {
    ++duties[guest->event_shard];
    ++duties[guest->command_shard];
  }
  GuestPlan plan;
  const auto least = [&] {
    return static_cast<std::size_t>(std::min_element(duties.begin(), duties.end()) -
                                    duties.begin());
  };
  plan.event_shard = least();
  ++duties[plan.event_shard];  // the other one apart from it, where there is another shard
  plan.command_shard = least();
  return plan;
}

template <FaultSourceSet Sources, InvalidationSink Sink, StepHook Hook>
void Engine<Sources, Sink, Hook>::serve_cold_work(const std::vector<unsigned>& housekeeping) {
  stay_on(housekeeping);
  const Nanos longest = options_.idle == IdlePolicy::kSleep ? kColdSleepNs : kColdPollNs;
  Nanos wait = kColdPollNs;
  while (!control_stop_) {
    bool any = false;
    {
      const std::lock_guard lock(mutex_);
      for (auto& guest : guests_) {
        if (!guest->paused && guest->serve_cold(*lane_)) any = true;
      }
    }
    wait = any ? kColdPollNs : std::min(2 * wait, longest);
    const timespec pause{0, static_cast<long>(wait)};
    nanosleep(&pause, nullptr);
  }
}

}  // namespace faultline::engine
