// SPDX-License-Identifier: BSD-3-Clause
#include "engine/merge/merge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "engine/merge/planted.h"
#include "tests/engine/merge_operations.h"

namespace faultline::merge {
namespace {

using namespace operations;
using ::testing::ElementsAre;

constexpr Position kNone = ~Position{0};

TEST(Merge, WaitsForASyncAndTakesWhatCameAfterItAlong) {
  Merge policy(setup(documented_sink()));
  policy.add(va(1), 0, 0);
  EXPECT_FALSE(policy.due(0)) << "its SYNC is still to come";
  policy.add_sync(1, 0);
  EXPECT_TRUE(policy.due(0));
  policy.add(va(2), 2, 0);
  policy.add_sync(3, 0);
  EXPECT_THAT(submit(policy), ElementsAre(va(1, 2)));
  EXPECT_FALSE(policy.due(1'000'000'000));
  EXPECT_EQ(policy.oldest(kNone), kNone) << "both SYNCs are complete";
}

TEST(Merge, StartsWhenTheOldestOperationHasWaited) {
  Merge policy(setup(documented_sink()));
  policy.add(va(1), 0, 100);
  policy.add(va(9), 1, 20'099);
  EXPECT_FALSE(policy.due(20'099));
  EXPECT_TRUE(policy.due(20'100));
}

TEST(Merge, StartsWhenFlushedAndTakesNothingMoreUntilDone) {
  Merge policy(setup(documented_sink()));
  policy.flush();
  EXPECT_NE(policy.room(), 0U) << "there was nothing to flush";
  policy.add(va(1), 0, 0);
  policy.flush();
  EXPECT_EQ(policy.room(), 0U);
  EXPECT_TRUE(policy.due(0));
  submit(policy);
  EXPECT_NE(policy.room(), 0U);
}

TEST(Merge, StartsWhenFull) {
  Merge policy(setup(array_sink()));
  std::uint64_t n = 0;
  for (; policy.room() != 0; ++n) {
    ASSERT_FALSE(policy.due(0));
    policy.add(va(2 * n), n, 0);
  }
  EXPECT_EQ(n, InvalidationSet::kCapacity);
  EXPECT_TRUE(policy.due(0));
  std::size_t submitted = 0;
  while (policy.due(0)) {
    EXPECT_EQ(policy.oldest(kNone), 0U) << "half of a plan covers nothing";
    submitted += submit(policy).size();
  }
  EXPECT_EQ(submitted, n);
  EXPECT_EQ(policy.oldest(kNone), kNone);
}

TEST(Merge, KindsThatASyncSeparatesGoSeparatelyAndInOrder) {
  Merge policy(setup(array_sink()));
  policy.add(va(1), 0, 0);
  policy.add_sync(1, 0);
  policy.add(cd(1), 2, 0);
  policy.add_sync(3, 0);
  policy.add(va(1), 4, 0);
  policy.add_sync(5, 0);
  policy.add(atc(1, 1, 1), 6, 0);
  policy.add_sync(7, 0);
  EXPECT_THAT(submit(policy), ElementsAre(va(1)));
  EXPECT_EQ(policy.oldest(kNone), 2U);
  EXPECT_THAT(submit(policy), ElementsAre(cd(1)));
  EXPECT_EQ(policy.oldest(kNone), 4U);
  EXPECT_THAT(submit(policy), ElementsAre(va(1)));
  EXPECT_THAT(submit(policy), ElementsAre(atc(1, 1, 1)));
  EXPECT_EQ(policy.oldest(kNone), kNone);
  EXPECT_FALSE(policy.due(1'000'000'000));
}

TEST(Merge, KindsWithoutASyncBetweenThemGoTogetherInTheQueuesOrder) {
  EXPECT_THAT(submissions(setup(array_sink()), {va(1), cd(1), va(1), cd(1), va(1), atc(1, 0, 1)}),
              ElementsAre(ElementsAre(va(1), cd(1), va(1), cd(1), va(1), atc(1, 0, 1))))
      << "a stale descriptor may refill the TLB in between";
  EXPECT_THAT(submissions(setup(array_sink()), {cd(1), va(1), va(1), va(1)}),
              ElementsAre(ElementsAre(cd(1), va(1))));
}

TEST(Merge, WhatIsAddedDuringAPlanOfSeveralSubmissionsIsNotInIt) {
  Merge policy(setup(array_sink()));
  for (std::uint64_t i = 0; i < 100; ++i) policy.add(va(2 * i), i, 0);
  policy.add_sync(100, 0);
  EXPECT_EQ(submit(policy).size(), kMaxSubmission);
  policy.add(va(0), 101, 0);
  policy.add_sync(102, 0);
  EXPECT_EQ(submit(policy).size(), 100 - kMaxSubmission);
  EXPECT_EQ(policy.oldest(kNone), 101U);
  EXPECT_THAT(submit(policy), ElementsAre(va(0)));
}

TEST(Merge, ClearedItHoldsNothing) {
  Merge policy(setup(array_sink()));
  for (std::uint64_t i = 0; i < 100; ++i) policy.add(va(2 * i), i, 0);
  policy.add_sync(100, 0);
  submit(policy);
  (void)policy.take(0);
  policy.clear();
  EXPECT_EQ(policy.oldest(kNone), kNone);
  EXPECT_FALSE(policy.due(1'000'000'000));
  policy.add(va(1), 3, 1'000'000'000);
  EXPECT_FALSE(policy.due(1'000'000'000));
  policy.add_sync(4, 1'000'000'000);
  EXPECT_THAT(submit(policy), ElementsAre(va(1)));
}

TEST(Merge, ForgetsNothingOverManyGenerations) {
  Merge policy(setup(array_sink()));
  for (std::uint64_t i = 0; i < 200'000; ++i) {
    policy.add(va(i), 2 * i, 0);
    policy.add_sync(2 * i + 1, 0);
    ASSERT_THAT(submit(policy), ElementsAre(va(i)));
  }
}

TEST(Merge, PlantedErrorsAreMadeInItToo) {
  DropTlbi<Merge> dropping(setup(documented_sink()));
  for (Position at = 0; at < 6; ++at) dropping.add(va(10 * at), at, 0);
  dropping.add_sync(6, 0);
  EXPECT_EQ(submit(dropping).size(), 4U);

  EarlySync<Merge> early(setup(documented_sink()));
  early.add(va(1), 0, 0);
  early.add_sync(1, 0);
  EXPECT_EQ(early.oldest(kNone), kNone);
  EXPECT_FALSE(early.due(EarlySync<Merge>::kDelay - 1));
  EXPECT_TRUE(early.due(EarlySync<Merge>::kDelay));
}

/// A sequence of commands, and what a policy has to do with it.
class RandomQueue {
 public:
  RandomQueue(std::uint64_t seed, const MergeSetup& s) : random_(seed), setup_(s), policy_(s) {}

  void run(int commands) {
    // Some guests write a SYNC now and then: what they wrote takes several submissions.
    const unsigned sync_in = chance(2) ? 4 : 150;
    const unsigned flush_in = 5 * sync_in;
    for (int i = 0; i < commands; ++i) {
      if (chance(sync_in)) {
        if (policy_.oldest(kNone) != kNone) policy_.add_sync(at_, now_);
        ++segment_;
      } else if (policy_.room() != 0) {
        const Operation op = operation();
        asked_.push_back({op, at_, segment_});
        policy_.add(op, at_, now_);
      }
      ++at_;
      now_ += sync_in == 4 ? random_() % 3000 : random_() % 100;
      if (chance(flush_in)) policy_.flush();
      while (policy_.due(now_) && !chance(3)) step();
      if (::testing::Test::HasFatalFailure()) return;
    }
    policy_.flush();
    while (policy_.due(now_)) step();
    ASSERT_TRUE(asked_.empty());
  }
  [[nodiscard]] const MergeCounters& counters() const { return policy_.counters(); }

 private:
  struct Asked {
    Operation op;
    Position at;
    std::uint64_t segment;
  };

  bool chance(unsigned in) { return random_() % in == 0; }

  Operation operation() {
    const auto asid_of = [&] { return static_cast<std::uint16_t>(1 + random_() % 3); };
    const auto sid = static_cast<std::uint32_t>(1 + random_() % 3);
    const std::uint64_t page = random_() % 64 + (chance(8) ? std::uint64_t{1} << 35 : 0);
    std::uint64_t pages = chance(2) ? 1 : 1 + random_() % 40;
    if (chance(40)) pages = 1 + random_() % 1500;
    switch (random_() % 16) {
      case 0:
        return chance(6) ? all() : asid(asid_of());
      case 1:
        return asid(asid_of());
      case 2:
        return chance(4) ? cd_all(sid)
                         : cd(sid, static_cast<std::uint32_t>(random_() % 4), chance(2));
      case 3: {
        Operation op = atc(sid, 0, chance(8) ? 0 : std::uint64_t{1} << random_() % 5);
        if (op.pages != 0) op.addr = page / op.pages * op.pages << 12U;
        op.ssid_valid = chance(2);
        if (op.ssid_valid) op.ssid = static_cast<std::uint32_t>(random_() % 2);
        op.global = op.ssid_valid && chance(3);
        return op;
      }
      case 4: {
        Operation op = vaa(page, pages);
        op.leaf = chance(2);
        return op;
      }
      default: {
        Operation op = va(page, pages, asid_of(), chance(2));
        if (chance(10)) op.ttl = 3;
        if (chance(10)) {
          op.granule_log2 = 16;
          op.addr = page << 16U;
        }
        return op;
      }
    }
  }

  void step() {
    const std::vector<Operation> taken = submit(policy_, now_, 1000);
    ASSERT_GE(taken.size(), 1U);
    ASSERT_LE(taken.size(), kMaxSubmission);
    for (const Operation& op : taken) {
      check_encoding(op);
      done_.push_back({op, submission_, done_.size()});
    }
    ++submission_;
    const Position oldest = policy_.oldest(kNone);
    std::vector<Operation> planned;
    for (const Done& d : done_) planned.push_back(d.op);
    while (!asked_.empty() && asked_.front().at < oldest) {
      const Asked& a = asked_.front();
      // Order: what covers it must also cover it behind everything of another kind that was queued
      // before it, in a later submission where a SYNC separates the two.
      std::size_t first = 0;
      for (std::size_t i = 0; i < floors_.size(); ++i) {
        const Floor& f = floors_[i];
        if (f.valid && static_cast<Cache>(i) != cache_of(a.op.kind)) {
          const std::size_t floor = f.segment != a.segment ? f.next_submission : f.next;
          first = std::max(first, floor);
        }
      }
      const std::span<const Operation> behind = std::span(planned).subspan(first);
      ASSERT_TRUE(covers(behind, a.op, setup_.options.assume_nonglobal))
          << ::testing::PrintToString(a.op) << " at " << a.at;
      // The earliest place where it is covered is where others have to come behind.
      std::size_t end = first;
      while (!covers(std::span(planned).subspan(first, end - first), a.op,
                     setup_.options.assume_nonglobal)) {
        ++end;
      }
      Floor& mine = floors_[static_cast<std::size_t>(cache_of(a.op.kind))];
      if (!mine.valid || mine.segment != a.segment || end > mine.next) {
        std::size_t next_submission = end;
        while (next_submission < done_.size() &&
               done_[next_submission].submission == done_[end - 1].submission) {
          ++next_submission;
        }
        mine = {true, a.segment, end, next_submission};
      }
      asked_.erase(asked_.begin());
    }
    if (asked_.empty() && policy_.oldest(kNone) == kNone) {
      done_.clear();
      floors_ = {};
    }
  }

  void check_encoding(const Operation& op) {
    const bool by_address = op.kind == OperationKind::kTlbVa || op.kind == OperationKind::kTlbVaa;
    if (by_address) {
      ASSERT_GE(op.pages, 1U);
      ASSERT_EQ(op.addr % (std::uint64_t{1} << op.granule_log2), 0U);
      ASSERT_TRUE(!setup_.caps.range || is_range(op.pages)) << ::testing::PrintToString(op);
    }
    if (op.kind == OperationKind::kAtcInv && op.pages != 0) {
      ASSERT_TRUE(std::has_single_bit(op.pages));
      ASSERT_EQ((op.addr >> 12U) % op.pages, 0U);
    }
  }

  struct Done {
    Operation op;
    std::size_t submission;
    std::size_t index;
  };
  struct Floor {
    bool valid = false;
    std::uint64_t segment = 0;
    std::size_t next = 0;             ///< places of done_ from here on are behind it
    std::size_t next_submission = 0;  ///< and these in a later submission
  };

  std::mt19937_64 random_;
  MergeSetup setup_;
  Merge policy_;
  Position at_ = 0;
  Nanos now_ = 0;
  std::uint64_t segment_ = 0;
  std::size_t submission_ = 0;
  std::vector<Asked> asked_;
  std::vector<Done> done_;
  std::array<Floor, 3> floors_{};
};

struct Case {
  const char* name;
  MergeSetup setup;
};

class MergeRandom : public ::testing::TestWithParam<Case> {};

TEST_P(MergeRandom, CoversEveryCommandInOrderAndEncodesIt) {
  const std::uint64_t seed = std::random_device{}();
  RecordProperty("seed", std::to_string(seed));
  for (std::uint64_t i = 0; i < 12; ++i) {
    SCOPED_TRACE("seed " + std::to_string(seed + i));
    RandomQueue queue(seed + i, GetParam().setup);
    queue.run(1500);
    if (HasFatalFailure()) return;
  }
}

MergeSetup nonglobal(MergeSetup s) {
  s.options.assume_nonglobal = true;
  return s;
}
MergeSetup lingering(MergeSetup s) {
  s.options.linger = LingerMode::kOn;
  return s;
}
MergeSetup granules(MergeSetup s) {
  s.sole_granule = false;
  return s;
}

INSTANTIATE_TEST_SUITE_P(
    Sinks, MergeRandom,
    ::testing::Values(Case{"array", setup(array_sink())},
                      Case{"no_ranges", setup(array_sink(false))},
                      Case{"documented", setup(documented_sink())}, Case{"v7", setup(v7_sink())},
                      Case{"wide", setup(documented_sink(), 4)},
                      Case{"wide_array", setup(array_sink(), 100)},
                      Case{"late", setup(array_sink(), 1, 2'500)},
                      Case{"late_one", setup(documented_sink(), 1, 5'000)},
                      Case{"nonglobal", nonglobal(setup(array_sink(), 100, 4'000))},
                      Case{"linger", lingering(setup(array_sink()))},
                      Case{"granules", granules(setup(array_sink(), 4))}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace faultline::merge
