// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <time.h>

#include <algorithm>
#include <cerrno>

#include "engine/engine.h"
#include "engine/nudge.h"

namespace faultline::engine {

// How Engine puts duties on shards that run, takes them off and moves them. Control path.

template <FaultSourceSet Sources, InvalidationSink Sink, StepHook Hook>
Result<void> Engine<Sources, Sink, Hook>::change_duties(GuestType& guest, ShardMessage::Kind kind) {
  if (shards_.empty() || guest.paused) return {};
  if (auto ok = change(guest.event_shard, kind, guest.event()); !ok) return ok;
  auto ok = std::visit([&](auto& duty) { return change(guest.command_shard, kind, *duty); },
                       guest.command());
  // Half a guest is never left on the shards: it may be freed next.
  if (!ok) {
    (void)change(
        guest.event_shard,
        kind == ShardMessage::Kind::kAdd ? ShardMessage::Kind::kRemove : ShardMessage::Kind::kAdd,
        guest.event(), Patience::kEndless);
  }
  return ok;
}

template <FaultSourceSet Sources, InvalidationSink Sink, StepHook Hook>
template <class D>
Result<void> Engine<Sources, Sink, Hook>::change(std::size_t shard, ShardMessage::Kind kind,
                                                 D& duty, Patience patience) {
  CoreShard& on = *shards_[shard];
  const bool add = kind == ShardMessage::Kind::kAdd;
  if (add && !on.watch(duty)) {
    return fail(errno, "shard " + std::to_string(shard) + " cannot sleep on a duty's descriptors");
  }
  Result<void> done;
  if (running_) {
    done = tell(
        shard, {kind, CoreShard::template type_of<D>(), reinterpret_cast<std::uintptr_t>(&duty), 0},
        patience);
  } else if (!(add ? on.add(duty) : on.remove(duty))) {
    done = fail(0, "shard " + std::to_string(shard) + " cannot take or drop a duty");
  }
  if (done.has_value() != add) on.unwatch(duty);
  return done;
}

template <FaultSourceSet Sources, InvalidationSink Sink, StepHook Hook>
Result<void> Engine<Sources, Sink, Hook>::tell(std::size_t shard, ShardMessage message,
                                               Patience patience) {
  CoreShard& to = *shards_[shard];
  message.token = ++token_;
  const Nanos until = monotonic_ns() + kAckNs;
  bool sent = false;
  bool answered = false;
  bool accepted = false;
  wait_for_shards([&] {
    if (!sent) sent = to.post(message);
    std::uint64_t token = 0;
    while (!answered && to.take_ack(token, accepted)) answered = token == message.token;
    if (answered) return true;
    // What it has begun to serve is answered; what it has not it never will.
    return patience == Patience::kSome && monotonic_ns() >= until &&
           (!sent || to.withdraw(message.token));
  });
  if (!answered) return fail(ETIMEDOUT, "shard " + std::to_string(shard) + " does not answer");
  if (!accepted) return fail(ENOSPC, "shard " + std::to_string(shard) + " refused a duty");
  return {};
}

template <FaultSourceSet Sources, InvalidationSink Sink, StepHook Hook>
template <class Done>
void Engine<Sources, Sink, Hook>::wait_for_shards(Done&& done) {
  Nanos nudged = 0;
  while (!done()) {
    const Nanos now = monotonic_ns();
    if (now - nudged >= kNudgeEveryNs) {
      nudged = now;
      (void)nudge_stalled(now - kHangNs);
    }
    const timespec pause{0, 100'000};
    nanosleep(&pause, nullptr);
  }
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
    if (auto back = change(at, ShardMessage::Kind::kAdd, duty, Patience::kEndless); !back) {
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

}  // namespace faultline::engine
