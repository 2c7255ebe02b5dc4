// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include <vector>

#include "engine/merge/batch_until_sync.h"
#include "engine/merge/forward_each.h"
#include "engine/merge/planted.h"

namespace faultline::merge {
namespace {

Operation tlbi_va(std::uint64_t addr, std::uint16_t asid = 1) {
  Operation op;
  op.kind = OperationKind::kTlbVa;
  op.asid = asid;
  op.addr = addr;
  op.pages = 1;
  return op;
}

Operation cfgi_cd(std::uint32_t sid) {
  Operation op;
  op.kind = OperationKind::kCfgCd;
  op.sid = sid;
  return op;
}

std::vector<Operation> submit(auto& policy) {
  const std::span<const Operation> taken = policy.take(0);
  std::vector<Operation> out(taken.begin(), taken.end());
  policy.done(0);
  return out;
}

constexpr Position kNone = 1000;

TEST(ForwardEach, SubmitsEachCommandByItself) {
  ForwardEach policy;
  EXPECT_FALSE(policy.due(0));
  EXPECT_EQ(policy.room(), 1U);
  EXPECT_EQ(policy.oldest(kNone), kNone);

  policy.add(tlbi_va(0x1000), 7, 0);
  EXPECT_EQ(policy.room(), 0U);
  EXPECT_TRUE(policy.due(0));
  EXPECT_EQ(policy.oldest(kNone), 7U);
  EXPECT_EQ(policy.take(0).size(), 1U);
  EXPECT_EQ(policy.oldest(kNone), 7U) << "taken is not yet done";
  EXPECT_EQ(submit(policy), std::vector{tlbi_va(0x1000)});
  EXPECT_EQ(policy.oldest(kNone), kNone);
  EXPECT_EQ(policy.room(), 1U);
}

TEST(BatchUntilSync, WaitsForTheSync) {
  BatchUntilSync policy;
  policy.add(tlbi_va(0x1000), 0, 0);
  policy.add(tlbi_va(0x2000), 1, 10);
  EXPECT_FALSE(policy.due(10));
  policy.add_sync(2, 11);
  EXPECT_TRUE(policy.due(11));
  EXPECT_EQ(policy.room(), 0U) << "nothing is collected across a SYNC";
  EXPECT_EQ(submit(policy), (std::vector{tlbi_va(0x1000), tlbi_va(0x2000)}));
  EXPECT_EQ(policy.room(), kMaxSubmission);
  EXPECT_FALSE(policy.due(1'000'000'000));
}

TEST(BatchUntilSync, ASyncWithNothingBeforeItSubmitsNothing) {
  BatchUntilSync policy;
  policy.add_sync(0, 0);
  EXPECT_FALSE(policy.due(1'000'000'000));
  EXPECT_EQ(policy.room(), kMaxSubmission);
}

TEST(BatchUntilSync, RemovesExactDuplicatesOnly) {
  BatchUntilSync policy;
  policy.add(tlbi_va(0x1000, 1), 0, 0);
  policy.add(tlbi_va(0x1000, 2), 1, 0);
  policy.add(tlbi_va(0x1000, 1), 2, 0);
  Operation leaf = tlbi_va(0x1000, 1);
  leaf.leaf = true;
  policy.add(leaf, 3, 0);
  policy.add_sync(4, 0);
  EXPECT_EQ(submit(policy), (std::vector{tlbi_va(0x1000, 1), tlbi_va(0x1000, 2), leaf}));
}

TEST(BatchUntilSync, KeepsADuplicateThatAnotherCacheSeparates) {
  BatchUntilSync policy;
  const std::vector<Operation> sequence{tlbi_va(0x1000), cfgi_cd(3), tlbi_va(0x1000), cfgi_cd(3)};
  for (Position at = 0; at < sequence.size(); ++at) policy.add(sequence[at], at, 0);
  policy.add(cfgi_cd(3), 4, 0);
  policy.add_sync(5, 0);
  EXPECT_EQ(submit(policy), sequence);
}

TEST(BatchUntilSync, StartsWhenFull) {
  BatchUntilSync policy;
  for (Position at = 0; at < kMaxSubmission; ++at) {
    ASSERT_EQ(policy.room(), kMaxSubmission - at);
    ASSERT_FALSE(policy.due(0));
    policy.add(tlbi_va(at << 12U), at, 0);
  }
  EXPECT_TRUE(policy.due(0));
  EXPECT_EQ(policy.room(), 0U);
  EXPECT_EQ(submit(policy).size(), kMaxSubmission);
}

TEST(BatchUntilSync, StartsWhenTheOldestOperationHasWaited) {
  BatchUntilSync policy(100);
  policy.add(tlbi_va(0x1000), 0, 50);
  policy.add(tlbi_va(0x2000), 1, 149);
  EXPECT_FALSE(policy.due(149));
  EXPECT_TRUE(policy.due(150));
  EXPECT_EQ(submit(policy).size(), 2U);
  policy.add(tlbi_va(0x1000), 2, 200);
  EXPECT_FALSE(policy.due(299)) << "the wait begins with the first operation collected";
}

TEST(BatchUntilSync, StartsWhenFlushed) {
  BatchUntilSync policy;
  policy.flush();
  EXPECT_FALSE(policy.due(0));
  policy.add(cfgi_cd(1), 0, 0);
  policy.flush();
  EXPECT_TRUE(policy.due(0));
  policy.clear();
  EXPECT_FALSE(policy.due(0));
  EXPECT_EQ(policy.oldest(kNone), kNone);
}

TEST(BatchUntilSync, TellsTheOldestCommandUntilItTookEffect) {
  BatchUntilSync policy;
  policy.add(tlbi_va(0x1000), 41, 0);
  policy.add(tlbi_va(0x2000), 42, 0);
  policy.add_sync(43, 0);
  (void)policy.take(0);
  EXPECT_EQ(policy.oldest(kNone), 41U);
  policy.done(0);
  EXPECT_EQ(policy.oldest(kNone), kNone);
}

TEST(Planted, DropsEveryThirdTlbOperationAndNothingElse) {
  DropTlbi<BatchUntilSync> policy;
  for (Position at = 0; at < 6; ++at) policy.add(tlbi_va(at << 12U), at, 0);
  for (Position at = 6; at < 12; ++at) policy.add(cfgi_cd(static_cast<std::uint32_t>(at)), at, 0);
  policy.add_sync(12, 0);
  EXPECT_EQ(submit(policy).size(), 4U + 6U);
}

TEST(Planted, LetsASyncCompleteBeforeItsSubmission) {
  using Early = EarlySync<BatchUntilSync>;
  Early policy;
  policy.add(tlbi_va(0x1000), 0, 0);
  policy.add_sync(1, 0);
  EXPECT_EQ(policy.oldest(kNone), kNone);
  EXPECT_FALSE(policy.due(Early::kDelay - 1));
  EXPECT_TRUE(policy.due(Early::kDelay));
  EXPECT_EQ(submit(policy).size(), 1U);
}

}  // namespace
}  // namespace faultline::merge
