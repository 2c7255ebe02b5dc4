// SPDX-License-Identifier: BSD-3-Clause
#include "engine/doorbell.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <random>
#include <thread>

#include "engine/run_loop.h"
#include "engine/shard.h"

namespace faultline::engine {
namespace {

constexpr Nanos kPoll = 77'000;
constexpr Nanos kForEver = ~Nanos{0};

/// A VMM that arms: the three descriptors, and which way the page is mapped into the guest.
struct Vmm {
  Vmm() {
    EXPECT_TRUE(doorbell.hang() && arm.hang() && armed.hang());
    spec.doorbell_eventfd = doorbell.fd();
    spec.arm_eventfd = arm.fd();
    spec.armed_eventfd = armed.fd();
    spec.register_poll_ns = kPoll;
  }
  [[nodiscard]] bool asked() const { return Bell::drain(arm.fd()); }
  void answer() {
    const std::lock_guard lock(mutex);
    read_only = true;
    armed.ring();
  }
  /// A guest's write to its registers.
  void write() {
    const std::lock_guard lock(mutex);
    prod.fetch_add(1, std::memory_order_release);
    if (!read_only) return;
    read_only = false;
    doorbell.ring();
  }

  Bell doorbell, arm, armed;
  GuestSpec spec;
  std::mutex mutex;
  bool read_only = false;
  std::atomic<unsigned> prod{0};
};

TEST(Doorbell, OfATrappedGuestLetsTheShardSleep) {
  GuestSpec spec;
  spec.register_poll_ns = kPoll;
  EXPECT_EQ(Doorbell(spec).longest_sleep(), kPoll) << "nobody rings";
  Bell bell;
  ASSERT_TRUE(bell.hang());
  spec.doorbell_eventfd = bell.fd();
  EXPECT_EQ(Doorbell(spec).longest_sleep(), kForEver);
}

TEST(Doorbell, AnExitlessGuestsShardAsksOnceAndSleepsLongWhenArmed) {
  Vmm vmm;
  Doorbell doorbell(vmm.spec);
  EXPECT_EQ(doorbell.longest_sleep(), kPoll);
  doorbell.drain();
  EXPECT_TRUE(vmm.asked());
  EXPECT_EQ(doorbell.longest_sleep(), kPoll) << "not before the VMM has answered";
  doorbell.drain();
  EXPECT_FALSE(vmm.asked()) << "it was asked already";
  vmm.answer();
  doorbell.drain();
  EXPECT_EQ(doorbell.longest_sleep(), kForEver);
  doorbell.drain();
  EXPECT_FALSE(vmm.asked());
  EXPECT_EQ(doorbell.longest_sleep(), kForEver) << "it stays armed until somebody writes";
  vmm.write();
  doorbell.drain();
  EXPECT_EQ(doorbell.longest_sleep(), kPoll);
  EXPECT_TRUE(vmm.asked()) << "and is asked for anew";
}

TEST(Doorbell, DoesNotBelieveAnArmedThatAWriteHasOvertaken) {
  Vmm vmm;
  Doorbell doorbell(vmm.spec);
  doorbell.drain();
  vmm.answer();
  vmm.write();
  doorbell.drain();
  EXPECT_EQ(doorbell.longest_sleep(), kPoll);
  EXPECT_FALSE(vmm.read_only);
}

TEST(Doorbell, ForgetsWhatAnEarlierEngineWasTold) {
  Vmm vmm;
  vmm.answer();
  Doorbell doorbell(vmm.spec);
  doorbell.drain();
  EXPECT_EQ(doorbell.longest_sleep(), kPoll);
  EXPECT_TRUE(vmm.asked());
}

struct PageDuty {
  Vmm* vmm;
  Doorbell doorbell;
  std::atomic<unsigned>* taken;
  std::size_t round(Nanos) noexcept {
    const unsigned prod = vmm->prod.load(std::memory_order_acquire);
    return prod - taken->exchange(prod, std::memory_order_acq_rel);
  }
  [[nodiscard]] std::array<int, 2> wake_fds() const noexcept { return doorbell.wake_fds(); }
  void drain_signals(Nanos) noexcept { doorbell.drain(); }
  [[nodiscard]] Nanos longest_sleep() const noexcept {
    // Were it ever wrong to sleep for ever, polling would hide it.
    return doorbell.longest_sleep() == kForEver ? Nanos{3'600'000'000'000} : 1'000;
  }
};

TEST(Doorbell, LosesNoWriteWhileTheVmmArms) {
  Vmm vmm;
  std::atomic<unsigned> taken{0};
  PageDuty duty{&vmm, Doorbell(vmm.spec), &taken};
  using PageShard = Shard<PageDuty>;
  PageShard shard;
  shard.sleep_on(std::move(*Sleeper::make()));
  ASSERT_TRUE(shard.watch(duty) && shard.add(duty));
  std::thread core([&] {
    PageShard* const shards[] = {&shard};
    run_loop(std::span<PageShard* const>(shards),
             IdleOptions{.policy = IdlePolicy::kSleep, .quiet = 1, .longest = kForEver},
             MonotonicClock{});
  });
  std::atomic<bool> over{false};
  std::atomic<unsigned> answers{0};
  std::thread arming([&] {
    while (!over) {
      if (vmm.asked()) {
        vmm.answer();
        ++answers;
      }
      std::this_thread::yield();
    }
  });
  std::mt19937 random(41);
  for (unsigned i = 1; i <= 500 || answers < 100; ++i) {
    for (volatile unsigned spin = random() % 3000; spin != 0;) spin = spin - 1;
    if (i % 20 == 0) std::this_thread::sleep_for(std::chrono::microseconds(300));
    vmm.write();
    while (taken.load(std::memory_order_acquire) != i) std::this_thread::yield();
  }
  over = true;
  arming.join();
  ASSERT_TRUE(shard.post({}));
  core.join();
}

}  // namespace
}  // namespace faultline::engine
