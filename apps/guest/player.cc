// SPDX-License-Identifier: BSD-3-Clause
#include "apps/guest/player.h"

#include <algorithm>

namespace faultline::guest {

Script make_script(const Trace& trace) {
  Script script;
  script.vcpus.resize(trace.vcpus);
  for (const Doorbell& d : trace.doorbells) {
    Group group{d.at, d.first, 0, false};
    std::size_t turn = d.vcpu;
    bool global = false;
    const auto close = [&] {
      auto& to = global ? script.prologue : script.vcpus[turn % trace.vcpus];
      to.push_back(group);
      global = false;
      ++turn;
    };
    for (std::uint32_t i = d.first; i < d.first + d.count; ++i) {
      const Command& c = trace.commands[i];
      if (c.opcode() == op::kSync) {
        group.sync = true;
        close();
        group = {d.at, i + 1, 0, false};
      } else {
        global = global || is_global(c);
        ++group.count;
      }
    }
    if (group.count > 0) close();
  }
  return script;
}

Player::Player(const Trace& trace, CommandQueue& queue, Histogram& latency, const Options& options)
    : trace_(trace),
      queue_(queue),
      latency_(latency),
      options_(options),
      script_(make_script(trace)),
      vcpus_(script_.vcpus.size()) {}

bool Player::ring(Vcpu& vcpu, const Group& group, Nanos now) {
  if (queue_.room() < std::size_t{group.count} + 1) return false;
  for (std::uint32_t i = 0; i < group.count; ++i) {
    queue_.push(trace_.commands[group.first + i]);
  }
  if (group.sync) {
    // The recorded guest had no MSI: its CMD_SYNCs complete by CONS.
    vcpu.sync = queue_.push_sync(false);
    vcpu.waits = true;
    vcpu.rung = now;
    ++syncs_;
    outstanding_sum_ += queue_.outstanding();
  }
  queue_.publish();
  return true;
}

bool Player::in_prologue() const noexcept {
  return options_.prologue && (prologue_.next < script_.prologue.size() || prologue_.waits);
}

bool Player::at_end(const Vcpu& vcpu, const std::vector<Group>& groups) const noexcept {
  return groups.empty() || (options_.loops != 0 && vcpu.played == options_.loops);
}

std::size_t Player::step(Nanos now, bool more) {
  std::size_t work = 0;
  if (in_prologue()) {
    work += step(prologue_, script_.prologue, now, more);
    if (in_prologue()) return work;
  }
  for (std::size_t v = 0; v < vcpus_.size(); ++v) {
    work += step(vcpus_[v], script_.vcpus[v], now, more);
  }
  return work;
}

std::size_t Player::step(Vcpu& vcpu, const std::vector<Group>& groups, Nanos now, bool more) {
  std::size_t work = 0;
  if (vcpu.waits) {
    if (!queue_.done(vcpu.sync)) return 0;
    vcpu.waits = false;
    vcpu.ready = now + options_.think + options_.ring;
    latency_.record(now - vcpu.rung);
    ++work;
  }
  if (!more || at_end(vcpu, groups) || now < vcpu.ready) return work;
  if (vcpu.next == groups.size()) {
    if (&vcpu == &prologue_) return work;
    vcpu.next = 0;
    vcpu.loop_start = now;
    ++loops_;
  }
  if (vcpu.loop_start == 0) vcpu.loop_start = now;
  const Group& group = groups[vcpu.next];
  if (options_.pace == Pace::kRecorded && now < vcpu.loop_start + group.at) return work;
  if (!ring(vcpu, group, now)) return work;
  vcpu.ready = now + options_.ring;
  if (++vcpu.next == groups.size()) ++vcpu.played;
  return work + 1;
}

Nanos Player::next_ring(Nanos now) const noexcept {
  Nanos next = kNever;
  const auto look = [&](const Vcpu& vcpu, const std::vector<Group>& groups) {
    if (!vcpu.waits && vcpu.ready > now && !at_end(vcpu, groups)) next = std::min(next, vcpu.ready);
  };
  if (in_prologue()) {
    look(prologue_, script_.prologue);
    return next;
  }
  for (std::size_t v = 0; v < vcpus_.size(); ++v) look(vcpus_[v], script_.vcpus[v]);
  return next;
}

bool Player::finished() const noexcept {
  if (in_prologue() || !idle()) return false;
  for (std::size_t v = 0; v < vcpus_.size(); ++v) {
    if (!at_end(vcpus_[v], script_.vcpus[v])) return false;
  }
  return true;
}

bool Player::idle() const noexcept {
  return !prologue_.waits &&
         std::none_of(vcpus_.begin(), vcpus_.end(), [](const Vcpu& v) { return v.waits; });
}

}  // namespace faultline::guest
