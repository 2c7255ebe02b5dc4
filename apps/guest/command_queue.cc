// SPDX-License-Identifier: BSD-3-Clause
#include "apps/guest/command_queue.h"

#include <algorithm>

namespace faultline::guest {

CommandQueue::CommandQueue(GuestMemory& memory, Registers registers, unsigned log2size)
    : memory_(memory),
      registers_(registers),
      log2size_(log2size),
      base_(memory.allocate(std::size_t{16} << log2size, std::size_t{16} << log2size)) {
  outstanding_.reserve(256);
}

std::uint64_t CommandQueue::base_register() const noexcept {
  return reg::kQueueRwa | base_.value | log2size_;
}

std::uint64_t* CommandQueue::slot(Position at) const noexcept {
  const std::uint64_t index = at & ((std::uint64_t{1} << log2size_) - 1);
  return &memory_.word(base_ + 16 * index);
}

std::size_t CommandQueue::room() const noexcept {
  const Position oldest = outstanding_.empty() ? tail_ : outstanding_.front().position;
  return (std::size_t{1} << log2size_) - static_cast<std::size_t>(head_ - std::min(tail_, oldest));
}

void CommandQueue::put(const Command& command) noexcept {
  std::uint64_t* at = slot(head_);
  store_relaxed(at[0], command.word[0]);
  store_relaxed(at[1], command.word[1]);
  ++head_;
}

void CommandQueue::push(const Command& command) noexcept {
  put(command);
}

Position CommandQueue::push_sync(bool by_msi) noexcept {
  const Position at = head_;
  const std::uint64_t index = at & ((std::uint64_t{1} << log2size_) - 1);
  put(by_msi ? sync_by_msi(base_ + 16 * index, 0) : sync_by_cons());
  outstanding_.push_back({at, by_msi});
  ++syncs_;
  return at;
}

void CommandQueue::publish() noexcept {
  if (published_ == head_) return;
  published_ = head_;
  const std::uint64_t mask = (std::uint64_t{2} << log2size_) - 1;
  // Released after the commands; pairs with the engine's acquire of CMDQ_PROD.
  registers_.write32(reg::kCmdqProd, static_cast<std::uint32_t>(head_ & mask));
}

std::size_t CommandQueue::poll() noexcept {
  const std::uint64_t mask = (std::uint64_t{2} << log2size_) - 1;
  // Acquire: pairs with the engine's release of CONS, so an MSI written before it is seen below.
  const std::uint64_t cons = registers_.read32(reg::kCmdqCons) & mask;
  const Position next = tail_ + ((cons - tail_) & mask);
  if (next <= published_) {
    tail_ = next;
  } else {
    ++violations_;
  }
  std::size_t seen = 0;
  // CMD_SYNCs complete in queue order, so only the front is looked at.
  while (!outstanding_.empty()) {
    const Outstanding& o = outstanding_.front();
    const bool passed = tail_ > o.position;
    if (o.by_msi) {
      // The MSI overwrites the command's first word, whose low half is never 0.
      const auto* word = reinterpret_cast<std::uint32_t*>(slot(o.position));
      const bool written = load_acquire(*word) == 0;
      if (!written && !passed) break;
      if (!written) ++violations_;
    } else if (!passed) {
      break;
    }
    outstanding_.erase(outstanding_.begin());
    ++syncs_completed_;
    ++seen;
  }
  return seen;
}

bool CommandQueue::done(Position sync) const noexcept {
  return outstanding_.empty() || sync < outstanding_.front().position;
}

void CommandQueue::handle_error() noexcept {
  const std::uint32_t cons = registers_.read32(reg::kCmdqCons);
  const std::uint32_t code = cons >> reg::kConsErrShift & reg::kConsErrMask;
  ++errors_handled_;
  if (code != reg::kErrIllegal) return;
  const std::uint64_t mask = (std::uint64_t{2} << log2size_) - 1;
  const Position at = tail_ + ((cons - tail_) & mask);
  for (Outstanding& o : outstanding_) {
    if (o.position == at) o.by_msi = false;
  }
  const Command sync = sync_by_cons();
  std::uint64_t* words = slot(at);
  store_relaxed(words[0], sync.word[0]);
  store_relaxed(words[1], sync.word[1]);
}

}  // namespace faultline::guest
