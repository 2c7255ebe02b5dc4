// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/vfio/sink.h"

#include <gmock/gmock.h>

#include <memory>
#include <tuple>
#include <vector>

#include "tests/kernel/vfio_fixture.h"

namespace faultline::testing {
namespace {

using uapi::kIommuCacheInvTypeDevIotlb;
using uapi::kIommuCacheInvTypeIotlb;
using uapi::kIommuCacheInvTypePasid;
using uapi::kIommuInvGranuAddr;
using uapi::kIommuInvGranuDomain;
using uapi::kIommuInvGranuPasid;

static_assert(InvalidationSink<vfio::Sink<ScriptedSys>>);

constexpr vfio::KernelProfile kDocumented{.tlb_domain = true, .cd_cache = true, .dev_iotlb = true};
constexpr vfio::KernelProfile kV7{};

/// Three devices, each with its kernel and container: what one operation makes of each.
struct VfioSink : ::testing::Test {
  using Container = vfio::Container<ScriptedSys>;
  using Sink = vfio::Sink<ScriptedSys>;
  struct One {
    ScriptedSys sys;
    FakeVfio kernel{sys};
    std::optional<Container> container;
  };
  std::vector<std::unique_ptr<One>> ones;
  std::optional<Sink> sink;

  void open(const vfio::KernelProfile& profile) {
    std::vector<Sink::Target> targets;
    for (std::uint32_t i = 0; i < 3; ++i) {
      auto one = std::make_unique<One>();
      one->kernel.tlb_domain = profile.tlb_domain;
      one->kernel.cd_cache = profile.cd_cache;
      one->kernel.dev_iotlb = profile.dev_iotlb;
      auto opened = Container::open(one->sys);
      ASSERT_TRUE(opened);
      one->container.emplace(std::move(*opened));
      ASSERT_TRUE(one->container->attach_group("/dev/vfio/7"));
      ASSERT_TRUE(one->container->set_nesting());
      targets.push_back({&*one->container, StreamId{100 - i}});  // sids: 100, 99, 98
      ones.push_back(std::move(one));
    }
    sink.emplace(targets, profile);
  }
  SubmitResult submit(const Operation& op) {
    for (auto& one : ones) {
      one->kernel.invalidations.clear();
      one->kernel.binds.clear();
    }
    return sink->submit({&op, 1});
  }
  auto& invalidations(std::size_t i) { return ones[i]->kernel.invalidations; }
  /// How many invalidations each container got.
  std::tuple<std::size_t, std::size_t, std::size_t> spread() {
    return {invalidations(0).size(), invalidations(1).size(), invalidations(2).size()};
  }
  void translate(std::size_t i) {
    ASSERT_EQ(
        sink->set_stage1(i, {.mode = Stage1Config::Mode::kTranslate, .cd_table = 0x1000}).error, 0);
  }
};

TEST_F(VfioSink, SaysWhatItsKernelCanDo) {
  open(kDocumented);
  EXPECT_TRUE(sink->caps().tlb_all);
  EXPECT_EQ(sink->caps().max_batch, 1U);
  open(kV7);
  EXPECT_FALSE(sink->caps().tlb_all);
  EXPECT_FALSE(sink->caps().config_caches);
  EXPECT_FALSE(sink->caps().atc);
}

TEST_F(VfioSink, FlushesEverythingByDomain) {
  open(kDocumented);
  const auto result = submit({.kind = OperationKind::kTlbAll});
  EXPECT_EQ(result.error, 0);
  EXPECT_EQ(result.calls, 3U);
  EXPECT_EQ(result.host_syncs, 3U);
  EXPECT_EQ(spread(), std::tuple(1, 1, 1));
  EXPECT_EQ(invalidations(0)[0].info.granularity, kIommuInvGranuDomain);
  EXPECT_EQ(invalidations(0)[0].info.cache, kIommuCacheInvTypeIotlb);
}

TEST_F(VfioSink, FlushesEverythingOnV7ByEveryAsidSeen) {
  open(kV7);
  sink->note_asid(0, 5);
  sink->note_asid(0, 65535);
  sink->note_asid(1, 7);
  EXPECT_EQ(submit({.kind = OperationKind::kTlbAll}).error, 0);
  EXPECT_EQ(spread(), std::tuple(2, 1, 0));
  EXPECT_EQ(invalidations(0)[0].info.pasid, 5U);
  EXPECT_EQ(invalidations(0)[1].info.pasid, 65535U);
  // One that only a command named belongs to it, until a flush of all has been done.
  submit({.kind = OperationKind::kTlbAsid, .asid = 9});
  submit({.kind = OperationKind::kTlbAll});
  EXPECT_EQ(spread(), std::tuple(3, 2, 1));
  submit({.kind = OperationKind::kTlbAll});
  EXPECT_EQ(spread(), std::tuple(2, 1, 0));
}

TEST_F(VfioSink, ASignalIsNoFailureAndManyAreOne) {
  open(kDocumented);
  ScriptedSys& sys = ones[0]->sys;
  sys.inject(Call::kIoctl, 1, -EINTR, uapi::kVfioIommuCacheInvalidate);
  EXPECT_EQ(submit({.kind = OperationKind::kTlbAll}).error, 0);
  EXPECT_EQ(spread(), std::tuple(1, 1, 1));
  for (int i = 0; i < 4; ++i) sys.inject(Call::kIoctl, 1, -EINTR, uapi::kVfioIommuCacheInvalidate);
  EXPECT_EQ(submit({.kind = OperationKind::kTlbAll}).error, EINTR) << "it comes back in the end";
}

TEST_F(VfioSink, RoutesAnAsidToWhereItMayBeLive) {
  open(kDocumented);
  sink->note_asid(1, 5);
  submit({.kind = OperationKind::kTlbAsid, .asid = 5});
  EXPECT_EQ(spread(), std::tuple(0, 1, 0));
  EXPECT_EQ(invalidations(1)[0].info.granularity, kIommuInvGranuPasid);
  EXPECT_EQ(invalidations(1)[0].info.pasid, 5U);
  sink->note_asid(2, 5);
  submit({.kind = OperationKind::kTlbVa, .asid = 5, .addr = 0x1000, .pages = 1});
  EXPECT_EQ(spread(), std::tuple(0, 1, 1));
  submit({.kind = OperationKind::kTlbAsid, .asid = 6});  // never noted
  EXPECT_EQ(spread(), std::tuple(1, 1, 1));
  sink->note_asid(9, 1);  // no such device
}

TEST_F(VfioSink, SendsAddressesAsV7ReadsThem) {
  open(kDocumented);
  sink->note_asid(0, 5);
  submit({.kind = OperationKind::kTlbVa,
          .leaf = true,
          .granule_log2 = 16,
          .asid = 5,
          .addr = 0x10000,
          .pages = 3});
  ASSERT_EQ(invalidations(0).size(), 1U);
  const auto& info = invalidations(0)[0].info;
  EXPECT_EQ(info.granularity, kIommuInvGranuAddr);
  EXPECT_EQ(info.addr_info.flags, uapi::kIommuInvAddrFlagsPasid | uapi::kIommuInvAddrFlagsLeaf);
  EXPECT_EQ(info.addr_info.pasid, 5U);
  EXPECT_EQ(info.addr_info.addr, 0x10000U);
  EXPECT_EQ(info.addr_info.granule_size, 65536U);
  EXPECT_EQ(info.addr_info.nb_granules, 3U);
}

TEST_F(VfioSink, CutsLongRangesSoThatTheHostDoesNotLoopForLong) {
  open(kV7);
  sink->note_asid(0, 5);
  submit({.kind = OperationKind::kTlbVa, .asid = 5, .addr = 0x1000, .pages = 1025});
  ASSERT_EQ(invalidations(0).size(), 3U);
  EXPECT_EQ(invalidations(0)[2].info.addr_info.addr, 0x1000 + 1024 * 4096U);
  EXPECT_EQ(invalidations(0)[2].info.addr_info.nb_granules, 1U);
  ones.clear();
  open(kDocumented);
  sink->note_asid(0, 5);
  submit({.kind = OperationKind::kTlbVa, .asid = 5, .addr = 0x1000, .pages = 1025});
  ASSERT_EQ(invalidations(0).size(), 1U);
  EXPECT_EQ(invalidations(0)[0].info.granularity, kIommuInvGranuDomain);
}

TEST_F(VfioSink, InvalidatesAnAddressOfEveryAsid) {
  open(kDocumented);
  sink->note_asid(0, 5);
  sink->note_asid(1, 5);
  sink->note_asid(1, 6);
  submit({.kind = OperationKind::kTlbVaa, .addr = 0x1000, .pages = 1});
  EXPECT_EQ(invalidations(0).at(0).info.granularity, kIommuInvGranuAddr);
  EXPECT_EQ(invalidations(1).at(0).info.granularity, kIommuInvGranuDomain);
  EXPECT_EQ(invalidations(2).at(0).info.granularity, kIommuInvGranuDomain);  // nothing known of it
  ones.clear();
  open(kV7);
  sink->note_asid(1, 5);
  sink->note_asid(1, 6);
  submit({.kind = OperationKind::kTlbVaa, .addr = 0x1000, .pages = 1});
  EXPECT_EQ(spread(), std::tuple(0, 2, 0));
  EXPECT_EQ(invalidations(1)[1].info.addr_info.pasid, 6U);
}

TEST_F(VfioSink, RefusesNoPages) {
  open(kDocumented);
  EXPECT_EQ(submit({.kind = OperationKind::kTlbVa, .asid = 1, .pages = 0}).error, EINVAL);
}

TEST_F(VfioSink, DropsContextDescriptorsOfOneDevice) {
  open(kDocumented);
  translate(1);
  submit({.kind = OperationKind::kCfgCd, .sid = 99, .ssid = 3});
  EXPECT_EQ(spread(), std::tuple(0, 1, 0));
  EXPECT_EQ(invalidations(1)[0].info.cache, kIommuCacheInvTypePasid);
  EXPECT_EQ(invalidations(1)[0].info.granularity, kIommuInvGranuPasid);
  EXPECT_EQ(invalidations(1)[0].info.pasid, 3U);
  submit({.kind = OperationKind::kCfgCdAll, .sid = 99});
  EXPECT_EQ(invalidations(1)[0].info.granularity, kIommuInvGranuDomain);
}

TEST_F(VfioSink, DropsContextDescriptorsOfWhatItsPredecessorBound) {
  open(kDocumented);  // as after a restart: this sink has bound nothing, the kernel translates
  submit({.kind = OperationKind::kCfgCd, .sid = 99});
  EXPECT_EQ(spread(), std::tuple(0, 1, 0));
}

TEST_F(VfioSink, BindsStage1AgainWhereThereIsNoCacheForDescriptors) {
  open(kV7);
  translate(1);
  const auto result = submit({.kind = OperationKind::kCfgCd, .sid = 99});
  EXPECT_EQ(result.error, 0);
  EXPECT_EQ(result.calls, 1U);
  EXPECT_EQ(spread(), std::tuple(0, 0, 0));
  ASSERT_EQ(ones[1]->kernel.binds.size(), 1U);
  EXPECT_EQ(ones[1]->kernel.binds[0].config.base_ptr, 0x1000U);
}

TEST_F(VfioSink, HasNoDescriptorsToDropWithoutTranslation) {
  open(kV7);
  EXPECT_EQ(submit({.kind = OperationKind::kCfgCdAll, .sid = 99}).calls, 0U);
  translate(1);
  ASSERT_EQ(sink->set_stage1(1, {.mode = Stage1Config::Mode::kBypass}).error, 0);
  EXPECT_EQ(submit({.kind = OperationKind::kCfgCdAll, .sid = 99}).calls, 0U);
}

TEST_F(VfioSink, SucceedsWithoutACallForAStreamThatIsNotThere) {
  open(kDocumented);
  for (const auto kind :
       {OperationKind::kCfgCd, OperationKind::kCfgCdAll, OperationKind::kAtcInv}) {
    const auto result = submit({.kind = kind, .sid = 7});
    EXPECT_EQ(result.error, 0);
    EXPECT_EQ(result.calls, 0U);
  }
}

TEST_F(VfioSink, InvalidatesADevicesOwnCache) {
  open(kDocumented);
  submit({.kind = OperationKind::kAtcInv, .sid = 100, .addr = 0x4000, .pages = 4});
  EXPECT_EQ(spread(), std::tuple(1, 0, 0));
  const auto part = invalidations(0)[0].info;
  EXPECT_EQ(part.cache, kIommuCacheInvTypeDevIotlb);
  EXPECT_EQ(part.granularity, kIommuInvGranuAddr);
  EXPECT_EQ(part.addr_info.flags, 0U);
  EXPECT_EQ(part.addr_info.nb_granules, 4U);
  submit({.kind = OperationKind::kAtcInv, .ssid_valid = true, .sid = 100, .ssid = 8});
  EXPECT_EQ(invalidations(0)[0].info.granularity, kIommuInvGranuPasid);
  EXPECT_EQ(invalidations(0)[0].info.pasid, 8U);
  ones.clear();
  open(kV7);  // the kernel does it with the TLB's
  EXPECT_EQ(submit({.kind = OperationKind::kAtcInv, .sid = 100}).calls, 0U);
}

TEST_F(VfioSink, ReportsTheFirstFailureAndStops) {
  open(kDocumented);
  ones[1]->sys.inject(Call::kIoctl, 1, -EIO, uapi::kVfioIommuCacheInvalidate);
  const Operation ops[] = {{.kind = OperationKind::kTlbAll}, {.kind = OperationKind::kTlbAll}};
  const auto result = sink->submit(ops);
  EXPECT_EQ(result.error, EIO);
  EXPECT_EQ(result.calls, 2U);
  EXPECT_EQ(spread(), std::tuple(1, 0, 0));
}

TEST_F(VfioSink, KeepsTheOrphansOfAFlushThatFailed) {
  open(kV7);
  submit({.kind = OperationKind::kTlbAsid, .asid = 9});
  ones[2]->sys.inject(Call::kIoctl, 1, -EIO, uapi::kVfioIommuCacheInvalidate);
  EXPECT_EQ(submit({.kind = OperationKind::kTlbAll}).error, EIO);
  EXPECT_EQ(submit({.kind = OperationKind::kTlbAll}).error, 0);
  EXPECT_EQ(spread(), std::tuple(1, 1, 1));
}

TEST_F(VfioSink, KeepsTheOldStage1WhenANewOneIsRefused) {
  open(kV7);
  translate(0);
  Stage1Config refused{.mode = Stage1Config::Mode::kTranslate, .s1cdmax = 1, .cd_table = 0x9000};
  EXPECT_EQ(sink->set_stage1(0, refused).error, EINVAL);
  submit({.kind = OperationKind::kCfgCdAll, .sid = 100});
  ASSERT_EQ(ones[0]->kernel.binds.size(), 1U);
  EXPECT_EQ(ones[0]->kernel.binds[0].config.base_ptr, 0x1000U);
  EXPECT_EQ(sink->set_stage1(3, refused).error, ENODEV);
}

TEST_F(VfioSink, WalksAndForgetsAnySetOfAsids) {
  vfio::AsidSet set;
  const std::vector<std::uint16_t> asids{0, 1, 63, 64, 4095, 4096, 65534, 65535};
  for (const auto a : asids) set.add(a);
  set.add(64);
  EXPECT_EQ(set.size(), asids.size());
  std::vector<std::uint16_t> seen;
  const auto note = [&](std::uint16_t a) {
    seen.push_back(a);
    return a == 4096 ? -5 : 0;
  };
  EXPECT_EQ(set.for_each(note), -5);
  EXPECT_EQ(seen.size(), 6U);
  set.clear();
  EXPECT_EQ(set.size(), 0U);
  for (const auto a : asids) EXPECT_FALSE(set.has(a));
  EXPECT_EQ(set.for_each(note), 0);
}

}  // namespace
}  // namespace faultline::testing
