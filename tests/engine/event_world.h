// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/event_duty.h"

// What an EventDuty lives between: a kernel that keeps its state when the engine dies, guest
// memory, and a guest that reads its event queue only when it is interrupted.

namespace faultline::engine::testing_world {

/// Fault rings of a kernel that counts what it drops, as ABI 2 does.
class FakeKernel {
 public:
  struct Slot {
    std::uint64_t addr = 0;
    std::uint64_t lost = 0;  ///< dropped before this one
  };
  struct Ring {
    std::vector<Slot> slots;  ///< everything ever accepted; the ring is [cons, slots.size())
    std::uint64_t cons = 0;
    std::uint64_t lost = 0;
    std::uint64_t next_addr = 0;
    std::vector<std::uint64_t> produced;  ///< addresses, dropped ones too
  };

  explicit FakeKernel(std::size_t devices, std::size_t capacity)
      : rings_(devices), capacity_(capacity) {}

  void produce(std::size_t device) {
    Ring& ring = rings_[device];
    const std::uint64_t addr = 0x1000 * ++ring.next_addr;
    ring.produced.push_back(addr);
    if (ring.slots.size() - ring.cons >= capacity_) {
      ++ring.lost;
    } else {
      ring.slots.push_back({addr, ring.lost});
    }
  }
  [[nodiscard]] std::size_t devices() const { return rings_.size(); }
  Ring& ring(std::size_t i) { return rings_[i]; }
  int refuse_commits = 0;

 private:
  std::vector<Ring> rings_;
  std::size_t capacity_;
};

/// The engine's half; dies with it.
class FakeSources {
 public:
  explicit FakeSources(FakeKernel& kernel, const EventJournal* resume = nullptr)
      : kernel_(&kernel), at_(kernel.devices()) {
    for (std::size_t i = 0; resume != nullptr && i < at_.size(); ++i) {
      at_[i] = resume->resume_position(i);
    }
  }
  [[nodiscard]] std::size_t size() const noexcept { return at_.size(); }
  std::size_t poll(std::size_t i, std::span<FaultRecord> out) noexcept {
    FakeKernel::Ring& ring = kernel_->ring(i);
    std::size_t n = 0;
    for (; n < out.size() && at_[i].next < ring.slots.size(); ++n) {
      const FakeKernel::Slot& slot = ring.slots[at_[i].next++];
      out[n] = FaultRecord{};
      out[n].form = FaultRecord::Form::kReason;
      out[n].reason = FaultReason::kPteFetch;
      out[n].has_addr = true;
      out[n].addr = slot.addr;
      out[n].lost_before = static_cast<std::uint32_t>(slot.lost - at_[i].lost);
      at_[i].lost = slot.lost;
    }
    return n;
  }
  [[nodiscard]] SourcePosition position(std::size_t i) const noexcept { return at_[i]; }
  int commit(std::size_t i) noexcept {
    if (kernel_->refuse_commits > 0) {
      --kernel_->refuse_commits;
      return -EIO;
    }
    kernel_->ring(i).cons = at_[i].next;
    return 0;
  }
  SourceLoss take_loss(std::size_t i) noexcept {
    const FakeKernel::Ring& ring = kernel_->ring(i);
    if (at_[i].next != ring.slots.size() || at_[i].lost == ring.lost) return {};
    return {.exact = ring.lost - std::exchange(at_[i].lost, ring.lost), .possible = 0};
  }
  std::size_t housekeeping(Nanos) noexcept { return 0; }

 private:
  FakeKernel* kernel_;
  std::vector<SourcePosition> at_;
};
static_assert(FaultSourceSet<FakeSources>);

/// Memory of one guest with a register page at kRegisters.
class GuestRam {
 public:
  static constexpr std::uint64_t kBytes = 0x80000;
  static constexpr Gpa kRegisters{0x10000};
  static constexpr std::uint64_t kQueue = 0x40000;

  GuestRam() : fd_(memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING)) {
    EXPECT_EQ(ftruncate(fd_, kBytes), 0);
    EXPECT_EQ(fcntl(fd_, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    host_ = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
    const MemoryRegion region{Gpa{0}, kBytes, host_, fd_};
    auto made = viommu::GuestMemory::make(std::span(&region, 1));
    EXPECT_TRUE(made.has_value());
    memory_.emplace(std::move(*made));
    page_ = *viommu::RegisterPage::map(*memory_, kRegisters);
  }
  GuestRam(const GuestRam&) = delete;
  GuestRam& operator=(const GuestRam&) = delete;
  ~GuestRam() {
    memory_.reset();
    munmap(host_, kBytes);
    close(fd_);
  }
  [[nodiscard]] const viommu::GuestMemory& memory() const { return *memory_; }
  [[nodiscard]] const viommu::RegisterPage& page() const { return page_; }

 private:
  int fd_;
  void* host_ = nullptr;
  std::optional<viommu::GuestMemory> memory_;
  viommu::RegisterPage page_;
};

/// A guest driver: reads when interrupted, acknowledges overflows, keeps a ledger.
class FakeGuest {
 public:
  struct Entry {
    bool overflow = false;
    std::uint32_t sid = 0;
    std::uint64_t addr = 0;
    std::size_t seen = 0;      ///< number of the reading whose PROD covered it first
    std::uint64_t second = 0;  ///< word 1: STAG, STALL and the rest
  };

  FakeGuest(const viommu::GuestMemory& memory, const viommu::RegisterPage& registers, Gpa queue,
            unsigned log2size)
      : page(registers),
        eventfd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
        log2size_(log2size),
        queue_(static_cast<std::uint64_t*>(memory.pointer(queue, std::uint64_t{32} << log2size))) {}
  FakeGuest(GuestRam& ram, unsigned log2size)
      : FakeGuest(ram.memory(), ram.page(), Gpa{GuestRam::kQueue}, log2size) {}
  FakeGuest(const FakeGuest&) = delete;
  FakeGuest& operator=(const FakeGuest&) = delete;
  ~FakeGuest() { close(eventfd_); }

  [[nodiscard]] int eventfd_of() const { return eventfd_; }
  bool interrupted() {
    std::uint64_t count = 0;
    return ::read(eventfd_, &count, sizeof count) == sizeof count;
  }

  /// Take at most `most` events; the overflow is acknowledged when the queue is empty.
  void read_events(std::size_t most = SIZE_MAX) {
    ++reads_;
    const std::uint32_t prod = page.acquire(viommu::Reg32::kEvtqProd);
    constexpr std::uint32_t kFlag = viommu::queue::kOverflow;
    if (((prod ^ seen_) & kFlag) != 0) log.push_back({true, 0, 0, reads_, 0});
    seen_ = prod;
    const std::uint32_t mask = (2U << log2size_) - 1;
    while (waiting_.size() < ((prod - cons_) & mask)) waiting_.push_back(reads_);
    while ((cons_ & mask) != (prod & mask) && most-- > 0) {
      std::uint64_t word[4];
      copy_from_shared(word, queue_ + 4 * std::size_t{cons_ & (mask >> 1)}, sizeof word);
      log.push_back(
          {false, static_cast<std::uint32_t>(word[0] >> 32), word[2], waiting_.front(), word[1]});
      waiting_.pop_front();
      cons_ = (cons_ + 1) & mask;
    }
    const bool drained = (cons_ & mask) == (prod & mask);
    acknowledged_ = drained ? prod & kFlag : acknowledged_;
    // As a VMM that traps has to: CONS seq_cst, then PROD seq_cst; the duty does the mirror image.
    exchange_seq_cst(page.at(viommu::Reg32::kEvtqCons), cons_ | acknowledged_);
  }
  [[nodiscard]] bool drained() const {
    const std::uint32_t mask = (2U << log2size_) - 1;
    return (load_seq_cst(page.at(viommu::Reg32::kEvtqProd)) & mask) == (cons_ & mask);
  }

  viommu::RegisterPage page;
  std::vector<Entry> log;

 private:
  int eventfd_;
  unsigned log2size_;
  const std::uint64_t* queue_;
  std::uint32_t cons_ = 0;
  std::uint32_t seen_ = 0;
  std::uint32_t acknowledged_ = 0;
  std::size_t reads_ = 0;
  std::deque<std::size_t> waiting_;  ///< of the events in the queue: when each was seen first
};

/// Nothing twice, nothing out of order, and every gap has an overflow that the guest saw no earlier
/// than the event before the gap.
///
/// all      of each device: the addresses of its faults in order, dropped ones too, all different
inline void audit(const std::vector<std::vector<std::uint64_t>>& all, const FakeGuest& guest,
                  std::span<const StreamId> vsids) {
  for (std::size_t d = 0; d < all.size(); ++d) {
    const std::vector<std::uint64_t>& produced = all[d];
    std::size_t next = 0;
    std::size_t since = 0;  // when the guest saw the last event before a gap
    const auto covered = [&] {
      return std::any_of(guest.log.begin(), guest.log.end(),
                         [&](const FakeGuest::Entry& e) { return e.overflow && e.seen >= since; });
    };
    for (const FakeGuest::Entry& e : guest.log) {
      if (e.overflow || e.sid != vsids[d].value) continue;
      const auto at =
          std::find(produced.begin() + static_cast<std::ptrdiff_t>(next), produced.end(), e.addr);
      ASSERT_NE(at, produced.end()) << "device " << d << ": " << std::hex << e.addr
                                    << " doubled, misplaced or never produced";
      const auto index = static_cast<std::size_t>(at - produced.begin());
      if (index != next) {
        ASSERT_TRUE(covered()) << "device " << d << " lost " << index - next << " in silence";
      }
      next = index + 1;
      since = e.seen;
    }
    if (next != produced.size()) {
      ASSERT_TRUE(covered()) << "device " << d << " lost the last in silence";
    }
  }
}

inline void audit(FakeKernel& kernel, const FakeGuest& guest, std::span<const StreamId> vsids) {
  std::vector<std::vector<std::uint64_t>> all;
  for (std::size_t d = 0; d < kernel.devices(); ++d) all.push_back(kernel.ring(d).produced);
  audit(all, guest, vsids);
}

/// A clock that tests own.
struct CountingClock {
  Nanos* now;
  Nanos operator()() const noexcept { return *now += 10; }
};

/// Stops at the nth passing of one step.
struct StopAt {
  std::optional<JournalStep> step;
  int* left;
  bool operator()(JournalStep at) noexcept { return step && at == *step && --*left == 0; }
};

/// One guest, its EventDuty, and the messages that its CommandDuty would send.
struct Bench {
  explicit Bench(std::size_t devices = 2, unsigned log2size = 4, std::size_t capacity = 64,
                 RegisterMode mode = RegisterMode::kExitless)
      : kernel(devices, capacity),
        guest(ram, log2size),
        journal(*Journal::create("test", devices, 0)),
        sources(kernel) {
    for (std::size_t i = 0; i < devices; ++i)
      vsids.push_back(StreamId{0x100 + 8 * static_cast<std::uint32_t>(i)});
    EventDutySetup setup;
    setup.memory = &ram.memory();
    setup.page = ram.page();
    setup.mode = mode;
    setup.vsids = vsids;
    setup.evtq_eventfd = guest.eventfd_of();
    setup.gerror_eventfd = gerror_fd;
    setup.rings = &rings;
    duty = std::make_unique<EventDuty<FakeSources, NoHook, CountingClock>>(
        sources, setup, journal.event(), NoHook{}, CountingClock{&now});
    enable = {.kind = ToEventDuty::Kind::kEnableEvtq, .token = 1, .base = GuestRam::kQueue};
    enable.log2size = log2size;
  }
  ~Bench() { close(gerror_fd); }

  ToCommandDuty ask(ToEventDuty message) {
    message.token = ++token;
    EXPECT_TRUE(rings.to_event.push(message));
    duty->round(++now);
    ToCommandDuty answer;
    EXPECT_TRUE(rings.to_command.pop(answer));
    EXPECT_EQ(answer.token, token);
    return answer;
  }
  void start() {
    ask({.kind = ToEventDuty::Kind::kIrqControl,
         .bits = viommu::irq_ctrl::kEvtq | viommu::irq_ctrl::kGerror});
    ask(enable);
  }
  std::size_t round() { return duty->round(++now); }

  Nanos now = 0;
  std::uint32_t token = 0;
  GuestRam ram;
  FakeKernel kernel;
  FakeGuest guest;
  Journal journal;
  GuestRings rings;
  FakeSources sources;
  std::vector<StreamId> vsids;
  int gerror_fd = eventfd(0, EFD_NONBLOCK);
  ToEventDuty enable;
  std::unique_ptr<EventDuty<FakeSources, NoHook, CountingClock>> duty;
};

}  // namespace faultline::engine::testing_world
