// SPDX-License-Identifier: BSD-3-Clause
// Invalidations take effect in the emulated SMMU, which really holds stale entries. Every test
// looks at what devices reach before and after: a control shows first that without the invalidation
// they go on reaching what is no longer mapped.
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "tests/vm/tampering_sys.h"
#include "tests/vm/vm_engine.h"

namespace faultline::vm {
namespace {

template <class P>
class IommufdInvalidate : public testing::Test {
 public:
  using Policy = P;
};
struct PolicyName {
  template <class P>
  static std::string GetName(int) {
    if (std::same_as<P, merge::ForwardEach>) return "ForwardEach";
    return std::same_as<P, merge::BatchUntilSync> ? "BatchUntilSync" : "Merge";
  }
};
using Policies = testing::Types<merge::ForwardEach, merge::BatchUntilSync, merge::Merge>;
TYPED_TEST_SUITE(IommufdInvalidate, Policies, PolicyName);

using guest::Command;

Command cfgi_cd_all(StreamId sid) {
  return {{guest::op::kCfgiCdAll | std::uint64_t{sid.value} << 32U, 0}};
}
Command tlbi_all() {
  return {{guest::op::kTlbiNhAll, 0}};
}
Command tlbi_vaa(Iova iova) {
  return {{guest::op::kTlbiNhVaa, iova.value | 1U}};
}
/// Commands for pages that nothing uses.
std::vector<Command> filler(std::uint16_t asid, std::size_t n) {
  std::vector<Command> out;
  // Two pages apart, so that they do not become a range.
  for (std::size_t i = 0; i < n; ++i) {
    out.push_back(guest::tlbi_va(asid, Iova{0x7000'0000 + 0x2000 * i}));
  }
  return out;
}

enum class Reach { kPage, kOther, kNothing };

template <class W>
std::vector<Reach> reach(W& world) {
  world.dma_all();
  std::vector<Reach> out;
  for (const GuestDevice& d : world.host.devices) {
    EXPECT_FALSE(world.host.written(d.page) && world.host.written(d.other));
    out.push_back(world.host.written(d.page)    ? Reach::kPage
                  : world.host.written(d.other) ? Reach::kOther
                                                : Reach::kNothing);
  }
  return out;
}
std::vector<Reach> all(Reach r) {
  return std::vector<Reach>(kDevices, r);
}

/// What a driver issues for the page at kIova of each device: another form for each.
std::vector<Command> one_form_each(const std::vector<GuestDevice>& d, bool ranges) {
  const Iova before{kIova.value - 7 * kPage4K};
  std::vector<Command> out;
  out.push_back(guest::tlbi_va(d[0].asid, kIova));
  out.push_back(guest::tlbi_va(d[1].asid, kIova, false));
  out.push_back(ranges ? guest::tlbi_va_range(d[2].asid, before, 16)
                       : guest::tlbi_va(d[2].asid, kIova));
  out.push_back(guest::tlbi_asid(d[3].asid));
  // Its page is in the middle of many others: more than one array of the kernel's.
  std::vector<Command> many = filler(d[4].asid, 150);
  many[100] = guest::tlbi_va(d[4].asid, kIova);
  out.insert(out.end(), many.begin(), many.end());
  out.push_back(tlbi_vaa(kIova));  // of any ASID: the last three devices
  return out;
}

TYPED_TEST(IommufdInvalidate, OfEveryFormLetsDevicesSeeTheNewPageAndThenNone) {
  World<LinuxSys, typename TestFixture::Policy> world;
  ASSERT_EQ(world.error(), "");
  auto& d = world.host.devices;
  EXPECT_EQ(reach(world), all(Reach::kPage));

  for (GuestDevice& x : d) x.table->map(kIova, x.other, guest::Leaf::kReadWrite);
  EXPECT_EQ(reach(world), all(Reach::kPage)) << "control: stale without an invalidation";
  world.run(one_form_each(d, world.host.features.ranges));
  EXPECT_EQ(reach(world), all(Reach::kOther));

  for (GuestDevice& x : d) x.table->unmap(kIova);
  EXPECT_EQ(reach(world), all(Reach::kOther)) << "control: stale without an invalidation";
  EXPECT_TRUE(world.host.events.empty());
  world.run(one_form_each(d, world.host.features.ranges));
  EXPECT_EQ(reach(world), all(Reach::kNothing));
  world.await_events(kDevices);
  EXPECT_EQ(world.host.events.size(), kDevices) << "each faults, once";
  EXPECT_EQ(world.engine->counters().failed_submissions, 0U);
}

TYPED_TEST(IommufdInvalidate, OfOneDeviceLeavesTheOthersStale) {
  World<LinuxSys, typename TestFixture::Policy> world;
  ASSERT_EQ(world.error(), "");
  auto& d = world.host.devices;
  EXPECT_EQ(reach(world), all(Reach::kPage));
  for (GuestDevice& x : d) x.table->map(kIova, x.other, guest::Leaf::kReadWrite);
  world.run({guest::tlbi_va(d[2].asid, kIova), guest::tlbi_asid(d[5].asid)});
  std::vector<Reach> expected = all(Reach::kPage);
  expected[2] = expected[5] = Reach::kOther;
  EXPECT_EQ(reach(world), expected) << "what was asked for and no more";
  world.run({tlbi_all()});
  EXPECT_EQ(reach(world), all(Reach::kOther));
}

TYPED_TEST(IommufdInvalidate, OfContextsAndStreamsLetsDevicesUseTheNewTables) {
  World<LinuxSys, typename TestFixture::Policy> world;
  ASSERT_EQ(world.error(), "");
  auto& d = world.host.devices;
  auto& memory = world.host.memory();
  EXPECT_EQ(reach(world), all(Reach::kPage));

  // Another table under another ASID: by the context descriptor for four, by the stream table
  // entry for the others.
  std::vector<std::unique_ptr<guest::PageTable>> fresh;
  std::vector<Command> commands;
  for (std::size_t i = 0; i < kDevices; ++i) {
    fresh.push_back(std::make_unique<guest::PageTable>(memory, 39));
    fresh[i]->map(kIova, d[i].other, guest::Leaf::kReadWrite);
    const auto asid = static_cast<std::uint16_t>(d[i].asid + 0x100);
    if (i < 4) {
      guest::write_context_descriptor(memory, d[i].context, *fresh[i], asid);
      commands.push_back(i < 2 ? guest::cfgi_cd(d[i].sid) : cfgi_cd_all(d[i].sid));
    } else {
      d[i].context = memory.allocate(64, 64);
      guest::write_context_descriptor(memory, d[i].context, *fresh[i], asid);
      world.host.driver->streams().translate(d[i].sid, d[i].context);
      commands.push_back(guest::cfgi_ste(d[i].sid));
    }
  }
  EXPECT_EQ(reach(world), all(Reach::kPage)) << "control: nobody has been told";
  world.run(commands);
  EXPECT_EQ(reach(world), all(Reach::kOther));
  EXPECT_TRUE(world.host.events.empty()) << "nothing was blocked in between";

  // And what has no stage 1 any more reaches nothing, without an event.
  for (std::size_t i = 0; i < 4; ++i) world.host.driver->streams().abort(d[i].sid);
  world.run({guest::cfgi_ste(d[0].sid), guest::cfgi_ste(d[1].sid), guest::cfgi_ste(d[2].sid),
             guest::cfgi_ste(d[3].sid)});
  std::vector<Reach> expected = all(Reach::kNothing);
  for (std::size_t i = 4; i < kDevices; ++i) expected[i] = Reach::kOther;
  EXPECT_EQ(reach(world), expected);
  world.settle();
  EXPECT_TRUE(world.host.events.empty());
}

TYPED_TEST(IommufdInvalidate, ThatTheKernelRefusesInPartLeavesNothingStale) {
  World<TamperingSys, typename TestFixture::Policy> world;
  ASSERT_EQ(world.error(), "");
  auto& d = world.host.devices;
  auto& sys = world.host.sys;
  EXPECT_EQ(reach(world), all(Reach::kPage));
  for (GuestDevice& x : d) x.table->map(kIova, x.other, guest::Leaf::kReadWrite);

  std::vector<Command> commands = filler(d[0].asid, 55);
  for (std::size_t i = 0; i < kDevices; ++i) {
    commands[5 * i] = guest::tlbi_va(d[i].asid, kIova);
  }
  // The last of an array under the batching policies; the only one under forward-each.
  const bool alone = std::same_as<typename TestFixture::Policy, merge::ForwardEach>;
  sys.spoil_at = alone ? 0 : 40;
  sys.spoils = 1;
  world.run(commands);
  EXPECT_EQ(sys.spoils, 0U) << "an array was spoilt";
  EXPECT_EQ(sys.refusal, -EIO);
  EXPECT_EQ(sys.counted, sys.spoil_at) << "the kernel claims all before the bad one";
  EXPECT_EQ(reach(world), all(Reach::kOther)) << "whatever it claims";
  const auto counters = world.engine->counters();
  EXPECT_EQ(counters.failed_submissions, 1U);
  EXPECT_EQ(counters.resyncs, 1U);
  EXPECT_EQ(counters.blocked, 0U);
  EXPECT_TRUE(world.host.events.empty());
}

TEST(IommufdKernel, CountsCommandsThatItDidNotCarryOut) {
  // The kernel itself, without the engine: why its count is never trusted. A kernel that is better
  // fails here, and then the recovery costs more than it has to.
  World<LinuxSys, merge::Merge> world;
  ASSERT_EQ(world.error(), "");
  auto& d = world.host.devices;
  EXPECT_EQ(reach(world), all(Reach::kPage));
  for (GuestDevice& x : d) x.table->map(kIova, x.other, guest::Leaf::kReadWrite);
  uapi::iommu_viommu_arm_smmuv3_invalidate commands[2] = {
      {{guest::tlbi_va(d[0].asid, kIova).word[0], guest::tlbi_va(d[0].asid, kIova).word[1]}},
      {{TamperingSys::kCfgiSte, 0}}};
  uapi::iommu_hwpt_invalidate i{};
  i.size = sizeof i;
  i.hwpt_id = world.host.iommu->viommu();
  i.data_uptr = reinterpret_cast<std::uintptr_t>(commands);
  i.data_type = uapi::kIommuViommuInvalidateDataArmSmmuv3;
  i.entry_len = sizeof commands[0];
  i.entry_num = 2;
  EXPECT_EQ(world.host.sys.ioctl(world.host.iommu->iommufd(), uapi::kIommuHwptInvalidate, &i),
            -EIO);
  EXPECT_EQ(i.entry_num, 1U);
  EXPECT_EQ(reach(world)[0], Reach::kPage) << "counted, and stale";
}

/// Waits for its SYNC, however long that takes.
struct Patient : merge::BatchUntilSync {
  Patient() noexcept : BatchUntilSync(~Nanos{0} / 2) {}
};

TEST(IommufdUnmap, WithoutASyncLeavesTheStaleTranslationInUse) {
  World<LinuxSys, Patient> world;
  ASSERT_EQ(world.error(), "");
  auto& d = world.host.devices;
  EXPECT_EQ(reach(world), all(Reach::kPage));
  std::vector<Command> commands;
  for (GuestDevice& x : d) {
    x.table->unmap(kIova);
    commands.push_back(guest::tlbi_va(x.asid, kIova));
  }
  world.queue(commands, false);
  world.engine->rounds(1000);
  EXPECT_EQ(reach(world), all(Reach::kPage)) << "no SYNC, no effect";
  world.run({});
  EXPECT_EQ(reach(world), all(Reach::kNothing));
  world.await_events(kDevices);
  EXPECT_EQ(world.host.events.size(), kDevices);
}

}  // namespace
}  // namespace faultline::vm
