// SPDX-License-Identifier: BSD-3-Clause
#include "engine/viommu/command_queue.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "tests/engine/viommu_memory.h"

namespace faultline::viommu {
namespace {

constexpr std::uint64_t kBase = 0x4000'0000;

/// A queue of 2^log2 slots, slot i holding {i, ~i}.
struct Fixture {
  explicit Fixture(unsigned log2) : size(1U << log2), memory{{kBase, bytes()}} {
    for (std::uint32_t i = 0; i < size; ++i) memory.put(kBase + 16U * i, {i, ~std::uint64_t{i}});
    queue.enable(memory.get(), kBase | log2, 0, 19);
  }
  std::size_t bytes() const { return std::max<std::size_t>(16U * size, 4096); }

  std::uint32_t size;
  test::Memory memory;
  CommandQueue queue;
};

/// What the architecture says lies between cons and prod, from indexes and wrap bits; and our
/// choice where it leaves one (PROD more than the size ahead): the distance modulo the size.
std::uint32_t pending(std::uint32_t prod, std::uint32_t cons, std::uint32_t size) {
  const std::uint32_t p = prod % size, c = cons % size;
  const bool same_wrap = (prod / size) % 2 == (cons / size) % 2;
  if (p == c) return same_wrap ? 0 : size;
  return p > c ? p - c : size - (c - p);
}

TEST(ViommuCommandQueue, AgreesWithTheNaiveModelForEveryIndexPairOfSmallQueues) {
  for (unsigned log2 = 0; log2 <= 3; ++log2) {
    Fixture f(log2);
    for (std::uint32_t cons = 0; cons < 2 * f.size; ++cons) {
      for (std::uint32_t prod = 0; prod < 2 * f.size; ++prod) {
        for (std::size_t room = 0; room <= f.size + 1; ++room) {
          f.queue.enable(f.memory.get(), kBase | log2, cons, 19);
          const std::uint32_t want = pending(prod, cons, f.size);
          ASSERT_EQ(f.queue.unfetched(prod), want);
          std::vector<RawCommand> out(room);
          const auto got = f.queue.fetch(prod, out);
          ASSERT_EQ(got.error, CommandError::kNone);
          ASSERT_EQ(got.count, std::min<std::size_t>(want, room));
          for (std::size_t i = 0; i < got.count; ++i) {
            ASSERT_EQ(out[i].word[0], (cons + i) % f.size);
            ASSERT_EQ(out[i].word[1], ~std::uint64_t{(cons + i) % f.size});
          }
          ASSERT_EQ(f.queue.in_flight(), got.count);
          ASSERT_EQ(f.queue.cons(), cons);
          f.queue.advance(static_cast<std::uint32_t>(got.count));
          ASSERT_EQ(f.queue.cons(), (cons + got.count) % (2 * f.size));
        }
      }
    }
  }
}

TEST(ViommuCommandQueue, WrapsAtEverySize) {
  for (unsigned log2 = 0; log2 <= 12; ++log2) {
    Fixture f(log2);
    std::uint32_t prod = 0, next = 0;
    std::vector<RawCommand> out(f.size);
    // Three laps in steps that do not divide the size.
    while (next < 3 * f.size + 1) {
      prod = (prod + std::min(f.size, 3U)) % (2 * f.size);
      const auto got = f.queue.fetch(prod, out);
      for (std::size_t i = 0; i < got.count; ++i) ASSERT_EQ(out[i].word[0], next++ % f.size);
      f.queue.advance(static_cast<std::uint32_t>(got.count));
      ASSERT_EQ(f.queue.cons(), prod);
      ASSERT_EQ(f.queue.cons_register(), prod);
    }
  }
}

TEST(ViommuCommandQueue, KeepsWhatIsInFlightApartFromWhatIsDone) {
  Fixture f(3);
  RawCommand out[8];
  EXPECT_EQ(f.queue.fetch(5, out).count, 5U);
  EXPECT_EQ(f.queue.fetch(5, out).count, 0U);
  EXPECT_EQ(f.queue.in_flight(), 5U);
  EXPECT_EQ(f.queue.cons_register(CommandError::kNone, 2), 2U);
  EXPECT_EQ(f.queue.cons_register(CommandError::kIllegal, 2), 2U | 1U << 24);
  f.queue.advance(2);
  EXPECT_EQ(f.queue.in_flight(), 3U);
  // The guest may fill what is done, never what is in flight.
  EXPECT_EQ(f.queue.fetch(10, out).count, 5U);
  EXPECT_EQ(f.queue.in_flight(), 8U);
  EXPECT_EQ(f.queue.fetch(10, out).count, 0U);
}

TEST(ViommuCommandQueue, FetchesAgainAfterRewind) {
  Fixture f(3);
  RawCommand out[8];
  EXPECT_EQ(f.queue.fetch(5, out).count, 5U);
  f.queue.advance(2);
  f.memory.put(kBase + 2 * 16, {0x46, 0});  // Linux overwrites an illegal command with CMD_SYNC
  f.queue.rewind();
  EXPECT_EQ(f.queue.in_flight(), 0U);
  EXPECT_EQ(f.queue.fetch(3, out).count, 1U);  // and may move PROD back to the error
  EXPECT_EQ(out[0].word[0], 0x46U);
}

TEST(ViommuCommandQueue, CapsItsSizeAndAlignsItsBase) {
  test::Memory memory{{kBase, 0x10000}};
  CommandQueue q;
  q.enable(memory.get(), (kBase + 0x1230) | 31, 0, 8);
  EXPECT_EQ(q.log2size(), 8U);
  EXPECT_EQ(q.base().value, kBase + 0x1000);
  q.enable(memory.get(), kBase + 0x20, 0xffff'ffff, 19);
  EXPECT_EQ(q.base().value, kBase + 0x20);  // one entry, aligned to 32 bytes
  EXPECT_EQ(q.cons(), 1U);
  q.enable(memory.get(), 0xffff'0000'0000'0000 | kBase | 4, 0, 19);
  EXPECT_EQ(q.base().value & 0xffff'ffff, kBase);
}

TEST(ViommuCommandQueue, AbortsTheFetchOfAQueueOutsideGuestMemory) {
  test::Memory memory{{kBase, 0x1000}, {kBase + 0x1000, 0x1000}};
  RawCommand out[4];
  for (const std::uint64_t base :
       {std::uint64_t{0x1000} | 4, std::uint64_t{0x000f'ffff'ffff'ff00} | 4,
        kBase | 9 /* 8 KiB over two regions */}) {
    CommandQueue q;
    q.enable(memory.get(), base, 0, 19);
    EXPECT_EQ(q.fetch(0, out).error, CommandError::kNone);  // nothing to fetch yet
    const auto got = q.fetch(1, out);
    EXPECT_EQ(got.error, CommandError::kAbort);
    EXPECT_EQ(got.count, 0U);
    EXPECT_EQ(q.in_flight(), 0U);
  }
}

TEST(ViommuCommandQueue, FetchesNothingWhileDisabled) {
  Fixture f(3);
  RawCommand out[8];
  f.queue.disable();
  EXPECT_EQ(f.queue.fetch(5, out).count, 0U);
  CommandQueue never;
  EXPECT_EQ(never.fetch(5, out).count, 0U);
}

TEST(ViommuCommandQueue, StaysInsideForAMillionHostileProducerIndexes) {
  auto random = test::seeded(0xfee1);
  for (unsigned log2 : {0U, 1U, 3U, 6U}) {
    Fixture f(log2);
    std::uint32_t cons = 0, ahead = 0;  // the reference: counts, no masks
    std::vector<RawCommand> out(2 * f.size);
    for (int step = 0; step < 300'000; ++step) {
      std::uint32_t prod = static_cast<std::uint32_t>(random());
      if (step % 3 != 0) prod = cons + static_cast<std::uint32_t>(random() % (f.size + 1));
      const std::uint32_t room = static_cast<std::uint32_t>(random() % (out.size() + 1));
      const std::uint32_t total = pending(prod % (2 * f.size), cons % (2 * f.size), f.size);
      const std::uint32_t want = std::min(total > ahead ? total - ahead : 0, room);
      const auto got = f.queue.fetch(prod, std::span(out).first(room));
      ASSERT_EQ(got.count, want);
      for (std::uint32_t i = 0; i < want; ++i) {
        ASSERT_EQ(out[i].word[0], (cons + ahead + i) % f.size);
      }
      ahead += want;
      ASSERT_LE(ahead, f.size);
      ASSERT_EQ(f.queue.in_flight(), ahead);
      if (step % 50 == 0) {
        f.queue.rewind();
        ahead = 0;
      }
      const std::uint32_t done = static_cast<std::uint32_t>(random() % (ahead + 1));
      f.queue.advance(done);
      cons += done;
      ahead -= done;
      ASSERT_EQ(f.queue.cons(), cons % (2 * f.size));
    }
  }
}

TEST(ViommuCommandQueue, SeesEachCommandOfARunningGuestOnce) {
  constexpr std::uint64_t kCount = 20'000;
  test::Memory memory{{kBase, 0x1000}};
  std::uint32_t prod_register = 0, cons_register = 0;
  CommandQueue queue;
  queue.enable(memory.get(), kBase | 4, 0, 19);
  std::thread guest([&] {
    auto* slots = static_cast<std::uint64_t*>(memory.get().pointer(Gpa{kBase}, 256));
    std::uint32_t prod = 0;
    for (std::uint64_t n = 0; n < kCount; ++n) {
      while (((prod - load_acquire(cons_register)) & 31) == 16) std::this_thread::yield();
      store_relaxed(slots[2 * (prod & 15)], n);
      store_relaxed(slots[2 * (prod & 15) + 1], ~n);
      prod = (prod + 1) & 31;
      store_release(prod_register, prod);
    }
  });
  std::uint64_t next = 0;
  RawCommand out[7];
  while (next < kCount) {
    const auto got = queue.fetch(load_acquire(prod_register), out);
    for (std::size_t i = 0; i < got.count; ++i, ++next) {
      EXPECT_EQ(out[i].word[0], next);
      EXPECT_EQ(out[i].word[1], ~next);
    }
    queue.advance(static_cast<std::uint32_t>(got.count));
    store_release(cons_register, queue.cons_register());
    if (got.count == 0) std::this_thread::yield();
  }
  guest.join();
}

}  // namespace
}  // namespace faultline::viommu
