// SPDX-License-Identifier: BSD-3-Clause
// Every system call of the backend fails once, by the seam, over the real kernel. On the control
// path nothing of what was made before it stays, and the next attempt works; while it serves, no
// event is lost in silence and no translation outlives its CMD_SYNC.
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernel/iommufd/guest_iommu.h"
#include "tests/vm/failing_sys.h"
#include "tests/vm/vm_engine.h"
#include "tests/vm/vm_host.h"

namespace faultline::vm {
namespace {

TEST(IommufdFailures, OfAnyCallLeaveNothingBehind) {
  FailingSys sys;
  std::unique_ptr<void, void (*)(void*)> memory(std::aligned_alloc(4096, 1U << 20U), std::free);
  const iommufd::GuestRange range{Gpa{0x4000'0000}, 1U << 20U, memory.get(), -1, 0};
  const std::size_t before = open_files();
  unsigned nth = 1;
  for (;; ++nth) {
    ASSERT_LT(nth, 500U);
    iommufd::Parts parts;
    for (std::size_t i = 0; i < kDevices; ++i) {
      parts.devices.push_back({.name = Host<LinuxSys>::pci_name(i),
                               .vsid = StreamId{static_cast<std::uint32_t>(i + 1)}});
    }
    sys.fail(nth);
    {
      auto made = iommufd::GuestIommu<FailingSys>::make(sys, std::move(parts), {&range, 1});
      if (made) {
        EXPECT_FALSE(sys.failed()) << "a failure went unnoticed: " << nth;
        break;
      }
      ASSERT_TRUE(sys.failed()) << made.error().message();
      EXPECT_EQ(made.error().message().find('\n'), std::string::npos) << "one line";
      EXPECT_NE(made.error().message().find("errno"), std::string::npos) << made.error().message();
    }
    EXPECT_EQ(open_files(), before) << "after failure " << nth;
  }
  EXPECT_EQ(open_files(), before);
  // Each device is opened, bound, asked and made virtual; six objects are shared.
  EXPECT_GE(nth, 4 * kDevices + 6);
  std::printf("| %u calls failed one by one, nothing stayed\n", nth - 1);
}

TEST(IommufdFailures, OfAnyCallWhileItServesLoseNothingAndKeepNothingStale) {
  World<FailingSys, merge::Merge> world;
  ASSERT_EQ(world.error(), "");
  auto& host = world.host;
  auto& d = host.devices;
  // Rounds until it is so; the backstop of a file that cannot be polled is 100 ms away.
  const auto until = [&](auto so) {
    const Nanos limit = monotonic_ns() + 60'000'000'000;
    while (!so() && monotonic_ns() < limit) {
      world.engine->round();
      host.read_events();
    }
    return so();
  };
  unsigned nth = 1;
  unsigned failures = 0;
  for (;; ++nth) {
    ASSERT_LT(nth, 500U);
    SCOPED_TRACE("call " + std::to_string(nth));
    const std::size_t events = host.events.size();
    const std::size_t overflows = host.overflows;
    host.sys.fail(nth);
    // A new engine on the journal of the one before, so that opening its sources may fail, too.
    world.engine.reset();
    world.engine.emplace(host);
    // An event of a device.
    const Iova nowhere{0x5000'0000 + 0x1000ULL * nth};
    world.dma({{.device = 0, .iova = nowhere}});
    ASSERT_TRUE(until([&] { return host.events.size() > events || host.overflows > overflows; }));
    // Another page behind the same address.
    const Gpa to = nth % 2 != 0 ? d[1].other : d[1].page;
    const Gpa from = nth % 2 != 0 ? d[1].page : d[1].other;
    d[1].table->unmap(kIova);
    d[1].table->map(kIova, to, guest::Leaf::kReadWrite);
    world.run({guest::tlbi_va(d[1].asid, kIova)});
    // Another stream table entry, and back.
    host.driver->streams().translate(d[2].sid, d[nth % 2 != 0 ? 3 : 2].context);
    world.run({guest::cfgi_ste(d[2].sid)});
    const bool failed = host.sys.failed();
    host.sys.fail(0);
    world.settle();
    for (const Gpa page : {d[1].page, d[1].other, d[2].page, d[3].page}) host.clean(page);
    world.dma({{.device = 1}, {.device = 2}});
    EXPECT_TRUE(host.written(to));
    EXPECT_FALSE(host.written(from)) << "a translation that a CMD_SYNC had removed";
    EXPECT_TRUE(host.written(d[nth % 2 != 0 ? 3 : 2].page)) << "the new stream table entry";
    EXPECT_FALSE(host.written(d[nth % 2 != 0 ? 2 : 3].page));
    EXPECT_LE(host.events.size(), events + 1) << "nothing twice";
    if (host.events.size() > events) {
      EXPECT_EQ(host.events.back().words[2], nowhere.value);
    }
    if (!failed) break;
    ++failures;
  }
  EXPECT_GE(failures, 4U) << "a read, an array, a table, its attachment";
  std::printf("| %u calls failed one by one while it served, nothing was lost or stale\n",
              failures);
}

}  // namespace
}  // namespace faultline::vm
