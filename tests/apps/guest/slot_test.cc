// SPDX-License-Identifier: BSD-3-Clause
#include "apps/guest/slot.h"

#include <gtest/gtest.h>

#include "apps/guest/page_pool.h"
#include "tests/apps/guest/fake_smmu.h"

namespace faultline::guest {
namespace {

// Steps of generation 1: mapped 3, cleared 4, synchronised 5; generation 2 is mapped at 6.
TEST(Slot, AllowsTheOldGenerationUntilItsSync) {
  EXPECT_TRUE(may_use(1, 3, 3));
  EXPECT_TRUE(may_use(1, 4, 4)) << "issued before the CMD_SYNC: either answer is right";
  EXPECT_TRUE(may_use(1, 4, 6));
  EXPECT_FALSE(may_use(1, 5, 5)) << "issued after the CMD_SYNC";
  EXPECT_FALSE(may_use(1, 5, 6));
  EXPECT_FALSE(may_use(1, 6, 6));
}

TEST(Slot, AllowsTheNewGenerationOnceItIsMapped) {
  EXPECT_TRUE(may_use(2, 4, 6));
  EXPECT_TRUE(may_use(2, 6, 6));
  EXPECT_FALSE(may_use(2, 3, 5)) << "answered before it was there";
}

TEST(Slot, AllowsAFaultOnlyIfSomethingWasMissing) {
  EXPECT_FALSE(may_fault(3, 3));
  EXPECT_TRUE(may_fault(3, 4));
  EXPECT_TRUE(may_fault(4, 4));
  EXPECT_TRUE(may_fault(5, 5));
  EXPECT_TRUE(may_fault(5, 6));
  EXPECT_FALSE(may_fault(6, 6));
}

TEST(PagePool, NoticesAWriteToARestingPage) {
  FakeSmmu s;
  PagePool pool(s.memory, 2);
  Gpa page;
  std::uint64_t written = 0;
  ASSERT_TRUE(pool.take(make_tag(1, 2, 3), page, written));
  EXPECT_EQ(s.memory.word(page + 64 * 5), make_tag(1, 2, 3));
  s.memory.word(page + 64 * 5 + 8) = 42;
  EXPECT_EQ(pool.written_word(page, 5), 42U);
  pool.give_back(page);
  EXPECT_EQ(pool.written_while_resting(), 0U);
  s.memory.word(page + 64 * 9 + 8) = 43;
  EXPECT_EQ(pool.written_while_resting(), 1U);
  ASSERT_TRUE(pool.take(1, page, written));
  EXPECT_EQ(written, 0U) << "the page that rested longest is another one";
  ASSERT_TRUE(pool.take(1, page, written));
  EXPECT_EQ(written, 1U);
  EXPECT_FALSE(pool.take(1, page, written));
}

}  // namespace
}  // namespace faultline::guest
