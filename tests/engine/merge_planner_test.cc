// SPDX-License-Identifier: BSD-3-Clause
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/engine/merge_operations.h"

namespace faultline::merge {
namespace {

using namespace operations;
using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

Operation level(Operation op, std::uint8_t ttl) {
  op.ttl = ttl;
  return op;
}
Operation granule(Operation op, std::uint8_t log2) {
  op.addr = op.addr >> 12U << log2;
  op.granule_log2 = log2;
  return op;
}

TEST(MergePlan, AdjacentAndOverlappingRangesBecomeOne) {
  EXPECT_THAT(merged(setup(documented_sink()), {va(7), va(5, 2), va(2, 3), va(4, 2)}),
              ElementsAre(va(2, 6)));
}

TEST(MergePlan, ARangeInsideAnotherGoes) {
  EXPECT_THAT(merged(setup(array_sink()), {va(3), va(0, 16), va(10, 4)}), ElementsAre(va(0, 16)));
}

TEST(MergePlan, RangesApartStayApart) {
  EXPECT_THAT(merged(setup(documented_sink()), {va(1), va(3), va(5)}),
              ElementsAre(va(1), va(3), va(5)));
}

TEST(MergePlan, AsidsAreNotMixed) {
  EXPECT_THAT(merged(setup(array_sink()), {va(1, 1, 1), va(2, 1, 2)}),
              UnorderedElementsAre(va(1, 1, 1), va(2, 1, 2)));
}

TEST(MergePlan, GranulesAreNotMixed) {
  EXPECT_THAT(merged(setup(array_sink()), {va(0, 4), granule(va(0, 4), 14)}),
              UnorderedElementsAre(va(0, 4), granule(va(0, 4), 14)));
}

TEST(MergePlan, AnyAsidCoversEachAsid) {
  EXPECT_THAT(merged(setup(array_sink()), {va(4, 2, 1), vaa(0, 16), va(5, 1, 2)}),
              ElementsAre(vaa(0, 16)));
}

TEST(MergePlan, AnyAsidOnASinkThatKnowsNoSuchThingCoversNothingElse) {
  EXPECT_THAT(merged(setup(v7_sink()), {va(4, 2, 1), vaa(0, 16)}),
              UnorderedElementsAre(vaa(0, 16), va(4, 2, 1)));
}

TEST(MergePlan, EverythingCoversAllOfTheTlb) {
  EXPECT_THAT(merged(setup(array_sink()), {va(4), asid(3), all(), vaa(9)}), ElementsAre(all()));
}

TEST(MergePlan, EverythingMadeOfAsidsLeavesGlobalEntriesToTheAddresses) {
  EXPECT_THAT(merged(setup(v7_sink()), {va(4), all()}), UnorderedElementsAre(va(4), all()));
}

TEST(MergePlan, AnAsidDoesNotCoverItsAddresses) {
  EXPECT_THAT(merged(setup(array_sink()), {va(4, 1, 3), asid(3)}),
              UnorderedElementsAre(va(4, 1, 3), asid(3)));
}

TEST(MergePlan, AnAsidCoversItsAddressesOfAGuestWithoutGlobalEntries) {
  MergeSetup s = setup(array_sink());
  s.options.assume_nonglobal = true;
  EXPECT_THAT(merged(s, {va(4, 1, 3), asid(3), va(4, 1, 2)}),
              UnorderedElementsAre(asid(3), va(4, 1, 2)));
}

TEST(MergePlan, LeafStaysWhereAllPartsHadIt) {
  EXPECT_THAT(merged(setup(array_sink()), {va(0, 1, 1, true), va(1, 1, 1, true)}),
              ElementsAre(va(0, 2, 1, true)));
  EXPECT_THAT(merged(setup(array_sink()), {va(0, 4, 1, false), va(1, 1, 1, true)}),
              ElementsAre(va(0, 4, 1, false)))
      << "without LEAF covers with LEAF";
  EXPECT_THAT(merged(setup(array_sink()), {va(0, 4, 1, true), va(1, 1, 1, false)}),
              UnorderedElementsAre(va(0, 4, 1, true), va(1, 1, 1, false)));
}

TEST(MergePlan, ALevelHintStaysWhereAllPartsAgree) {
  EXPECT_THAT(merged(setup(array_sink()), {level(va(0, 1), 3), level(va(1, 1), 3)}),
              ElementsAre(level(va(0, 2), 3)));
  EXPECT_THAT(merged(setup(array_sink()), {level(va(0, 512), 2), level(va(512, 1), 3)}),
              UnorderedElementsAre(level(va(0, 512), 2), level(va(512, 1), 3)));
  EXPECT_THAT(merged(setup(array_sink()), {va(0, 512), level(va(5, 1), 3)}),
              ElementsAre(va(0, 512)))
      << "no hint covers any level";
}

TEST(MergePlan, ALevelHintGoesWithAnAddressThatStartsNoBlock) {
  // 33 blocks of 2 MiB: two ranges that overlap.
  const auto plan =
      merged(setup(array_sink()), {level(va(0, 512 * 32), 2), level(va(512 * 32, 512), 2)});
  ASSERT_EQ(plan.size(), 2U);
  for (const Operation& op : plan) {
    EXPECT_TRUE(is_range(op.pages)) << ::testing::PrintToString(op);
    EXPECT_EQ(op.ttl, (op.addr >> 12U) % 512 == 0 ? 2 : 0);
  }
}

TEST(MergePlan, AnArraySinkIsGivenRangesThatItCanEncode) {
  std::vector<Operation> pages;
  for (std::uint64_t i = 0; i < 201; ++i) pages.push_back(va(100 + i));
  const auto plan = merged(setup(array_sink()), pages);
  ASSERT_EQ(plan.size(), 2U) << "201 is no (NUM + 1) << SCALE; two ranges overlap";
  for (const Operation& op : plan) EXPECT_TRUE(is_range(op.pages));
  for (const Operation& op : pages) EXPECT_TRUE(covers(plan, op, false));
}

TEST(MergePlan, ASinkWithoutRangesIsGivenThePagesThemselves) {
  EXPECT_THAT(merged(setup(array_sink(false)), {va(1), va(2), va(3), va(2)}),
              ElementsAre(va(1), va(2), va(3)));
}

TEST(MergePlan, PagesOfAnUnknownGranuleMakeNoRange) {
  MergeSetup s = setup(array_sink());
  s.sole_granule = false;
  EXPECT_THAT(merged(s, {va(1), va(2), va(1)}), ElementsAre(va(1), va(2)))
      << "a range of 4 KiB may miss entries of 16 KiB pages";
  EXPECT_THAT(merged(s, {va(0, 4), va(4, 4)}), ElementsAre(va(0, 8)))
      << "ranges name their granule";
}

TEST(MergePlan, ARunLongerThanTheSinkKeepsExactIsCut) {
  EXPECT_THAT(merged(setup(documented_sink()), {va(0, 300), va(300, 300)}),
              ElementsAre(va(0, 512), va(512, 88)));
}

TEST(MergePlan, AnOperationThatTheSinkWouldMakeEverythingOfIsEverything) {
  EXPECT_THAT(merged(setup(documented_sink()), {va(0, 513), va(9000)}), ElementsAre(all()));
  EXPECT_THAT(merged(setup(v7_sink()), {va(0, 513), va(9000)}), ElementsAre(va(0, 513), va(9000)));
}

TEST(MergePlan, DescriptorsGoOnceAndUnderTheirStream) {
  EXPECT_THAT(merged(setup(array_sink()), {cd(1, 5), cd(2, 0), cd(1, 5), cd_all(1), cd(1, 0)}),
              ElementsAre(cd_all(1), cd(2, 0)));
  EXPECT_THAT(merged(setup(array_sink()), {cd(1, 5, true), cd(1, 5, false)}),
              ElementsAre(cd(1, 5, false)));
  EXPECT_THAT(merged(setup(array_sink()), {cd(1, 5), cd(1, 6)}), ElementsAre(cd(1, 5), cd(1, 6)));
}

TEST(MergePlan, ASinkThatBindsAgainIsAskedOncePerStream) {
  EXPECT_THAT(merged(setup(v7_sink()), {cd(1, 5), cd(1, 6), cd(2, 0)}),
              ElementsAre(cd_all(1), cd(2, 0)));
}

TEST(MergePlan, AtcInvalidationsStayAlignedPowersOfTwo) {
  EXPECT_THAT(merged(setup(array_sink()), {atc(1, 4, 4), atc(1, 0, 4), atc(1, 2, 1)}),
              ElementsAre(atc(1, 0, 8)));
  EXPECT_THAT(merged(setup(array_sink()), {atc(1, 2, 2), atc(1, 4, 4)}),
              ElementsAre(atc(1, 2, 2), atc(1, 4, 4)));
  EXPECT_THAT(merged(setup(array_sink()), {atc(1, 2, 2), atc(1, 0, 0), atc(2, 2, 2)}),
              ElementsAre(atc(1, 0, 0), atc(2, 2, 2)));
}

TEST(MergePlan, GlobalAtcInvalidationsCoverTheSameSsidOnly) {
  Operation with = atc(1, 0, 8);
  with.ssid_valid = true;
  with.ssid = 3;
  Operation global = with;
  global.global = true;
  Operation other = with;
  other.ssid = 4;
  EXPECT_THAT(merged(setup(array_sink()), {with, global, other}), ElementsAre(global, other));
}

TEST(MergePlan, AGapIsClosedWhereACallCostsMoreThanItsPages) {
  EXPECT_THAT(merged(setup(documented_sink(), 2), {va(0, 4), va(6, 4)}), ElementsAre(va(0, 10)));
  EXPECT_THAT(merged(setup(documented_sink(), 1), {va(0, 4), va(6, 4)}),
              ElementsAre(va(0, 4), va(6, 4)))
      << "a cap of 1 is exact";
  EXPECT_THAT(merged(setup(documented_sink(), 1.2), {va(0, 4), va(6, 4)}),
              ElementsAre(va(0, 4), va(6, 4)))
      << "10 for 8 is more than the cap";
  EXPECT_THAT(merged(setup(documented_sink(), 100), {va(0, 4), va(400, 4)}),
              ElementsAre(va(0, 4), va(400, 4)))
      << "its pages cost more than the call";
}

TEST(MergePlan, TheSmallestGapsAreClosedFirst) {
  EXPECT_THAT(merged(setup(documented_sink(), 1.5), {va(0), va(3), va(5), va(9)}),
              ElementsAre(va(0), va(3, 3), va(9)));
}

TEST(MergePlan, AnArraySinkClosesGapsOnlyToSaveASubmission) {
  std::vector<Operation> ops;
  for (std::uint64_t i = 0; i < 40; ++i) ops.push_back(va(2 * i));
  EXPECT_EQ(merged(setup(array_sink(), 4), ops).size(), 40U);
  for (std::uint64_t i = 40; i < 66; ++i) ops.push_back(va(2 * i));
  EXPECT_EQ(submissions(setup(array_sink(), 4), ops).size(), 1U);
  EXPECT_EQ(submissions(setup(array_sink(), 1), ops).size(), 2U);
}

TEST(MergePlan, RangesOfManyAsidsBecomeThatOfAllToSaveASubmission) {
  std::vector<Operation> ops;
  for (std::uint16_t a = 1; a <= 100; ++a) ops.push_back(va(7, 1, a));
  EXPECT_THAT(merged(setup(array_sink(), 1000), ops), ElementsAre(vaa(7)));
  EXPECT_EQ(merged(setup(array_sink(), 1), ops).size(), 100U);
}

TEST(MergePlan, MuchWorkBecomesEverythingWithinTheCap) {
  std::vector<Operation> ops;
  for (std::uint64_t i = 0; i < 20; ++i) ops.push_back(va(1000 * i, 400));
  EXPECT_THAT(merged(setup(documented_sink(), 2), ops), ElementsAre(all()));
  EXPECT_EQ(merged(setup(documented_sink(), 1), ops).size(), 20U);
}

TEST(MergePlan, TheDeadlineWidensWhateverTheCap) {
  std::vector<Operation> ops;
  for (std::uint64_t i = 0; i < 200; ++i) ops.push_back(va(10'000 * i, 1));
  EXPECT_EQ(merged(setup(array_sink(), 1, 0), ops).size(), 200U);
  const auto some = merged(setup(array_sink(), 1, 9'000), ops);
  EXPECT_LT(some.size(), 200U);
  EXPECT_EQ(some.front().kind, OperationKind::kTlbVa);
  for (const Operation& op : ops) EXPECT_TRUE(covers(some, op, false));
  EXPECT_THAT(merged(setup(documented_sink(), 1, 9'000), ops), ElementsAre(all()))
      << "a longer range costs a one-operation sink as much as its pages";
  EXPECT_EQ(merged(setup(v7_sink(), 1, 9'000), ops).size(), 200U)
      << "it has nothing wider that takes global entries along";
}

TEST(MergePlan, TheDeadlineGoesFromRangesToThoseOfAllAsidsToEverything) {
  std::vector<Operation> ops;
  for (std::uint16_t a = 1; a <= 100; ++a) {
    ops.push_back(va(7, 1, a));
    ops.push_back(va(1'000'000, 1, a));
  }
  const auto wide = merged(setup(array_sink(), 1, 2'200), ops);
  ASSERT_EQ(wide.size(), 2U);
  EXPECT_EQ(wide.front().kind, OperationKind::kTlbVaa);
  for (const Operation& op : ops) EXPECT_TRUE(covers(wide, op, false));
  EXPECT_LE(merged(setup(array_sink(), 1, 1), ops).size(), 2U) << "as far as it can";
}

TEST(MergePlan, CountsWhatItDid) {
  Merge policy(setup(documented_sink(), 2));
  Position at = 0;
  for (const Operation& op : {va(0, 4, 1, true), va(0, 4, 1, true), va(4, 4, 1, true),
                              va(10, 4, 1, true), va(11, 1, 1, true)}) {
    policy.add(op, at++, 0);
  }
  policy.add_sync(at, 0);
  EXPECT_THAT(submit(policy), ElementsAre(va(0, 14, 1, true)));
  const MergeCounters& c = policy.counters();
  EXPECT_EQ(c.operations, 5U);
  EXPECT_EQ(c.duplicates, 2U);
  EXPECT_EQ(c.ranges_merged, 1U);
  EXPECT_EQ(c.widened_gap, 1U);
  EXPECT_EQ(c.planned, 1U);
  EXPECT_EQ(c.entries_asked, 12U);
  EXPECT_EQ(c.entries_removed, 14U);
  EXPECT_EQ(c.leaf_asked, 12U);
  EXPECT_EQ(c.leaf_kept, 12U);
}

}  // namespace
}  // namespace faultline::merge
