// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/iommufd/fault_queue.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "tests/kernel/iommufd_files.h"

namespace faultline::iommufd {
namespace {

using Files = faultline::testing::EventFiles;

struct Queue {
  std::size_t poll(std::size_t device) {
    bool dry = false;
    queue.refill(dry);
    return queue.poll(device, out);
  }
  Files files;
  FaultQueue<Files> queue{files, Files::kFaultQueue, {7, 9}};
  std::array<FaultRecord, 64> out;
};

TEST(FaultQueue, HandsOutWholeGroupsOfTheDeviceInFront) {
  Queue q;
  q.files.request({{7, 3, 2, 0x1000}, {7, 3, 1, 0x2000}});
  q.files.request({{9, 4, 4, 0x3000}});
  ASSERT_EQ(q.poll(0), 2U);
  EXPECT_FALSE(q.out[0].last_page);
  EXPECT_EQ(q.out[0].perm, FaultRecord::kWrite);
  EXPECT_EQ(q.out[0].addr, 0x1000U);
  EXPECT_TRUE(q.out[1].last_page);
  EXPECT_EQ(q.out[1].perm, 0U);
  EXPECT_EQ(q.out[1].group, 3U);
  EXPECT_EQ(q.out[1].cookie, 1U);
  EXPECT_TRUE(q.queue.held()) << "the group of the other device";
  ASSERT_EQ(q.poll(1), 1U);
  EXPECT_EQ(q.out[0].perm, FaultRecord::kExec);
  EXPECT_EQ(q.out[0].cookie, 2U);
  EXPECT_FALSE(q.queue.held());
}

TEST(FaultQueue, ReadsAGroupAsLargeAsPciAllows) {
  Queue q;
  std::vector<Files::Page> pages(FaultQueue<Files>::kMostPages, {7, 1, 1, 0});
  q.files.request(pages);
  std::size_t seen = 0;
  for (int i = 0; i < 20; ++i) seen += q.poll(0);
  EXPECT_EQ(seen, pages.size());
  EXPECT_EQ(q.queue.stats().groups, 1U);
}

TEST(FaultQueue, AnswersEachWhateverBecomesOfTheOthers) {
  Queue q;
  for (std::uint32_t group = 1; group <= 4; ++group) q.files.request({{7, group, 1, 0}});
  ASSERT_EQ(q.poll(0), 4U);
  const PageAnswer answers[] = {{1, true},  {77, true}, {2, false},
                                {78, true}, {79, true}, {4, true}};
  EXPECT_EQ(q.queue.answer(answers), 3U);
  ASSERT_EQ(q.files.answered.size(), 3U);
  EXPECT_EQ(q.files.answered[0].group, 1U);
  EXPECT_EQ(q.files.answered[0].code, uapi::kIommufdPageRespSuccess);
  EXPECT_EQ(q.files.answered[1].group, 2U);
  EXPECT_EQ(q.files.answered[1].code, uapi::kIommufdPageRespInvalid);
  EXPECT_EQ(q.files.answered[2].group, 4U);
  EXPECT_EQ(q.queue.stats().bad_answers, 3U);
  EXPECT_EQ(q.files.open_cookies.size(), 1U);
}

TEST(FaultQueue, AnswersManyInOneCall) {
  Queue q;
  for (std::uint32_t group = 0; group < 60; ++group) q.files.request({{7, group, 1, 0}});
  ASSERT_EQ(q.poll(0), 60U);
  std::vector<PageAnswer> answers;
  for (std::uint32_t cookie = 1; cookie <= 60; ++cookie) answers.push_back({cookie, true});
  EXPECT_EQ(q.queue.answer(answers), 60U);
  EXPECT_EQ(q.files.writes, 1);
}

TEST(FaultQueue, FailsAGroupThatMakesNoSenseOnce) {
  Queue q;
  q.files.request({{7, 1, 0x10, 0}, {7, 1, 1, 0}});  // a permission that does not exist
  q.files.request({{8, 2, 1, 0}});                   // a device that is not the guest's
  q.files.request({{7, 3, 1, 0}, {9, 3, 1, 0}});     // two devices
  q.files.request({{7, 4, 1, 0x4000}});
  std::size_t n = 0;
  for (int i = 0; i < 4; ++i) n += q.poll(0);
  EXPECT_EQ(n, 2U) << "the first page of group 3, and group 4";
  EXPECT_EQ(q.queue.stats().groups, 1U);
  EXPECT_EQ(q.queue.stats().bad_groups, 3U);
  ASSERT_EQ(q.files.answered.size(), 3U);
  for (const auto& answer : q.files.answered) {
    EXPECT_EQ(answer.code, uapi::kIommufdPageRespInvalid);
    EXPECT_NE(answer.group, 4U);
  }
}

TEST(FaultQueue, FailsAGroupWithoutALastPage) {
  Queue q;
  q.files.groups.push_back({{7, 1, 1, 0}});
  q.files.request({{7, 2, 1, 0}});
  EXPECT_EQ(q.poll(0), 2U);
  ASSERT_EQ(q.files.answered.size(), 1U);
  EXPECT_EQ(q.files.answered[0].group, 1U);
}

TEST(FaultQueue, LetsTryAgainWhatAKilledEngineTook) {
  Files files;
  {
    FaultQueue<Files> queue{files, Files::kFaultQueue, {7}};
    for (std::uint32_t group = 0; group < 300; ++group) files.request({{7, group, 1, 0}});
    bool dry = false;
    EXPECT_TRUE(queue.refill(dry));
  }
  EXPECT_EQ(files.open_cookies.size(), 300U);
  FaultQueue<Files> queue{files, Files::kFaultQueue, {7}};
  EXPECT_EQ(queue.answer_taken(64), 300U);
  EXPECT_TRUE(files.open_cookies.empty());
  for (const auto& answer : files.answered) EXPECT_EQ(answer.code, uapi::kIommufdPageRespSuccess);
}

}  // namespace
}  // namespace faultline::iommufd
