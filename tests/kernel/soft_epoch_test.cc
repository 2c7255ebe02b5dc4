// SPDX-License-Identifier: BSD-3-Clause
// An invalidation returns only after every access that used a removed entry has finished.
#include <atomic>
#include <functional>
#include <semaphore>
#include <thread>

#include "tests/kernel/soft_worlds.h"

namespace faultline::soft {
namespace {

/// Two devices in one container; an access of device 0 can be held after its translation.
class SoftEpoch : public testing::Test {
 protected:
  static SoftKernelConfig config(SoftEpoch& test) {
    SoftKernelConfig c;
    c.devices = {{"0000:00:01.0", 1, 0x10, 0}, {"0000:00:01.1", 1, 0x11, 0}};
    c.access_hook = [&test](std::size_t device) {
      if (device != 0 || !test.hold) return;
      test.held.release();
      test.go_on.acquire();
    };
    return c;
  }

  /// Run `call` in a thread while an access of device 0 through `iova` is held; returns whether it
  /// returned before the access had finished. `removed` tells, through device 1, that the call has
  /// got as far as removing what it removes.
  bool returns_early(std::uint64_t iova, const std::function<void()>& call,
                     const std::function<bool()>& removed) {
    hold = true;
    std::atomic<bool> access_over{false};
    std::atomic<bool> returned{false};
    std::atomic<bool> early{false};
    std::thread device(
        [&] { rig.where.view().dma(0, {.iova = iova, .value = 9, .flags = DmaRequest::kWrite}); });
    held.acquire();
    std::thread caller([&] {
      call();
      early = !access_over;
      returned = true;
    });
    for (int i = 0; i < 1'000'000 && !removed(); ++i) std::this_thread::yield();
    EXPECT_TRUE(removed());
    // A caller that does not wait gets every chance to return.
    for (int i = 0; i < 1'000 && !returned; ++i) std::this_thread::yield();
    const bool came_back = returned;
    access_over = true;
    hold = false;
    go_on.release();
    device.join();
    caller.join();
    return early || came_back;
  }

  std::atomic<bool> hold{false};
  std::binary_semaphore held{0};
  std::binary_semaphore go_on{0};
  Rig<InProcess> rig{config(*this)};
};

TEST_F(SoftEpoch, InvalidationWaitsForTheAccessInFlight) {
  const std::uint64_t old_page = rig.page_with(1);
  rig.guest->map(0x1000, old_page);
  rig.go();
  EXPECT_EQ(rig.where.view().dma(1, {.iova = 0x1000}).value, 1U);
  rig.guest->map(0x1000, rig.page_with(2));
  const auto invalidate = [&] {
    EXPECT_EQ(rig.calls.invalidate_pages(rig.container, rig.kAsid, 0x1000, 1), 0);
  };
  const auto removed = [&] { return rig.where.view().dma(1, {.iova = 0x1000}).value == 2; };
  EXPECT_FALSE(returns_early(0x1000, invalidate, removed));
  EXPECT_EQ(load_acquire(rig.guest->word(old_page)), 9U);  // it did use the old translation
}

TEST_F(SoftEpoch, UnmappingWaitsForTheAccessInFlight) {
  const std::uint64_t page = rig.page_with(1);
  const auto unmap = [&] {
    EXPECT_GT(rig.calls.unmap_dma(rig.container, rig.kRam, rig.kRamSize), 0);
  };
  const auto removed = [&] {
    return rig.where.view().dma(1, {.iova = page}).status == DmaStatus::kFaulted;
  };
  EXPECT_FALSE(returns_early(page, unmap, removed));
}

TEST_F(SoftEpoch, DetachingWaitsForTheAccessInFlight) {
  const std::uint64_t page = rig.page_with(1);
  const auto detach = [&] { EXPECT_EQ(rig.calls.detach(rig.container), 0); };
  const auto removed = [&] {
    return rig.where.view().dma(1, {.iova = page}).status == DmaStatus::kAborted;
  };
  EXPECT_FALSE(returns_early(page, detach, removed));
}

}  // namespace
}  // namespace faultline::soft
