// SPDX-License-Identifier: BSD-3-Clause
#include "apps/guest/dma_checker.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <memory>

#include "tests/apps/guest/fake_smmu.h"

namespace faultline::guest {
namespace {

using soft::DmaCompletion;
using soft::DmaRequest;
using soft::DmaStatus;

/// BAR 0 with a device behind it that answers as the test says.
class FakeDevice {
 public:
  FakeDevice() : bytes_(new (std::align_val_t{4096}) unsigned char[soft::kDmaBarSize]()) {
    soft::dma_header(bar()).magic = soft::kDmaBarMagic;
    soft::dma_header(bar()).version = soft::kDmaBarVersion;
    soft::dma_header(bar()).entries = soft::kDmaRingEntries;
  }
  void* bar() { return bytes_.get(); }

  /// Answer everything that was rung for; status and value are the test's.
  std::size_t serve(const std::function<void(const DmaRequest&, DmaCompletion&)>& answer) {
    soft::DmaBarHeader& h = soft::dma_header(bar());
    std::size_t n = 0;
    for (; h.request_tail != h.request_head; ++h.request_tail, ++n) {
      const DmaRequest r = soft::dma_requests(bar())[h.request_tail % soft::kDmaRingEntries];
      DmaCompletion c;
      c.cookie = r.cookie;
      answer(r, c);
      soft::dma_completions(bar())[h.completion_head++ % soft::kDmaRingEntries] = c;
    }
    return n;
  }

 private:
  struct Free {
    void operator()(unsigned char* p) const { ::operator delete[](p, std::align_val_t{4096}); }
  };
  std::unique_ptr<unsigned char[], Free> bytes_;
};

class DmaCheckerTest : public testing::Test {
 protected:
  static constexpr std::size_t kSlot = 3;

  // What the guest does when it maps the slot, clears the descriptor, and sees the CMD_SYNC.
  void map() {
    ASSERT_TRUE(dma.next_generation(kSlot));
    ++dma.slot(kSlot).step;
  }
  void clear() { ++dma.slot(kSlot).step; }
  void synced() {
    ++dma.slot(kSlot).step;
    pool.give_back(dma.slot(kSlot).page);
  }
  void issue(bool write) {
    dma.touch(kSlot, write);
    dma.ring();
  }
  void answer(DmaStatus status, std::uint64_t value = 0) {
    device.serve([&](const DmaRequest& r, DmaCompletion& c) {
      c.status = status;
      c.value = value;
      if (status == DmaStatus::kOk && (r.flags & DmaRequest::kWrite) != 0) {
        const std::uint64_t at = (landing.value != 0 ? landing : dma.slot(kSlot).page).value;
        s.memory.word(Gpa{at + (r.iova & 0xfff)}) = r.value;
      }
    });
    dma.take();
  }
  std::uint64_t tag() { return make_tag(7, kSlot, dma.slot(kSlot).generation()); }

  FakeSmmu s;
  FakeDevice device;
  PagePool pool{s.memory, 4};
  DmaChecker dma{device.bar(), 7, pool, 1};
  Gpa landing;  ///< where writes land, if not in the slot's page
};

TEST_F(DmaCheckerTest, AcceptsTheCurrentTag) {
  map();
  issue(false);
  answer(DmaStatus::kOk, tag());
  EXPECT_EQ(dma.stats().completed, 1U);
  EXPECT_EQ(dma.stats().stale + dma.stats().wrong, 0U);
}

TEST_F(DmaCheckerTest, CountsAReadOfTheOldPageAfterTheSync) {
  map();
  const std::uint64_t old = tag();
  clear();
  synced();
  issue(false);
  answer(DmaStatus::kOk, old);
  EXPECT_EQ(dma.stats().stale, 1U);
  issue(false);
  answer(DmaStatus::kOk, PagePool::kResting);
  EXPECT_EQ(dma.stats().stale, 2U);
}

TEST_F(DmaCheckerTest, CountsAReadOfTheOldPageAfterTheNextMapping) {
  map();
  const std::uint64_t old = tag();
  clear();
  synced();
  map();
  issue(false);
  answer(DmaStatus::kOk, old);
  EXPECT_EQ(dma.stats().stale, 1U);
}

TEST_F(DmaCheckerTest, AcceptsEitherAnswerBeforeTheSync) {
  map();
  const std::uint64_t old = tag();
  clear();
  issue(false);
  answer(DmaStatus::kOk, old);
  issue(false);
  answer(DmaStatus::kFaulted);
  EXPECT_EQ(dma.stats().faulted, 1U);
  EXPECT_EQ(dma.stats().stale + dma.stats().wrong, 0U);
}

TEST_F(DmaCheckerTest, AcceptsWhatWasIssuedBeforeTheSyncAndAnsweredAfterIt) {
  map();
  const std::uint64_t old = tag();
  clear();
  issue(false);
  synced();
  map();
  answer(DmaStatus::kOk, old);
  EXPECT_EQ(dma.stats().stale + dma.stats().wrong, 0U);
}

TEST_F(DmaCheckerTest, CountsAFaultThroughALiveMapping) {
  map();
  issue(false);
  answer(DmaStatus::kFaulted);
  EXPECT_EQ(dma.stats().wrong, 1U);
}

TEST_F(DmaCheckerTest, CountsATagOfAnotherSlot) {
  map();
  issue(false);
  answer(DmaStatus::kOk, make_tag(7, kSlot + 1, 1));
  EXPECT_EQ(dma.stats().wrong, 1U);
}

TEST_F(DmaCheckerTest, AcceptsAWriteThatLanded) {
  map();
  issue(true);
  answer(DmaStatus::kOk);
  EXPECT_EQ(dma.stats().stale + dma.stats().wrong, 0U);
}

TEST_F(DmaCheckerTest, CountsAWriteThatIsSaidToBeDoneAfterTheSync) {
  map();
  const Gpa old = dma.slot(kSlot).page;
  clear();
  synced();
  landing = old;
  issue(true);
  answer(DmaStatus::kOk);
  EXPECT_EQ(dma.stats().stale, 1U);
  dma.final_check();
  EXPECT_EQ(dma.stats().stale, 2U) << "the resting page shows it as well";
}

TEST_F(DmaCheckerTest, CountsAWriteThatWentToTheOldPage) {
  map();
  const Gpa old = dma.slot(kSlot).page;
  clear();
  synced();
  map();
  landing = old;
  issue(true);
  answer(DmaStatus::kOk);
  EXPECT_EQ(dma.stats().stale, 1U);
}

TEST_F(DmaCheckerTest, CountsAnAnswerWhereNothingWasEverMapped) {
  dma.touch_nothing();
  dma.ring();
  EXPECT_EQ(dma.faults_in_flight(), 1U);
  answer(DmaStatus::kOk);
  EXPECT_EQ(dma.stats().wrong, 1U);
  dma.touch_nothing();
  dma.ring();
  answer(DmaStatus::kFaulted);
  EXPECT_EQ(dma.stats().wrong, 1U);
  EXPECT_EQ(dma.faults_in_flight(), 0U);
}

TEST_F(DmaCheckerTest, CountsWhatABlockedStreamLetThrough) {
  map();
  dma.set_blocked(true);
  issue(false);
  answer(DmaStatus::kAborted);
  EXPECT_EQ(dma.stats().stale, 0U);
  issue(false);
  answer(DmaStatus::kOk, tag());
  EXPECT_EQ(dma.stats().stale, 1U);
  issue(false);
  answer(DmaStatus::kFaulted);
  EXPECT_EQ(dma.stats().stale, 2U);
}

TEST_F(DmaCheckerTest, CountsAnAbortWithoutReason) {
  map();
  issue(false);
  answer(DmaStatus::kAborted);
  EXPECT_EQ(dma.stats().wrong, 1U);
}

TEST_F(DmaCheckerTest, RepeatsSomeFaultsExactly) {
  std::vector<DmaRequest> seen;
  for (int i = 0; i < 200; ++i) dma.touch_nothing();
  dma.ring();
  device.serve([&](const DmaRequest& r, DmaCompletion& c) {
    seen.push_back(r);
    c.status = DmaStatus::kFaulted;
  });
  std::size_t repeated = 0;
  for (std::size_t i = 1; i < seen.size(); ++i) {
    repeated += seen[i].iova == seen[i - 1].iova && seen[i].flags == seen[i - 1].flags ? 1 : 0;
  }
  EXPECT_GT(repeated, 20U);
  EXPECT_LT(repeated, 100U);
}

}  // namespace
}  // namespace faultline::guest
