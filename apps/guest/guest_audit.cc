// SPDX-License-Identifier: BSD-3-Clause
#include "apps/guest/guest_audit.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace faultline::guest {
namespace {

// Version 1 carries the type, the SubstreamID, the address and the access (RnW, InD, PnU).
constexpr std::uint64_t kAccessBits = 7ULL << 33;
constexpr std::uint64_t kTranslationFault = 0x10;
// In place of the number of an event that never came.
constexpr std::uint64_t kEnd = ~std::uint64_t{0};
// How far ahead a later neighbour is looked for: more than any kernel queue holds.
constexpr std::size_t kLookAhead = 8192;

}  // namespace

GuestAudit::GuestAudit(std::vector<StreamId> sids, std::size_t entries, bool typeless)
    : entries_(entries), typeless_(typeless) {
  for (const StreamId sid : sids) {
    devices_.emplace_back();
    devices_.back().sid = sid;
  }
}

void GuestAudit::ledger(std::size_t i, const soft::LedgerEntry& entry) {
  Device& device = devices_[i];
  device.ledger_at = entry.timestamp_ns;
  ++counts_.produced;
  if (entry.outcome != soft::LedgerOutcome::kProduced) {
    ++counts_.dropped;
    ++device.dropped;
    return;
  }
  Expected e;
  std::copy(std::begin(entry.event), std::end(entry.event), e.words);
  // The host's StreamID gives way to the guest's; nothing else may change.
  e.words[0] = (e.words[0] & 0xffff'ffffULL) | std::uint64_t{device.sid.value} << 32;
  if (typeless_) e.words[0] = (e.words[0] & ~std::uint64_t{0xff}) | kTranslationFault;
  e.at = entry.timestamp_ns;
  e.abi = entry.abi;
  e.dropped_before = std::exchange(device.dropped, 0);
  device.expected.push_back(e);
}

bool GuestAudit::same(const Expected& e, const std::uint64_t (&words)[4]) noexcept {
  if (e.words[0] != words[0] || e.words[2] != words[2]) return false;
  if (e.abi == 1) return ((e.words[1] ^ words[1]) & kAccessBits) == 0;
  return e.words[1] == words[1] && e.words[3] == words[3];
}

void GuestAudit::observed(const Observation& observation) {
  switch (observation.kind) {
    case Observation::Kind::kOverflowSeen:
      flagged_.push_back({observation.consumed, 0, true});
      break;
    case Observation::Kind::kOverflowAcked:
      for (Flagged& f : flagged_) {
        if (f.open) f = {f.seen, observation.consumed, false};
      }
      break;
    case Observation::Kind::kEvent:
      waiting_.push_back(observation);
      break;
  }
}

void GuestAudit::settle(Nanos now) {
  while (!waiting_.empty() && judge(waiting_.front(), now, false)) waiting_.pop_front();
  // Intervals that no gap from here on can reach.
  std::uint64_t oldest = waiting_.empty() ? ~std::uint64_t{0} : waiting_.front().consumed;
  for (const Device& d : devices_) oldest = std::min(oldest, d.after_last);
  while (flagged_.size() > 1024 && !flagged_.front().open &&
         flagged_.front().acked + 2 * entries_ < oldest) {
    flagged_.pop_front();
  }
}

void GuestAudit::finish() {
  for (const Observation& o : waiting_) judge(o, 0, true);
  waiting_.clear();
  for (Device& device : devices_) {
    std::uint64_t n = std::exchange(device.dropped, 0);
    for (const Expected& e : device.expected) n += 1 + e.dropped_before;
    const std::uint64_t address = device.expected.empty() ? 0 : device.expected.front().words[2];
    device.expected.clear();
    if (n > 0) lost(device, n, address, kEnd);
  }
}

std::size_t GuestAudit::pending() const noexcept {
  std::size_t n = 0;
  for (const Device& d : devices_) n += d.expected.size();
  return n;
}

// n events are missing between the last one delivered and the one that was read as number `before`.
void GuestAudit::lost(Device& device, std::uint64_t n, std::uint64_t address,
                      std::uint64_t before) {
  const std::uint64_t slack = 2 * std::uint64_t{entries_};
  const std::uint64_t from = device.after_last > slack ? device.after_last - slack : 0;
  const bool covered = std::any_of(flagged_.begin(), flagged_.end(), [&](const Flagged& f) {
    return f.seen <= before && (f.open || f.acked >= from);
  });
  (covered ? counts_.lost_reported : counts_.lost_silent) += n;
  if (!covered && first_loss_.faults == 0) {
    first_loss_ = {n, device.sid, address, device.after_last, before == kEnd};
  }
}

void GuestAudit::deliver(Device& device, std::size_t at, const Observation& o) {
  std::uint64_t missing = 0;
  const std::uint64_t first = at == 0 ? 0 : device.expected.front().words[2];
  for (std::size_t i = 0; i < at; ++i) {
    missing += 1 + device.expected.front().dropped_before;
    device.expected.pop_front();
  }
  Expected e = device.expected.front();
  device.expected.pop_front();
  missing += std::exchange(e.dropped_before, 0);
  if (missing > 0) lost(device, missing, first, o.consumed);
  device.after_last = o.consumed + 1;
  ++counts_.delivered;
  latency_.record(o.at > e.at ? o.at - e.at : 0);
  device.delivered.push_back(e);
  if (device.delivered.size() > kHistory) device.delivered.pop_front();
}

// Returns false if the ledger entry of this event may still come.
bool GuestAudit::judge(const Observation& o, Nanos now, bool final) {
  const auto sid = static_cast<std::uint32_t>(o.words[0] >> 32);
  const auto device = std::find_if(devices_.begin(), devices_.end(),
                                   [&](const Device& d) { return d.sid.value == sid; });
  if (device == devices_.end()) {
    ++counts_.misdelivered;
    return true;
  }
  const auto end = device->expected.begin() +
                   static_cast<std::ptrdiff_t>(std::min(device->expected.size(), kLookAhead));
  const auto match = std::find_if(device->expected.begin(), end,
                                  [&](const Expected& e) { return same(e, o.words); });
  if (match != end) {
    deliver(*device, static_cast<std::size_t>(match - device->expected.begin()), o);
    return true;
  }
  // The ledger is in the order of time: once it is past the reading, the entry is not to come.
  if (!final && device->ledger_at <= o.at && now < o.at + kGrace) return false;
  const bool again = std::any_of(device->delivered.rbegin(), device->delivered.rend(),
                                 [&](const Expected& e) { return same(e, o.words); });
  ++(again ? counts_.duplicated : counts_.misdelivered);
  if (!again && !first_stranger_.found) {
    first_stranger_ = {true, o.consumed, {o.words[0], o.words[1], o.words[2], o.words[3]}};
  }
  return true;
}

}  // namespace faultline::guest
