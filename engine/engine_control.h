// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <time.h>

#include <algorithm>
#include <cerrno>
#include <span>

#include "engine/engine.h"
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
    if (std::max(load_relaxed(shards_[i]->counters().beat), started_) >= before) continue;
    launcher_.nudge(i);
    ++nudged;
  }
  return nudged;
}

template <FaultSourceSet Sources, InvalidationSink Sink, StepHook Hook>
template <class D>
Result<bool> Engine<Sources, Sink, Hook>::move_duty(D& duty, std::size_t& at, std::size_t to) {
  if (at == to) return false;
  // All that the old core wrote to the duty is the new one's: the old shard's acknowledgement is
  // pushed with release after its last round of it and popped here with acquire; the message to the
  // new shard is pushed here with release and popped there with acquire.
  if (auto ok = change(at, ShardMessage::Kind::kRemove, duty); !ok) {
    return tl::unexpected(ok.error());
  }
  if (auto ok = change(to, ShardMessage::Kind::kAdd, duty); !ok) {
    // It had room for it a moment ago.
    if (auto back = change(at, ShardMessage::Kind::kAdd, duty); !back) {
      return fail(std::move(back.error()), "a duty is on no shard");
    }
    return tl::unexpected(ok.error());
  }
  const std::lock_guard lock(mutex_);  // snapshots tell where it is
  at = to;
  return true;
}

template <FaultSourceSet Sources, InvalidationSink Sink, StepHook Hook>
Result<unsigned> Engine<Sources, Sink, Hook>::rebalance(const Plan& plan) {
  if (!running_) return fail(EINVAL, "an engine that does not run cannot be rebalanced");
  const auto cpu = [](const ShardPlan& s) { return s.cpu; };
  if (!std::ranges::equal(plan.shards, plan_.shards, {}, cpu, cpu)) {
    return fail(EINVAL, "a plan with other shards needs another start");
  }
  for (const GuestPlan& to : plan.guests) {
    if (to.event_shard >= shards_.size() || to.command_shard >= shards_.size()) {
      return fail(EINVAL, "guest " + to.name + " is placed on a shard that is not there");
    }
  }
  unsigned moved = 0;
  for (auto& guest : guests_) {
    const auto to = std::ranges::find(plan.guests, guest->spec().name, &GuestPlan::name);
    if (to == plan.guests.end()) continue;
    const std::string where = "guest " + to->name;
    if (guest->paused) {
      moved += guest->event_shard != to->event_shard ? 1U : 0U;
      moved += guest->command_shard != to->command_shard ? 1U : 0U;
      if (auto ok = place_guest(*guest, *to); !ok) return tl::unexpected(ok.error());
      continue;
    }
    auto event = move_duty(guest->event(), guest->event_shard, to->event_shard);
    if (!event) return fail(std::move(event.error()), where);
    auto command = std::visit(
        [&](auto& duty) { return move_duty(*duty, guest->command_shard, to->command_shard); },
        guest->command());
    if (!command) return fail(std::move(command.error()), where);
    moved += (*event ? 1U : 0U) + (*command ? 1U : 0U);
  }
  return moved;
}

template <FaultSourceSet Sources, InvalidationSink Sink, StepHook Hook>
Result<void> Engine<Sources, Sink, Hook>::stop() {
  if (!running_) return {};
  for (auto& shard : shards_) {
    // A full ring means that the shard is about to read it.
    while (!shard->post({ShardMessage::Kind::kStop, 0, 0, ++token_})) std::this_thread::yield();
  }
  launcher_.join();
  // Until here it has answered the duties that were draining.
  control_stop_ = true;
  control_.join();
  lane_->wait();
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
Result<void> Engine<Sources, Sink, Hook>::change_duties(GuestType& guest, ShardMessage::Kind kind) {
  if (shards_.empty() || guest.paused) return {};
  if (auto ok = change(guest.event_shard, kind, guest.event()); !ok) return ok;
  auto ok = std::visit([&](auto& duty) { return change(guest.command_shard, kind, *duty); },
                       guest.command());
  // Half a guest is never left on the shards.
  if (!ok) {
    (void)change(
        guest.event_shard,
        kind == ShardMessage::Kind::kAdd ? ShardMessage::Kind::kRemove : ShardMessage::Kind::kAdd,
        guest.event());
  }
  return ok;
}

template <FaultSourceSet Sources, InvalidationSink Sink, StepHook Hook>
template <class D>
Result<void> Engine<Sources, Sink, Hook>::change(std::size_t shard, ShardMessage::Kind kind,
                                                 D& duty) {
  CoreShard& on = *shards_[shard];
  const bool add = kind == ShardMessage::Kind::kAdd;
  if (add && !on.watch(duty)) {
    return fail(errno, "shard " + std::to_string(shard) + " cannot sleep on a duty's descriptors");
  }
  Result<void> done;
  if (running_) {
    done = tell(shard, {kind, CoreShard::template type_of<D>(),
                        reinterpret_cast<std::uintptr_t>(&duty), 0});
  } else if (!(add ? on.add(duty) : on.remove(duty))) {
    done = fail(0, "shard " + std::to_string(shard) + " cannot take or drop a duty");
  }
  if (done.has_value() != add) on.unwatch(duty);
  return done;
}

template <FaultSourceSet Sources, InvalidationSink Sink, StepHook Hook>
Result<void> Engine<Sources, Sink, Hook>::tell(std::size_t shard, ShardMessage message) {
  message.token = ++token_;
  const Nanos until = monotonic_ns() + kAckNs;
  bool sent = false;
  while (monotonic_ns() < until) {
    if (!sent) sent = shards_[shard]->post(message);
    std::uint64_t token = 0;
    bool accepted = false;
    while (shards_[shard]->take_ack(token, accepted)) {
      if (token != message.token) continue;
      if (accepted) return {};
      return fail(ENOSPC, "shard " + std::to_string(shard) + " refused a duty");
    }
    const timespec pause{0, 100'000};
    nanosleep(&pause, nullptr);
  }
  return fail(ETIMEDOUT, "shard " + std::to_string(shard) + " does not answer");
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
  while (!control_stop_) {
    {
      const std::lock_guard lock(mutex_);
      for (auto& guest : guests_) {
        if (!guest->paused) guest->serve_cold(*lane_);
      }
    }
    const timespec pause{0, static_cast<long>(kColdPollNs)};
    nanosleep(&pause, nullptr);
  }
}

}  // namespace faultline::engine
