// SPDX-License-Identifier: BSD-3-Clause
#include "apps/live/event_tap.h"

#include <array>
#include <cstring>

#include "kernel/base/shared.h"

namespace faultline::live {
namespace {

constexpr std::size_t kEventBytes = 32;
constexpr std::uint64_t kQueueAddress = 0x000f'ffff'ffff'ffe0;

void add(guest::FaultCounts& to, const guest::FaultCounts& from) {
  to.produced += from.produced;
  to.delivered += from.delivered;
  to.lost_reported += from.lost_reported;
  to.lost_silent += from.lost_silent;
  to.misdelivered += from.misdelivered;
  to.duplicated += from.duplicated;
  to.dropped += from.dropped;
}

}  // namespace

EventTap::EventTap(const GuestView& view, const std::vector<StreamId>& sids,
                   const std::vector<void*>& ledgers)
    : view_(view), registers_(view.at(view.registers.value, guest::reg::kPageBytes)), sids_(sids) {
  for (void* ledger : ledgers) ledgers_.push_back(std::make_unique<soft::LedgerReader>(ledger));
}

bool EventTap::latch() {
  const auto* at = view_.at(view_.registers.value + guest::reg::kEvtqBase, 8);
  const std::uint64_t base = load_relaxed(*reinterpret_cast<const std::uint64_t*>(at));
  base_ = base & kQueueAddress;
  log2_ = static_cast<unsigned>(base & 0x1f);
  if (log2_ > 19 || view_.at(base_, kEventBytes << log2_) == nullptr) return false;
  prod_ = cons_ = 0;
  consumed_ = 0;
  overflow_ = acked_ = false;
  unread_.clear();
  audit_ = std::make_unique<guest::GuestAudit>(sids_, std::size_t{1} << log2_);
  return true;
}

std::size_t EventTap::take_events(Nanos now) {
  const std::uint32_t mask = (2U << log2_) - 1;
  // CONS first: an event that it has passed was published before.
  const std::uint32_t cons = registers_.read32(guest::reg::kEvtqCons);
  const std::uint32_t prod = registers_.read32(guest::reg::kEvtqProd);
  std::size_t fresh = 0;
  for (; (prod_ & mask) != (prod & mask); prod_ = (prod_ + 1) & mask, ++fresh) {
    guest::Observation o;
    o.at = now;
    copy_from_shared(o.words, view_.at(base_ + (prod_ & (mask >> 1)) * kEventBytes, kEventBytes),
                     sizeof o.words);
    unread_.push_back(o);
  }
  const bool overflow = (prod & guest::reg::kOverflow) != 0;
  if (overflow != overflow_) {
    overflow_ = overflow;
    ++overflows_;
    guest::Observation o;
    o.kind = guest::Observation::Kind::kOverflowSeen;
    o.at = now;
    o.consumed = consumed_;
    seen_.push_back(o);
  }
  for (; (cons_ & mask) != (cons & mask) && !unread_.empty(); cons_ = (cons_ + 1) & mask) {
    guest::Observation o = unread_.front();
    unread_.pop_front();
    o.consumed = consumed_++;
    seen_.push_back(o);
  }
  if (((cons & guest::reg::kOverflow) != 0) != acked_) {
    acked_ = !acked_;
    guest::Observation o;
    o.kind = guest::Observation::Kind::kOverflowAcked;
    o.at = now;
    o.consumed = consumed_;
    seen_.push_back(o);
  }
  return fresh;
}

std::size_t EventTap::poll(Nanos now) {
  const bool on = (registers_.read32(guest::reg::kCr0Ack) & guest::reg::kCr0EvtqEn) != 0;
  if (on && audit_ == nullptr && !latch()) return 0;
  std::size_t work = on ? take_events(now) : 0;
  // The ledgers after the queue: what is in the queue is in them a moment later.
  std::array<soft::LedgerEntry, 256> entries;
  for (std::size_t i = 0; i < ledgers_.size(); ++i) {
    for (std::size_t n = 0; (n = ledgers_[i]->read(entries)) > 0; work += n) {
      // Without an event queue nobody is due an event.
      for (std::size_t e = 0; e < n && audit_ != nullptr; ++e) audit_->ledger(i, entries[e]);
    }
  }
  if (audit_ == nullptr) return work;
  for (const guest::Observation& o : seen_) audit_->observed(o);
  seen_.clear();
  audit_->settle(now);
  return work;
}

void EventTap::finish() {
  if (audit_ != nullptr) audit_->finish();
}

void EventTap::restart() {
  if (audit_ == nullptr) return;
  // What was published and not read is nobody's loss: the queue ended with its reader.
  for (guest::Observation& o : unread_) {
    o.consumed = consumed_++;
    audit_->observed(o);
  }
  voided_ += unread_.size();
  audit_->finish();
  add(before_, audit_->counts());
  audit_ = nullptr;
  unread_.clear();
  seen_.clear();
}

guest::FaultCounts EventTap::counts() const noexcept {
  guest::FaultCounts all = before_;
  if (audit_ != nullptr) add(all, audit_->counts());
  all.delivered -= voided_;
  return all;
}

}  // namespace faultline::live
