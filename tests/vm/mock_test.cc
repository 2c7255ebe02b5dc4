// SPDX-License-Identifier: BSD-3-Clause
// The backend on the kernel's own mock devices: what no emulated SMMU can do.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "kernel/base/clock.h"
#include "kernel/iommufd/event_record.h"
#include "kernel/iommufd/fault_queue.h"
#include "kernel/iommufd/sources.h"
#include "tests/vm/failing_sys.h"
#include "tests/vm/mock_kernel.h"

namespace faultline::vm {
namespace {

/// A mock device whose page requests come to a fault queue.
struct MockFaultQueue : ::testing::Test {
  void SetUp() override {
    ASSERT_TRUE(kernel.ready());
    auto made = kernel.iommufd().alloc_fault_queue("mock");
    ASSERT_TRUE(made) << made.error().message();
    file.emplace(std::move(*made));
    ASSERT_NE(kernel.attach_nested(file->object.id()), 0U);
  }

  LinuxSys sys;
  MockKernel kernel{sys};
  std::optional<iommufd::QueueObject<LinuxSys>> file;
};

TEST_F(MockFaultQueue, PageRequestsAreReadExactlyAndOneBadAnswerBlocksNobody) {
  iommufd::FaultQueue<LinuxSys> queue(sys, file->fd.get(), {kernel.device()});
  constexpr std::uint32_t kRequests = 20;
  for (std::uint32_t i = 0; i < kRequests; ++i) {
    ASSERT_EQ(kernel.page_request(i % 2 == 0 ? 0 : 7, 100 + i,
                                  uapi::kIommuPgfaultPermRead | uapi::kIommuPgfaultPermWrite,
                                  0x1'2345'0000 + 0x1000 * i),
              0);
  }
  bool dry = false;
  ASSERT_TRUE(queue.refill(dry));
  std::array<FaultRecord, 64> records;
  ASSERT_EQ(queue.poll(0, records), kRequests);
  std::vector<PageAnswer> answers{{0xffff, true}};  // no such cookie, in front of all
  for (std::uint32_t i = 0; i < kRequests; ++i) {
    const FaultRecord& r = records[i];
    EXPECT_EQ(r.form, FaultRecord::Form::kPageRequest);
    EXPECT_EQ(r.addr, 0x1'2345'0000 + 0x1000 * std::uint64_t{i});
    EXPECT_EQ(r.group, 100 + i);
    EXPECT_EQ(r.perm, FaultRecord::kWrite);
    EXPECT_EQ(r.has_pasid, i % 2 != 0);
    EXPECT_EQ(r.pasid, i % 2 != 0 ? 7U : 0U);
    EXPECT_TRUE(r.last_page);
    answers.push_back({r.cookie, i % 3 != 0});
  }
  EXPECT_EQ(queue.answer(answers), kRequests);
  EXPECT_EQ(queue.stats().bad_answers, 1U);
  // The kernel has forgotten them: answered once, each.
  EXPECT_EQ(queue.answer(answers), 0U);
  EXPECT_FALSE(queue.refill(dry));
  EXPECT_TRUE(dry) << "an empty queue is no error";
  EXPECT_EQ(queue.stats().read_failed, 0U);
}

TEST_F(MockFaultQueue, AnyCallMayFailAndEveryRequestIsAnsweredOnce) {
  const int no_events = eventfd(0, EFD_NONBLOCK);
  ASSERT_GE(no_events, 0);
  constexpr std::uint32_t kRequests = 5;
  unsigned nth = 1;
  for (;; ++nth) {
    ASSERT_LT(nth, 100U);
    SCOPED_TRACE("call " + std::to_string(nth));
    FailingSys failing;
    failing.fail(nth);
    auto sources = iommufd::EventSources<FailingSys>::open(
        failing, {.devices = {{StreamId{0x42}, kernel.device()}},
                  .veventq = no_events,
                  .fault_queue = file->fd.get()});
    ASSERT_TRUE(sources) << "without a ring it reads";
    for (std::uint32_t i = 0; i < kRequests; ++i) {
      ASSERT_EQ(kernel.page_request(0, i, uapi::kIommuPgfaultPermRead, 0x1'0000 + 0x1000 * i), 0);
    }
    std::vector<PageAnswer> open;
    std::set<std::uint64_t> pages;
    std::size_t answered = 0;
    const Nanos limit = monotonic_ns() + 60'000'000'000;
    while (answered < kRequests && monotonic_ns() < limit) {
      sources->housekeeping(monotonic_ns());
      std::array<FaultRecord, 8> records;
      const std::size_t n = sources->poll(0, records);
      for (std::size_t i = 0; i < n; ++i) {
        EXPECT_TRUE(pages.insert(records[i].addr).second) << "nothing twice";
        open.push_back({records[i].cookie, true});
      }
      answered += sources->answer(open);
      // The kernel forgets those that it took, so all may be tried again.
    }
    EXPECT_EQ(pages.size(), kRequests);
    EXPECT_EQ(answered, kRequests);
    const bool failed = failing.failed();
    failing.fail(0);
    EXPECT_EQ(sources->answer(open), 0U) << "each was answered";
    if (!failed) break;
  }
  close(no_events);
  EXPECT_GE(nth, 3U);
  std::printf("| %u calls failed one by one while page requests were served\n", nth - 1);
}

TEST(MockVeventq, WhatDoesNotFitIsCountedExactlyByTheSequence) {
  LinuxSys sys;
  MockKernel kernel(sys);
  ASSERT_TRUE(kernel.ready());
  uapi::iommu_veventq_alloc alloc{};
  alloc.size = sizeof alloc;
  alloc.viommu_id = kernel.viommu();
  alloc.type = kSelftestVeventq;
  alloc.veventq_depth = 4;
  ASSERT_EQ(kernel.ioctl(uapi::kIommuVeventqAlloc, &alloc), 0);
  const int fd = static_cast<int>(alloc.out_veventq_fd);
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  ASSERT_NE(kernel.attach_nested(0), 0U);
  iommufd::EventSequence sequence;
  for (const unsigned burst : {7U, 3U, 4U, 25U, 1U}) {
    for (unsigned i = 0; i < burst; ++i) ASSERT_EQ(kernel.event(), 0);
    std::array<unsigned char, 4096> bytes;
    const ssize_t got = sys.read(fd, bytes.data(), bytes.size());
    ASSERT_GT(got, 0);
    std::uint64_t records = 0;
    std::uint64_t missing = 0;
    for (ssize_t at = 0; at < got;) {
      uapi::iommufd_vevent_header header;
      std::memcpy(&header, &bytes[static_cast<std::size_t>(at)], sizeof header);
      at += sizeof header;
      const auto step = sequence.take(header.sequence);
      EXPECT_TRUE(step.sane);
      missing += step.missing;
      if ((header.flags & uapi::kIommuVeventqFlagLostEvents) != 0) {
        ++missing;
        continue;
      }
      std::uint32_t virt_id = 0;
      std::memcpy(&virt_id, &bytes[static_cast<std::size_t>(at)], sizeof virt_id);
      at += sizeof virt_id;
      EXPECT_EQ(virt_id, MockKernel::kVirtId);
      ++records;
    }
    EXPECT_EQ(records, std::min(burst, 4U));
    EXPECT_EQ(missing, burst - records);
  }
  EXPECT_EQ(sequence.next(), 40U);
  const ssize_t rest = sys.read(fd, &alloc, sizeof alloc);
  EXPECT_TRUE(rest == 0 || rest == -EAGAIN) << rest;
  close(fd);
}

TEST(MockInvalidate, ARefusedEntryEndsTheArrayThere) {
  LinuxSys sys;
  MockKernel kernel(sys);
  ASSERT_TRUE(kernel.ready());
  const std::uint32_t nested = kernel.attach_nested(0);
  ASSERT_NE(nested, 0U);
  struct Entry {
    std::uint32_t flags, iotlb_id;
  };
  for (const std::uint32_t bad : {0U, 1U, 31U, 62U, 63U, 64U}) {
    std::vector<Entry> entries(64, Entry{0, 0});
    if (bad < entries.size()) entries[bad].flags = 0xffff'ffff;
    uapi::iommu_hwpt_invalidate i{};
    i.size = sizeof i;
    i.hwpt_id = nested;
    i.data_uptr = reinterpret_cast<std::uintptr_t>(entries.data());
    i.data_type = kSelftest;
    i.entry_len = sizeof(Entry);
    i.entry_num = static_cast<std::uint32_t>(entries.size());
    EXPECT_EQ(kernel.ioctl(uapi::kIommuHwptInvalidate, &i), bad < 64 ? -EOPNOTSUPP : 0);
    EXPECT_EQ(i.entry_num, bad) << "here the count is true; that of the SMMUv3 driver is not";
  }
}

/// The control path up to a fault queue. returns  the refusal; empty: none
std::string control_path(LinuxSys& sys, std::vector<std::byte>& memory) {
  auto iommufd = iommufd::Iommufd<LinuxSys>::open(sys);
  if (!iommufd) return iommufd.error().message();
  auto ioas = iommufd->alloc_ioas("mock");
  if (!ioas) return ioas.error().message();
  // Inside of what mock devices reach.
  const auto start =
      (reinterpret_cast<std::uintptr_t>(memory.data()) + 4095) & ~std::uintptr_t{4095};
  auto mapped = iommufd->map(ioas->id(), Gpa{1U << 24U}, 8 * 4096, reinterpret_cast<void*>(start));
  if (!mapped) return mapped.error().message();
  iommu_test_cmd made{};
  made.size = sizeof made;
  made.op = kMockDomain;
  made.id = ioas->id();
  if (sys.ioctl(iommufd->fd(), kIommuTestCmd, &made) != 0) return "mock device";
  const std::uint32_t device = made.arg[2];
  auto hardware = iommufd->hardware(device, "mock");
  if (!hardware) return hardware.error().message();
  auto parent = iommufd->alloc_nest_parent(device, ioas->id(), "mock");
  if (!parent) return parent.error().message();
  auto faults = iommufd->alloc_fault_queue("mock");
  if (!faults) return faults.error().message();
  return "";
}

TEST(MockFailures, EveryAllocationOfTheKernelMayFailAndNothingStays) {
  LinuxSys sys;
  std::ofstream("/sys/kernel/debug/failslab/ignore-gfp-wait") << "N";
  std::vector<std::byte> memory(9 * 4096);
  ASSERT_EQ(control_path(sys, memory), "");
  const std::size_t before = open_files();
  const int control =
      open(("/proc/self/task/" + std::to_string(gettid()) + "/fail-nth").c_str(), O_RDWR);
  ASSERT_GE(control, 0) << "no fault injection in this kernel";
  unsigned refused = 0;
  unsigned nth = 1;
  for (;; ++nth) {
    const std::string n = std::to_string(nth);
    ASSERT_EQ(pwrite(control, n.data(), n.size(), 0), static_cast<ssize_t>(n.size()));
    const std::string refusal = control_path(sys, memory);
    char left[16] = {};
    ASSERT_GT(pread(control, left, sizeof left - 1, 0), 0);
    ASSERT_EQ(pwrite(control, "0", 1, 0), 1);
    if (!refusal.empty()) ++refused;
    EXPECT_EQ(open_files(), before + 1) << "after failure " << nth << ": " << refusal;
    if (std::stoi(left) != 0) {  // so many allocations there are not
      EXPECT_EQ(refusal, "");
      break;
    }
    ASSERT_LT(nth, 5000U);
  }
  close(control);
  EXPECT_GT(refused, 10U) << "of " << nth;
  EXPECT_EQ(control_path(sys, memory), "") << "and afterwards all is well";
  std::printf("| %u allocations failed one by one, %u of them refused a call\n", nth - 1, refused);
}

}  // namespace
}  // namespace faultline::vm
