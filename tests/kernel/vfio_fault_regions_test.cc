// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/vfio/fault_regions.h"

#include <gmock/gmock.h>

#include <atomic>
#include <thread>

#include "tests/kernel/vfio_fixture.h"
#include "tests/kernel/vfio_model_kernel.h"
#include "tests/support/allocations.h"

namespace faultline::testing {
namespace {

using ::testing::HasSubstr;

static_assert(FaultSourceSet<vfio::FaultRegions<ScriptedSys>>);

struct VfioFaultRegions : VfioFixture {};

TEST_F(VfioFaultRegions, ReportEveryCallThatFailsWhileOpening) {
  ASSERT_EQ(open_device(), "");
  const auto attempt = [&] {
    auto opened = Regions::open(sys, devices);
    return opened ? std::string() : opened.error().message();
  };
  sys.inject(Call::kEpollCreate, 1, -EMFILE);
  EXPECT_THAT(attempt(), HasSubstr("epoll_create1"));
  sys.inject(Call::kEventfd, 1, -EMFILE);
  EXPECT_THAT(attempt(), HasSubstr("no eventfd"));
  sys.inject(Call::kEpollCtl, 1, -ENOSPC);
  EXPECT_THAT(attempt(), HasSubstr("cannot watch"));
  sys.inject(Call::kIoctl, 1, -EINVAL, uapi::kVfioDeviceSetIrqs);
  EXPECT_THAT(attempt(), HasSubstr("SET_IRQS"));
  sys.inject(Call::kPwrite, 1, -EINVAL);
  EXPECT_THAT(attempt(), HasSubstr("refused fault ABI"));
  EXPECT_EQ(attempt(), "");
  EXPECT_FALSE(
      Regions::open(sys, devices, vfio::AbiChoice::kAuto, {}, std::vector<SourcePosition>(2)));
}

TEST_F(VfioFaultRegions, SetTheEventfdBeforeAnythingIsRead) {
  ASSERT_EQ(open_device(), "");
  const auto pread = sys.on_pread;
  sys.on_pread = [&](int fd, void* out, std::size_t n, std::uint64_t at) {
    EXPECT_NE(kernel.irq_eventfd, -1);
    return pread(fd, out, n, at);
  };
  ASSERT_EQ(reopen_regions(), "");
  EXPECT_TRUE(poll().empty());
}

TEST_F(VfioFaultRegions, LookAtTheEventfdsOncePerPeriodAndNotBetween) {
  ASSERT_EQ(open_regions(vfio::AbiChoice::kAuto, {.backstop_period = 1000}), "");
  poll();
  sys.forget_counts();
  for (Nanos now = 10'000; now < 20'000; now += 10) regions->housekeeping(now);
  EXPECT_EQ(sys.count(Call::kEpollWait), 10);
  EXPECT_EQ(sys.count(Call::kPread), 0);
}

TEST_F(VfioFaultRegions, SurviveAnEpollThatFails) {
  ASSERT_EQ(open_regions(), "");
  sys.inject(Call::kEpollWait, 1, -EINTR);
  EXPECT_EQ(regions->housekeeping(1'000'000), 0U);
}

TEST_F(VfioFaultRegions, NameARegionActiveFromItsRecordUntilItsLastOneIsPolled) {
  for (const std::uint32_t abi : {1U, 2U}) {
    SCOPED_TRACE(abi);
    regions.reset();
    devices.clear();
    container.reset();
    kernel.max_abi = abi;
    kernel.abi = 0;
    kernel.prod1 = kernel.cons1 = 0;
    ASSERT_EQ(open_regions(), "");
    poll();
    for (std::uint64_t tag = 1; tag < 500; tag += 2) {  // several laps
      ASSERT_EQ(regions->next_active(0, 1), 1U);
      for (std::uint64_t t = tag; t < tag + 2; ++t) {
        abi == 1 ? kernel.produce1(t) : kernel.produce2(t);
      }
      ASSERT_EQ(regions->next_active(0, 1), 0U);
      ASSERT_EQ(poll(1).size(), 1U);
      ASSERT_EQ(regions->next_active(0, 1), 0U);
      ASSERT_EQ(poll(1).size(), 1U);
      regions->commit(0);
    }
    EXPECT_EQ(regions->next_active(0, 1), 1U);
    EXPECT_EQ(regions->next_active(1, 1), 1U);
  }
}

TEST_F(VfioFaultRegions, NameAWordThatEveryRecordChanges) {
  for (const std::uint32_t abi : {1U, 2U}) {
    SCOPED_TRACE(abi);
    regions.reset();
    devices.clear();
    container.reset();
    kernel.max_abi = abi;
    kernel.abi = 0;
    kernel.prod1 = kernel.cons1 = 0;
    ASSERT_EQ(open_regions(), "");
    poll();
    for (std::uint64_t tag = 1; tag < 500; ++tag) {  // several laps
      const std::uint32_t* const word = regions->watched_word(0);
      const std::uint32_t before = *word;
      abi == 1 ? kernel.produce1(tag) : kernel.produce2(tag);
      ASSERT_NE(*word, before);
      ASSERT_EQ(poll().size(), 1U);
      regions->commit(0);
    }
  }
}

TEST_F(VfioFaultRegions, NameARegionActiveWhenTheBackstopHasSomethingThatLooksLikeNothing) {
  ASSERT_EQ(open_regions(vfio::AbiChoice::kAuto, {.backstop_period = 1000}), "");
  poll();
  for (std::uint32_t i = 0; i < FakeVfio::kEntries1; ++i) {
    ASSERT_TRUE(kernel.produce1(7));
    poll();
    regions->housekeeping(2000 * (i + 1));
    poll();
    regions->commit(0);
  }
  ASSERT_TRUE(kernel.produce1(7));  // every byte as a lap ago
  EXPECT_EQ(regions->next_active(0, 1), 1U);
  EXPECT_EQ(regions->housekeeping(1'000'000), 1U);
  EXPECT_EQ(regions->next_active(0, 1), 0U);
  EXPECT_EQ(poll().size(), 1U);
  EXPECT_EQ(regions->next_active(0, 1), 1U);
}

TEST_F(VfioFaultRegions, AllocateNothingInAMillionPolls) {
  for (const std::uint32_t abi : {1U, 2U}) {
    regions.reset();
    devices.clear();
    container.reset();
    kernel.max_abi = abi;
    kernel.abi = 0;
    kernel.prod1 = kernel.cons1 = 0;
    ASSERT_EQ(open_regions(), "");
    std::array<FaultRecord, 32> out;
    // ScriptedSys counts in maps; what it needs is there after one round of each call.
    const auto round = [&](std::uint64_t i) {
      if (i % 16 == 0) abi == 1 ? kernel.produce1(i) : kernel.produce2(i);
      const std::size_t n = regions->poll(0, out);
      const SourceLoss loss = regions->take_loss(0);
      regions->housekeeping(i * 100);
      if (n > 0) regions->commit(0);
      return n + loss.exact;
    };
    for (std::uint64_t i = 0; i < 10'000; ++i) round(i);
    const std::size_t before = testing_support::allocations();
    std::uint64_t records = 0;
    for (std::uint64_t i = 10'000; i < 1'010'000; ++i) records += round(i);
    EXPECT_EQ(testing_support::allocations(), before);
    EXPECT_EQ(records, 62'500U);
  }
}

TEST_F(VfioFaultRegions, LoseNothingBesideAProducerInAnotherThread) {
  for (const std::uint32_t abi : {1U, 2U}) {
    SCOPED_TRACE(abi);
    regions.reset();
    devices.clear();
    container.reset();
    kernel.max_abi = abi;
    kernel.abi = 0;
    ModelKernel model(sys, kernel, FL_QUIRK_MASKED_SPACE);
    model.signals = false;
    ASSERT_EQ(open_regions(), "");
    poll();
    constexpr std::uint64_t kEvents = 20'000;
    std::atomic<bool> done{false};
    std::thread producer([&] {
      for (std::uint64_t tag = 1; tag <= kEvents; ++tag) {
        model.produce(tag);
        if (tag % 8 == 0) std::this_thread::yield();
      }
      done.store(true, std::memory_order_release);
    });
    std::uint64_t last = 0;
    std::uint64_t records = 0;
    std::uint64_t exact = 0;
    std::uint64_t told = 0;
    bool in_order = true;
    for (bool over = false; !over;) {
      over = done.load(std::memory_order_acquire);  // pairs with the producer's release
      const SourceLoss loss = regions->take_loss(0);
      exact += loss.exact;
      told += loss.possible;
      for (const FaultRecord& r : poll()) {
        const std::uint64_t tag = abi == 1 ? r.addr : r.event[2];
        // What is missing between two records must be told at the later one, or was told at rest.
        in_order = in_order && tag > last;
        last = tag;
        ++records;
        over = false;
        if (r.lost_before_is_guess) {
          told += r.lost_before;
        } else {
          exact += r.lost_before;
        }
      }
      regions->commit(0);
      std::this_thread::yield();
    }
    producer.join();
    exact += regions->take_loss(0).exact;
    EXPECT_TRUE(in_order);
    EXPECT_EQ(records + model.dropped(), kEvents);
    if (abi == 2) {
      EXPECT_EQ(exact, model.dropped());
    }
    if (abi == 1 && model.dropped() > 0) {
      EXPECT_GT(told, 0U);
    }
    regions.reset();
    devices.clear();
    container.reset();
  }
}

}  // namespace
}  // namespace faultline::testing
