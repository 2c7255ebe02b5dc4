// SPDX-License-Identifier: BSD-3-Clause
// The whole soft kernel through the seam: DMA through both stages.
#include "kernel/soft/soft_kernel.h"

#include <gtest/gtest.h>

#include "tests/kernel/soft_worlds.h"

namespace faultline::soft {
namespace {

template <class Where>
class SoftDma : public testing::Test {};
TYPED_TEST_SUITE(SoftDma, Worlds);

TYPED_TEST(SoftDma, GoesThroughStage2AloneUntilStage1IsBound) {
  Rig<TypeParam> rig;
  const std::uint64_t page = rig.page_with(42);
  EXPECT_EQ(rig.read(page).value, 42U);
}

TYPED_TEST(SoftDma, GoesThroughBothStages) {
  Rig<TypeParam> rig;
  const std::uint64_t page = rig.page_with(42);
  rig.guest->map(0x1000, page);
  rig.go();
  const DmaCompletion read = rig.read(0x1000);
  EXPECT_EQ(read.status, DmaStatus::kOk);
  EXPECT_EQ(read.value, 42U);
  EXPECT_EQ(rig.write(0x1008, 7).status, DmaStatus::kOk);
  EXPECT_EQ(load_acquire(rig.guest->word(page + 8)), 7U);
}

TYPED_TEST(SoftDma, WritesWholeLinesAndOddLengths) {
  Rig<TypeParam> rig;
  const std::uint64_t page = rig.guest->page();
  rig.guest->map(0x1000, page);
  rig.go();
  EXPECT_EQ(rig.run({.iova = 0x1040, .value = 9, .length = 64, .flags = DmaRequest::kWrite}).status,
            DmaStatus::kOk);
  for (unsigned i = 0; i < 8; ++i) EXPECT_EQ(load_acquire(rig.guest->word(page + 64 + 8 * i)), 9U);
  EXPECT_EQ(rig.run({.iova = 0x1040, .length = 64}).value, 9U);
  EXPECT_EQ(
      rig.run({.iova = 0x1001, .value = 0xaabbcc, .length = 3, .flags = DmaRequest::kWrite}).status,
      DmaStatus::kOk);
  EXPECT_EQ(load_acquire(rig.guest->word(page)), 0xaabbcc00U);
  EXPECT_EQ(rig.run({.iova = 0x1001, .length = 3}).value, 0xaabbccU);
}

TYPED_TEST(SoftDma, CrossesIntoTheNextPageByItsOwnTranslation) {
  Rig<TypeParam> rig;
  const std::uint64_t far = rig.guest->page();
  rig.guest->page();
  const std::uint64_t near = rig.guest->page();
  rig.guest->map(0x1000, near);
  rig.guest->map(0x2000, far);
  rig.go();
  rig.write(0x1ffc, 0x1122334455667788);
  EXPECT_EQ(load_acquire(rig.guest->word(near + 4088)) >> 32U, 0x55667788U);
  EXPECT_EQ(load_acquire(rig.guest->word(far)), 0x11223344U);
}

TYPED_TEST(SoftDma, RefusesRequestsThatMakeNoSense) {
  Rig<TypeParam> rig;
  for (const DmaRequest& bad : {DmaRequest{.length = 0}, DmaRequest{.length = 9},
                                DmaRequest{.iova = 8, .length = 64}, DmaRequest{.flags = 0x80}}) {
    EXPECT_EQ(rig.run(bad).status, DmaStatus::kBadRequest);
  }
}

TYPED_TEST(SoftDma, IsAbortedSilentlyWithoutContainer) {
  SoftKernelConfig config = one_device();
  TypeParam where(config);
  DmaClient client(where.view().bar(0));
  ASSERT_TRUE(client.submit({.iova = 0x1000}));
  client.ring();
  DmaCompletion completion;
  for (int i = 0; i < 100 && client.complete({&completion, 1}) == 0; ++i) client.wait(100'000'000);
  EXPECT_EQ(completion.status, DmaStatus::kAborted);
}

TYPED_TEST(SoftDma, ServesMoreThanARingOfRequestsInOrder) {
  Rig<TypeParam> rig;
  const std::uint64_t page = rig.page_with(1);
  rig.guest->map(0x1000, page);
  rig.go();
  std::uint64_t sent = 0, got = 0;
  for (int rounds = 0; got < 3 * kDmaRingEntries && rounds < 100'000; ++rounds) {
    while (sent < 3 * kDmaRingEntries && rig.dma->submit({.iova = 0x1000, .cookie = sent})) ++sent;
    rig.dma->ring();
    DmaCompletion c[16];
    const std::size_t n = rig.dma->complete(c);
    for (std::size_t i = 0; i < n; ++i) {
      EXPECT_EQ(c[i].cookie, got++);
      EXPECT_EQ(c[i].status, DmaStatus::kOk);
    }
    if (n == 0) rig.dma->wait(100'000'000);
  }
  EXPECT_EQ(got, 3 * kDmaRingEntries);
  EXPECT_EQ(rig.dma->in_flight(), 0U);
}

TEST(SoftKernel, ExecutesOneRequestAtATimeWithoutThreads) {
  SoftKernelConfig config = one_device();
  Nanos now = 1000;
  config.clock = [&] { return now; };
  auto kernel = SoftKernel::create(config).value();
  const DmaCompletion completion = kernel->dma(0, {.iova = 0x1000, .cookie = 3});
  EXPECT_EQ(completion.status, DmaStatus::kAborted);
  EXPECT_EQ(completion.cookie, 3U);
  EXPECT_EQ(completion.timestamp_ns, 1000U);
  EXPECT_EQ(kernel->stats().accesses, 1U);
}

TEST(SoftKernel, SaysWhatIsWrongWithItsConfiguration) {
  EXPECT_FALSE(SoftKernel::create({}).has_value());
  SoftKernelConfig config = one_device();
  config.devices.push_back(config.devices[0]);
  EXPECT_FALSE(SoftKernel::create(config).has_value());
  config.devices[1].name = "other";
  EXPECT_FALSE(SoftKernel::create(config).has_value());
  config.devices[1].stream_id = 99;
  EXPECT_TRUE(SoftKernel::create(config).has_value());
  config.tlb_sets = 3;
  EXPECT_FALSE(SoftKernel::create(config).has_value());
}

TEST(Mutation, HasANameForEachAndFindsItAgain) {
  EXPECT_FALSE(all_mutations().empty());
  for (const Mutation m : all_mutations()) EXPECT_EQ(mutation_named(name_of(m)), m);
  EXPECT_EQ(mutation_named("no such thing"), Mutation::kNone);
}

}  // namespace
}  // namespace faultline::soft
