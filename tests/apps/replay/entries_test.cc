// SPDX-License-Identifier: BSD-3-Clause
#include "apps/replay/entries.h"

#include <gtest/gtest.h>

#include <vector>

#include "engine/merge/batch_until_sync.h"

namespace faultline {
namespace {

Operation pages(std::uint64_t first, std::uint64_t count, std::uint16_t asid = 1) {
  Operation op;
  op.kind = OperationKind::kTlbVa;
  op.asid = asid;
  op.addr = first << 12;
  op.pages = count;
  return op;
}
Operation whole(OperationKind kind, std::uint16_t asid = 0) {
  Operation op;
  op.kind = kind;
  op.asid = asid;
  return op;
}

class EntriesTest : public testing::Test {
 protected:
  /// One window: all this was asked, then all that was submitted.
  void window(const std::vector<Operation>& asked, const std::vector<Operation>& submitted) {
    for (const Operation& op : asked) entries.ask(op);
    entries.submit(submitted);
    entries.drained();
  }
  void expect(std::uint64_t asked, std::uint64_t removed, std::uint64_t widened,
              std::uint64_t missed) {
    entries.finish();
    EXPECT_EQ(entries.asked(), asked);
    EXPECT_EQ(entries.removed(), removed);
    EXPECT_EQ(entries.widened(), widened);
    EXPECT_EQ(entries.missed(), missed);
  }
  Entries entries;
};

TEST_F(EntriesTest, CountsTheGapThatARangeFills) {
  window({pages(1, 1), pages(4, 1)}, {pages(1, 4)});
  expect(2, 4, 0, 0);
}

TEST_F(EntriesTest, CountsADuplicateOnceOnBothSides) {
  window({pages(1, 4), pages(3, 4), pages(1, 1)}, {pages(1, 6)});
  expect(6, 6, 0, 0);
}

TEST_F(EntriesTest, KeepsAsidsApart) {
  window({pages(1, 1, 1), pages(1, 1, 2)}, {pages(1, 1, 1), pages(1, 1, 2)});
  expect(2, 2, 0, 0);
}

TEST_F(EntriesTest, CountsGranulesInPagesOf4K) {
  Operation op = pages(16, 3);
  op.granule_log2 = 16;
  window({op}, {op});
  expect(48, 48, 0, 0);
}

TEST_F(EntriesTest, CountsTheSamePageAgainInTheNextWindow) {
  window({pages(1, 1)}, {pages(1, 1)});
  window({pages(1, 1)}, {pages(1, 1)});
  expect(2, 2, 0, 0);
}

TEST_F(EntriesTest, CountsAWholeAsidThatNobodyAskedForAsWidened) {
  window({pages(1, 2, 5)}, {whole(OperationKind::kTlbAsid, 5)});
  window({pages(1, 2, 5)}, {whole(OperationKind::kTlbAll)});
  window({whole(OperationKind::kTlbAsid, 5)}, {whole(OperationKind::kTlbAll)});
  expect(4, 4, 3, 0);
}

TEST_F(EntriesTest, FindsWhatAnAskedWholeCoversExact) {
  window({pages(1, 2, 5), whole(OperationKind::kTlbAsid, 5)}, {whole(OperationKind::kTlbAsid, 5)});
  window({whole(OperationKind::kTlbAll)}, {pages(7, 1), whole(OperationKind::kTlbAll)});
  window({whole(OperationKind::kTlbAll)}, {whole(OperationKind::kTlbAll)});
  expect(3, 3, 0, 0);
}

TEST_F(EntriesTest, FindsWhatWasNeverRemoved) {
  window({pages(1, 4), pages(9, 1, 2)}, {pages(2, 1), pages(9, 1, 3)});
  expect(5, 2, 0, 4);
}

TEST_F(EntriesTest, EndsAWindowOnlyWhereNothingIsHeld) {
  entries.ask(pages(1, 1));
  entries.ask(pages(9, 1));
  entries.submit(std::vector{pages(9, 1)});  // and holds the other one
  entries.ask(pages(1, 1));
  entries.submit(std::vector{pages(1, 1)});
  entries.drained();
  expect(2, 2, 0, 0);
}

TEST_F(EntriesTest, ForgetsWhatWasDropped) {
  window({pages(1, 1)}, {pages(1, 1)});
  entries.ask(pages(2, 1));
  entries.forget();
  expect(1, 1, 0, 0);
}

TEST_F(EntriesTest, TakesMoreThanItsLogHolds) {
  for (std::uint64_t i = 0; i < 3 * Entries::kLog; ++i) {
    entries.ask(pages(2 * i, 1));
    entries.submit(std::vector{pages(2 * i, 1)});
  }
  entries.drained();
  entries.finish();
  EXPECT_EQ(entries.asked(), 3 * Entries::kLog);
  EXPECT_EQ(entries.removed(), 3 * Entries::kLog);
}

TEST_F(EntriesTest, HearsFromAPolicyWhatItIsAskedAndWhenItIsEmpty) {
  NotingPolicy<merge::BatchUntilSync> policy(merge::BatchUntilSync(), entries);
  static_assert(merge::SubmissionPolicy<NotingPolicy<merge::BatchUntilSync>>);
  policy.add(pages(1, 1), 0, 100);
  policy.add(pages(1, 1), 1, 100);
  policy.add(pages(2, 1), 2, 100);
  policy.add_sync(3, 100);
  ASSERT_TRUE(policy.due(100));
  entries.submit(policy.take(100));
  policy.done(100);
  policy.add(pages(8, 1), 4, 200);
  policy.clear();
  expect(2, 2, 0, 0);
}

}  // namespace
}  // namespace faultline
