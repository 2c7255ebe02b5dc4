// SPDX-License-Identifier: BSD-3-Clause
#include "apps/guest/dma_checker.h"

#include "kernel/base/shared.h"

namespace faultline::guest {
namespace {

using soft::DmaRequest;
using soft::DmaStatus;

// Slots are consecutive pages from here; above every IOVA of the traces, which stay below 4 GiB.
constexpr std::uint64_t kSlotsAt = 0x10'0000'0000ULL;
// 2^38 and up, within 39 bits of input: nothing is ever mapped there.
constexpr std::uint64_t kNothingAt = 0x40'0000'0000ULL;
constexpr std::uint64_t kNothingMask = 0x3f'ffff'ffc0ULL;

Leaf leaf_of(std::size_t slot) {
  if (slot < DmaChecker::kOrdinary) return Leaf::kReadWrite;
  if (slot < DmaChecker::kOrdinary + 2) return Leaf::kReadOnly;
  return slot == DmaChecker::kOrdinary + 2 ? Leaf::kNotAccessed : Leaf::kTooFar;
}

bool allows(Leaf leaf, bool write) {
  return leaf == Leaf::kReadWrite || (leaf == Leaf::kReadOnly && !write);
}

}  // namespace

DmaChecker::DmaChecker(void* bar, unsigned device, PagePool& pool, std::uint64_t seed)
    : client_(bar), device_(device), pool_(pool), rng_(seed * 2 + 1) {
  for (std::size_t i = 0; i < kSlots; ++i) {
    slots_[i].iova = Iova{kSlotsAt + i * kPage4K};
    slots_[i].leaf = leaf_of(i);
  }
  for (std::size_t i = requests_.size(); i-- > 0;) free_.push_back(static_cast<std::uint16_t>(i));
}

void DmaChecker::add(std::uint64_t& counter, std::uint64_t n) noexcept {
  store_relaxed(counter, counter + n);
}

// xorshift64*: fast, and the same on every machine for the same seed.
std::uint64_t DmaChecker::random() noexcept {
  rng_ ^= rng_ >> 12;
  rng_ ^= rng_ << 25;
  rng_ ^= rng_ >> 27;
  return rng_ * 0x2545f4914f6cdd1dULL >> 16;
}

void DmaChecker::submit(std::uint64_t iova, std::uint8_t flags, const Request& request) {
  if (in_flight_ >= kMostInFlight) return;
  const std::uint16_t index = free_.back();
  const DmaRequest d{.iova = iova,
                     .value = request.value,
                     .length = 8,
                     .flags = flags,
                     .unused = 0,
                     .ssid = 0,
                     .cookie = index};
  if (!client_.submit(d)) return;
  free_.pop_back();
  requests_[index] = request;
  ++in_flight_;
  if (request.doomed) ++faults_in_flight_;
  if (request.write && !request.nothing) ++slots_[request.slot].writes_in_flight;
  unpublished_ = true;
}

void DmaChecker::touch(std::size_t index, bool write) {
  Slot& slot = slots_[index];
  // One write at a time, so that what lands can be told.
  if (write && slot.writes_in_flight > 0) write = false;
  Request r;
  r.write = write;
  r.slot = static_cast<std::uint16_t>(index);
  r.line = static_cast<std::uint16_t>(random() % PagePool::kLines);
  r.step = slot.step;
  r.doomed = !blocked_ && (slot.synced() || !allows(slot.leaf, write));
  r.value = write ? 0xd0ULL << 56 | ++writes_ : 0;
  const std::uint64_t iova = slot.iova.value + r.line * PagePool::kLine + (write ? 8U : 0U);
  submit(iova, write ? DmaRequest::kWrite : 0, r);
}

void DmaChecker::touch_nothing() {
  // One in four repeats the access before it: identical records must be told apart, too.
  const std::uint64_t dice = random();
  if (dice % 4 != 0) {
    ++missing_;
    const bool write = (dice >> 8 & 1) != 0;
    nothing_flags_ = write ? DmaRequest::kWrite : 0;
    if ((dice >> 12 & 7) == 0) nothing_flags_ |= DmaRequest::kPriv;
    if (!write && (dice >> 16 & 7) == 0) nothing_flags_ |= DmaRequest::kExec;
  }
  Request r;
  r.nothing = true;
  r.doomed = !blocked_;
  r.write = (nothing_flags_ & DmaRequest::kWrite) != 0;
  r.value = 0xbadULL;
  submit(kNothingAt | (missing_ * PagePool::kLine & kNothingMask), nothing_flags_, r);
}

void DmaChecker::ring() noexcept {
  if (unpublished_) client_.ring();
  unpublished_ = false;
}

std::size_t DmaChecker::take() {
  std::array<soft::DmaCompletion, 32> done;
  const std::size_t n = client_.complete(done);
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint64_t cookie = done[i].cookie;
    if (cookie >= requests_.size() || in_flight_ == 0) {
      add(stats_.wrong);
      continue;
    }
    const Request r = requests_[cookie];
    free_.push_back(static_cast<std::uint16_t>(cookie));
    --in_flight_;
    if (r.doomed) --faults_in_flight_;
    judge(r, done[i]);
    if (r.write && !r.nothing) --slots_[r.slot].writes_in_flight;
  }
  add(stats_.completed, n);
  return n;
}

void DmaChecker::judge(const Request& r, const soft::DmaCompletion& c) noexcept {
  const Slot& slot = slots_[r.slot];
  if (c.status == DmaStatus::kFaulted) add(stats_.faulted);
  if (blocked_) {
    if (c.status != DmaStatus::kAborted) add(stats_.stale);
    return;
  }
  if (c.status == DmaStatus::kFaulted) {
    const bool due = r.nothing || !allows(slot.leaf, r.write) || may_fault(r.step, slot.step);
    if (!due) add(stats_.wrong);
    return;
  }
  if (c.status != DmaStatus::kOk || r.nothing || !allows(slot.leaf, r.write)) {
    add(stats_.wrong);
    return;
  }
  if (r.write) {
    judge_write(r, slot);
  } else {
    judge_read(r, slot, c.value);
  }
}

void DmaChecker::judge_read(const Request& r, const Slot& slot, std::uint64_t value) noexcept {
  if (value == PagePool::kResting) {
    add(stats_.stale);
    return;
  }
  // The tag holds 32 bits of the generation; the nearest one to the slot's is meant.
  const std::uint64_t now = slot.generation();
  const std::uint64_t g = now - static_cast<std::uint32_t>(now - value);
  if (make_tag(device_, r.slot, g) != value) {
    add(stats_.wrong);
  } else if (!may_use(g, r.step, slot.step)) {
    add(stats_.stale);
  }
}

void DmaChecker::judge_write(const Request& r, const Slot& slot) noexcept {
  if (r.step == slot.step && slot.synced()) {
    add(stats_.stale);
  } else if (r.step == slot.step && slot.mapped() &&
             pool_.written_word(slot.page, r.line) != r.value) {
    // Mapped all the time, and said to be done, but it went to where an older mapping led.
    add(stats_.stale);
  }
}

bool DmaChecker::next_generation(std::size_t index) noexcept {
  Slot& slot = slots_[index];
  std::uint64_t written = 0;
  const std::uint64_t tag = make_tag(device_, static_cast<unsigned>(index), slot.generation() + 1);
  if (!pool_.take(tag, slot.page, written)) return false;
  add(stats_.stale, written);
  return true;
}

}  // namespace faultline::guest
