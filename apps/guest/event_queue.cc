// SPDX-License-Identifier: BSD-3-Clause
#include "apps/guest/event_queue.h"

namespace faultline::guest {

EventQueue::EventQueue(GuestMemory& memory, Registers registers, unsigned log2size,
                       ObservationQueue& sink)
    : memory_(memory),
      registers_(registers),
      log2size_(log2size),
      sink_(sink),
      base_(memory.allocate(std::size_t{32} << log2size, std::size_t{32} << log2size)) {}

std::uint64_t EventQueue::base_register() const noexcept {
  return reg::kQueueRwa | base_.value | log2size_;
}

std::size_t EventQueue::depth() const noexcept {
  const std::uint32_t mask = (2U << log2size_) - 1;
  return (registers_.read32(reg::kEvtqProd) - cons_) & mask;
}

// Everything known was read: look at PROD again. Returns whether there is more.
bool EventQueue::refill() noexcept {
  const std::uint32_t mask = (2U << log2size_) - 1;
  // Acquire: pairs with the engine's release of PROD after the slots.
  const std::uint32_t prod = registers_.read32(reg::kEvtqProd);
  prod_at_ = monotonic_ns();
  if (((prod ^ prod_) & reg::kOverflow) != 0) {
    ++overflows_;
    sink_.push({Observation::Kind::kOverflowSeen, consumed_, prod_at_, {}});
  }
  prod_ = prod;
  if (((prod - cons_) & mask) > entries()) {
    ++violations_;
    prod_ = (prod & reg::kOverflow) | cons_;
  }
  if (((prod_ ^ cons_) & mask) != 0) return true;
  if ((prod_ & reg::kOverflow) != ack_) {
    ack_ = prod_ & reg::kOverflow;
    // Told before it is written: whatever the engine does after the acknowledgement comes later.
    sink_.push({Observation::Kind::kOverflowAcked, consumed_, prod_at_, {}});
    registers_.write32(reg::kEvtqCons, ack_ | cons_);
  }
  return false;
}

bool EventQueue::next(Observation& out) noexcept {
  const std::uint32_t mask = (2U << log2size_) - 1;
  // An event and two observations of an overflow must fit.
  if (sink_.room() < 4) return false;
  if (((prod_ ^ cons_) & mask) == 0 && !refill()) return false;
  out = {Observation::Kind::kEvent, consumed_, prod_at_, {}};
  std::uint64_t* slot = &memory_.word(base_ + 32 * std::uint64_t{cons_ & (mask >> 1)});
  for (std::size_t i = 0; i < 4; ++i) {
    out.words[i] = load_relaxed(slot[i]);
    store_relaxed(slot[i], kPoison);
  }
  sink_.push(out);
  ++consumed_;
  cons_ = (cons_ + 1) & mask;
  // Released after the slot was read: the engine may write it again.
  registers_.write32(reg::kEvtqCons, ack_ | cons_);
  return true;
}

}  // namespace faultline::guest
