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

Player::Player(const Trace& trace, CommandQueue& queue, Histogram& latency, Pace pace)
    : trace_(trace),
      queue_(queue),
      latency_(latency),
      pace_(pace),
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

std::size_t Player::step(Nanos now, bool more) {
  std::size_t work = 0;
  for (std::size_t v = 0; v < vcpus_.size(); ++v) {
    Vcpu& vcpu = vcpus_[v];
    if (vcpu.waits) {
      if (!queue_.done(vcpu.sync)) continue;
      vcpu.waits = false;
      latency_.record(now - vcpu.rung);
      ++work;
    }
    const std::vector<Group>& groups = script_.vcpus[v];
    if (!more || groups.empty()) continue;
    if (vcpu.next == groups.size()) {
      vcpu.next = 0;
      vcpu.loop_start = now;
      ++loops_;
    }
    if (vcpu.loop_start == 0) vcpu.loop_start = now;
    const Group& group = groups[vcpu.next];
    if (pace_ == Pace::kRecorded && now < vcpu.loop_start + group.at) continue;
    if (!ring(vcpu, group, now)) continue;
    ++vcpu.next;
    ++work;
  }
  return work;
}

bool Player::idle() const noexcept {
  return std::none_of(vcpus_.begin(), vcpus_.end(), [](const Vcpu& v) { return v.waits; });
}

}  // namespace faultline::guest
