// SPDX-License-Identifier: BSD-3-Clause
#include "engine/viommu/event_queue.h"

#include <gtest/gtest.h>

#include <deque>
#include <optional>
#include <thread>

#include "tests/engine/viommu_memory.h"

namespace faultline::viommu {
namespace {

constexpr std::uint64_t kRegs = 0x0900'0000;
constexpr std::uint64_t kBase = 0x4000'0000;
constexpr std::uint32_t kOvf = 1U << 31;

Event numbered(std::uint64_t n) {
  return {{n, ~n, n * 3, n ^ 0x5555}};
}

struct Fixture {
  explicit Fixture(unsigned log2, std::uint32_t prod = 0)
      : size(1U << log2), memory{{kRegs, kRegisterBytes}, {kBase, 0x10000}} {
    page = *RegisterPage::map(memory.get(), Gpa{kRegs});
    EXPECT_TRUE(queue.enable(memory.get(), page, kBase | log2, prod, 19));
  }
  void cons(std::uint32_t value) { page.store(Reg32::kEvtqCons, value); }
  std::uint32_t prod() const { return page.load(Reg32::kEvtqProd); }
  std::uint64_t slot(std::uint32_t i) const { return memory.word(kBase + 32U * i); }

  std::uint32_t size;
  test::Memory memory;
  RegisterPage page;
  EventQueue queue;
};

TEST(ViommuEventQueue, ShowsNothingBeforePublish) {
  Fixture f(3);
  EXPECT_TRUE(f.queue.place(numbered(1)));
  EXPECT_TRUE(f.queue.place(numbered(2)));
  EXPECT_EQ(f.prod(), 0U);
  EXPECT_EQ(f.queue.prod(), 0U);
  EXPECT_EQ(f.queue.staged_prod(), 2U);
  EXPECT_TRUE(f.queue.publish_exitless());
  EXPECT_EQ(f.prod(), 2U);
  EXPECT_FALSE(f.queue.publish_exitless());
  for (unsigned i = 0; i < 4; ++i) {
    EXPECT_EQ(f.memory.word(kBase + 32 + 8 * i), numbered(2).word[i]);
  }
}

/// Free slots straight from the architecture's cases; impossible indexes mean full (IHI
/// 0070 3.5.1).
std::uint32_t naive_free(std::uint32_t prod, std::uint32_t cons, std::uint32_t size) {
  const std::uint32_t p = prod % size, c = cons % size;
  const bool same_wrap = (prod / size) % 2 == (cons / size) % 2;
  if (p == c) return same_wrap ? size : 0;
  if (p > c) return same_wrap ? size - (p - c) : 0;
  return same_wrap ? 0 : c - p;
}

TEST(ViommuEventQueue, AgreesWithTheNaiveModelForEveryStateOfSmallQueues) {
  for (unsigned log2 = 0; log2 <= 3; ++log2) {
    Fixture f(log2);
    for (std::uint32_t p = 0; p < 4 * f.size; ++p) {
      for (std::uint32_t c = 0; c < 4 * f.size; ++c) {
        // The two upper halves stand for the overflow flags.
        const std::uint32_t prod = p % (2 * f.size) | (p >= 2 * f.size ? kOvf : 0);
        const std::uint32_t cons = c % (2 * f.size) | (c >= 2 * f.size ? kOvf : 0);
        f.queue.restore(prod);
        f.cons(cons);
        const std::uint32_t room = naive_free(prod % (2 * f.size), cons % (2 * f.size), f.size);
        ASSERT_EQ(f.queue.free_slots(), room) << prod << ' ' << cons;
        for (std::uint32_t i = 0; i < room; ++i) ASSERT_TRUE(f.queue.place(numbered(100 + i)));
        ASSERT_FALSE(f.queue.place(numbered(7)));
        for (std::uint32_t i = 0; i < room; ++i) ASSERT_EQ(f.slot((prod + i) % f.size), 100 + i);
        ASSERT_EQ(f.queue.staged_prod(), ((prod + room) % (2 * f.size)) | (prod & kOvf));
        const bool toggles = (prod & kOvf) == (cons & kOvf);
        ASSERT_EQ(f.queue.lose(), toggles);
        ASSERT_FALSE(toggles && f.queue.lose());  // no second toggle before the acknowledgement
        ASSERT_EQ((f.queue.staged_prod() & kOvf) != (prod & kOvf), toggles);
        ASSERT_EQ(f.queue.publish_exitless(), room != 0 || toggles);
        ASSERT_EQ(f.queue.prod(), f.queue.staged_prod());
      }
    }
  }
}

TEST(ViommuEventQueue, TogglesOverflowOnceUntilItIsAcknowledged) {
  Fixture f(1);
  EXPECT_TRUE(f.queue.place(numbered(0)));
  EXPECT_TRUE(f.queue.place(numbered(1)));
  EXPECT_FALSE(f.queue.place(numbered(2)));
  EXPECT_TRUE(f.queue.lose());
  EXPECT_FALSE(f.queue.lose());
  f.queue.publish_exitless();
  EXPECT_EQ(f.prod(), 2U | kOvf);
  EXPECT_FALSE(f.queue.lose());
  // Room without acknowledgement: events go on, a further loss cannot be shown.
  f.cons(1);
  EXPECT_TRUE(f.queue.place(numbered(3)));
  EXPECT_FALSE(f.queue.lose());
  f.queue.publish_exitless();
  EXPECT_EQ(f.prod(), 3U | kOvf);
  // Acknowledged: the next loss toggles back.
  f.cons(3 | kOvf);
  EXPECT_TRUE(f.queue.lose());
  f.queue.publish_exitless();
  EXPECT_EQ(f.prod(), 3U);
}

TEST(ViommuEventQueue, InterruptsATrappedGuestOnlyWhenItHadReadEverything) {
  Fixture f(3);
  f.queue.place(numbered(0));
  EXPECT_TRUE(f.queue.publish_trapped());
  f.queue.place(numbered(1));
  EXPECT_FALSE(f.queue.publish_trapped());  // it has one to read and will find this
  f.cons(1);
  f.queue.place(numbered(2));
  EXPECT_FALSE(f.queue.publish_trapped());
  f.cons(3);
  f.queue.place(numbered(3));
  EXPECT_TRUE(f.queue.publish_trapped());
  EXPECT_FALSE(f.queue.publish_trapped());  // nothing new
  f.cons(0);
  f.queue.lose();
  EXPECT_TRUE(f.queue.publish_trapped());  // overflow interrupts by itself
}

TEST(ViommuEventQueue, GoesOnFromAJournalledPosition) {
  Fixture f(3);
  f.queue.place(numbered(0));
  f.queue.lose();
  const std::uint32_t journalled = f.queue.staged_prod();
  EventQueue after;  // the engine was killed between journal and publish
  ASSERT_TRUE(after.enable(f.memory.get(), f.page, kBase | 3, journalled, 19));
  EXPECT_EQ(f.prod(), 0U);
  after.republish();
  EXPECT_EQ(f.prod(), 1U | kOvf);
  EXPECT_EQ(f.slot(0), 0U);
  EXPECT_TRUE(after.place(numbered(1)));
  EXPECT_EQ(f.slot(1), 1U);
}

TEST(ViommuEventQueue, DropsWhatWasStagedWhenDisabled) {
  Fixture f(3);
  f.queue.place(numbered(0));
  f.queue.disable();
  EXPECT_FALSE(f.queue.publish_exitless());
  EXPECT_FALSE(f.queue.place(numbered(1)));
  EXPECT_FALSE(f.queue.lose());  // while disabled a loss is no overflow
  EXPECT_EQ(f.prod(), 0U);
}

TEST(ViommuEventQueue, PlacesNothingOutsideGuestMemory) {
  Fixture f(3);
  EventQueue q;
  EXPECT_FALSE(q.enable(f.memory.get(), f.page, 0x1000 | 3, 0, 19));
  EXPECT_FALSE(q.usable());
  EXPECT_FALSE(q.place(numbered(0)));
  // 128 KiB of queue, of which guest memory has 64.
  EXPECT_FALSE(q.enable(f.memory.get(), f.page, kBase | 12, 0, 19));
  EXPECT_TRUE(q.enable(f.memory.get(), f.page, kBase | 31, 0, 11));
  EXPECT_EQ(q.log2size(), 11U);
}

/// The queue as the architecture tells it, with a list instead of indexes.
class Model {
 public:
  explicit Model(std::uint32_t size) : size_(size) {}
  bool place(std::uint64_t n) {
    if (visible_.size() + staged_.size() >= size_) return false;
    staged_.push_back(n);
    return true;
  }
  void lose() { pending_overflow_ = !overflow_; }
  void publish() {
    visible_.insert(visible_.end(), staged_.begin(), staged_.end());
    staged_.clear();
    overflow_ |= pending_overflow_;
    pending_overflow_ = false;
  }
  std::optional<std::uint64_t> read() {
    if (visible_.empty()) return std::nullopt;
    const std::uint64_t n = visible_.front();
    visible_.pop_front();
    return n;
  }
  bool overflow() const { return overflow_; }
  void acknowledge() { overflow_ = false; }

 private:
  std::size_t size_;
  std::deque<std::uint64_t> staged_, visible_;
  bool overflow_ = false, pending_overflow_ = false;
};

TEST(ViommuEventQueue, AgreesWithAListForAMillionStepsOfAProperGuest) {
  auto random = test::seeded(0xe7e7);
  for (unsigned log2 = 0; log2 <= 3; ++log2) {
    Fixture f(log2);
    Model model(f.size);
    std::uint32_t cons = 0;
    std::uint64_t next = 0;
    const std::uint32_t mask = 2 * f.size - 1;
    for (int step = 0; step < 250'000; ++step) {
      switch (random() % 5) {
        case 0:
        case 1: {
          const bool placed = f.queue.place(numbered(next));
          ASSERT_EQ(placed, model.place(next));
          ++next;
          if (!placed) {
            f.queue.lose();
            model.lose();
          }
          break;
        }
        case 2:
          f.queue.publish_exitless();
          model.publish();
          break;
        case 3: {  // the guest reads one event
          const bool empty = ((f.prod() ^ cons) & mask) == 0;
          const auto want = model.read();
          ASSERT_EQ(empty, !want.has_value());
          if (empty) break;
          ASSERT_EQ(f.slot(cons % f.size), *want);
          cons = (cons & kOvf) | ((cons + 1) & mask);
          f.cons(cons);
          break;
        }
        default:
          ASSERT_EQ(((f.prod() ^ cons) & kOvf) != 0, model.overflow());
          if (random() % 2 != 0) {
            cons = (cons & mask) | (f.prod() & kOvf);
            f.cons(cons);
            model.acknowledge();
          }
      }
    }
  }
}

TEST(ViommuEventQueue, NeverLeavesItsSlotsForAMillionHostileConsumerIndexes) {
  auto random = test::seeded(0xbad);
  for (unsigned log2 : {0U, 2U, 5U}) {
    Fixture f(log2);
    const std::uint64_t guard = 0x6a7d'6a7d'6a7d'6a7d;
    f.memory.put(kBase + 32U * f.size, {guard});
    std::uint32_t published = 0;
    for (int step = 0; step < 350'000; ++step) {
      const std::uint32_t cons = static_cast<std::uint32_t>(random());
      f.cons(cons);
      const std::uint32_t before = f.queue.staged_prod();
      const bool placed = f.queue.place(numbered(static_cast<std::uint64_t>(step)));
      const std::uint32_t after = f.queue.staged_prod();
      ASSERT_EQ(after & ~kOvf, placed ? ((before & ~kOvf) + 1) % (2 * f.size) : before & ~kOvf);
      if (placed) {
        ASSERT_EQ(f.slot((before & ~kOvf) % f.size), static_cast<std::uint64_t>(step));
      } else {
        f.queue.lose();
      }
      if (step % 7 == 0) {
        if (step % 2 == 0 ? f.queue.publish_exitless() : f.queue.dirty()) {
          f.queue.publish_trapped();
        }
        published = f.queue.prod();
      }
      ASSERT_EQ(f.prod(), published);
    }
    ASSERT_EQ(f.memory.word(kBase + 32U * f.size), guard);
  }
}

TEST(ViommuEventQueue, HandsARunningGuestEveryEventInOrder) {
  constexpr std::uint64_t kCount = 20'000;
  Fixture f(4);
  std::thread guest([&] {
    const auto* slots = static_cast<const std::uint64_t*>(f.memory.get().pointer(Gpa{kBase}, 512));
    std::uint32_t cons = 0;
    for (std::uint64_t n = 0; n < kCount;) {
      const std::uint32_t prod = f.page.acquire(Reg32::kEvtqProd);
      if (((prod ^ cons) & 31) == 0) std::this_thread::yield();
      while (((prod ^ cons) & 31) != 0) {
        Event got;
        copy_from_shared(got.word, slots + 4 * (cons & 15), sizeof got.word);
        EXPECT_EQ(got, numbered(n));
        ++n;
        cons = (cons + 1) & 31;
        f.page.release(Reg32::kEvtqCons, cons);
      }
    }
  });
  for (std::uint64_t n = 0; n < kCount;) {
    unsigned burst = 0;
    while (burst < 5 && n < kCount && f.queue.place(numbered(n))) ++burst, ++n;
    if (!f.queue.publish_exitless()) std::this_thread::yield();
  }
  guest.join();
}

}  // namespace
}  // namespace faultline::viommu
