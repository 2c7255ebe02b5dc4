// SPDX-License-Identifier: BSD-3-Clause
// The backend over the software kernel: the same templates as over the real one, nothing scripted.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <array>
#include <vector>

#include "kernel/soft/soft_kernel.h"
#include "kernel/soft/soft_sys.h"
#include "kernel/vfio/container.h"
#include "kernel/vfio/device.h"
#include "kernel/vfio/fault_regions.h"
#include "kernel/vfio/sink.h"

namespace faultline::testing {
namespace {

using soft::SoftSys;

static_assert(FaultSourceSet<vfio::FaultRegions<SoftSys>>);
static_assert(InvalidationSink<vfio::Sink<SoftSys>>);

constexpr std::uint64_t kRam = 0x4000'0000;
constexpr std::size_t kRamSize = 1U << 20U;

/// One guest with one device, whose context descriptor is zero: every access leaves C_BAD_CD.
struct VfioOnSoft {
  std::unique_ptr<soft::SoftKernel> kernel;
  std::optional<SoftSys> sys;
  void* ram = nullptr;
  std::optional<vfio::Container<SoftSys>> container;
  vfio::KernelProfile profile;
  std::vector<vfio::Device<SoftSys>> devices;

  explicit VfioOnSoft(std::uint32_t max_abi, bool quirks) {
    soft::SoftKernelConfig config;
    config.devices.push_back({.name = "0000:00:01.0", .group = 1, .stream_id = 8});
    config.max_fault_abi = max_abi;
    config.quirks_v7 = quirks;
    auto made = soft::SoftKernel::create(config);
    EXPECT_TRUE(made);
    kernel = std::move(*made);
    sys.emplace(*kernel);
    ram = ::mmap(nullptr, kRamSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    auto opened = vfio::Container<SoftSys>::open(*sys);
    EXPECT_TRUE(opened) << opened.error().message();
    container.emplace(std::move(*opened));
    check(container->attach_group("/dev/vfio/1"));
    check(container->set_nesting());
    auto probed = container->probe();
    check(probed);
    profile = *probed;
    check(container->map_dma(Gpa{kRam}, kRamSize, ram));
    auto device = vfio::Device<SoftSys>::open(*sys, *container, "0000:00:01.0");
    check(device);
    devices.push_back(std::move(*device));
  }
  ~VfioOnSoft() {
    devices.clear();
    container.reset();
    ::munmap(ram, kRamSize);
  }
  template <class T>
  static void check(const Result<T>& result) {
    EXPECT_TRUE(result) << result.error().message();
  }
  void fault(std::uint64_t iova) {
    EXPECT_EQ(kernel->dma(0, {.iova = iova}).status, soft::DmaStatus::kFaulted);
  }
};

struct Way {
  std::uint32_t max_abi;
  bool quirks;
};
class VfioSoft : public ::testing::TestWithParam<Way> {};

TEST_P(VfioSoft, ProbesFaultsAndInvalidatesAsItWouldOnARealKernel) {
  VfioOnSoft world(GetParam().max_abi, GetParam().quirks);
  EXPECT_EQ(world.profile.v7_quirks(), GetParam().quirks);

  auto opened =
      vfio::FaultRegions<SoftSys>::open(*world.sys, world.devices, vfio::AbiChoice::kAuto,
                                        {.fetch_addr_shifted = world.profile.v7_quirks()});
  ASSERT_TRUE(opened) << opened.error().message();
  auto& regions = *opened;
  EXPECT_EQ(regions.abi(0), GetParam().max_abi);

  const vfio::Sink<SoftSys>::Target target{&*world.container, StreamId{3}};
  vfio::Sink<SoftSys> sink({&target, 1}, world.profile);
  const auto bound = sink.set_stage1(0, {.mode = Stage1Config::Mode::kTranslate, .cd_table = kRam});
  EXPECT_EQ(bound.error, 0);
  sink.note_asid(0, 1);

  std::array<FaultRecord, 64> out;
  EXPECT_EQ(regions.poll(0, out), 0U);
  // Two laps of version 1's ring, in bursts; all records differ only in nothing: C_BAD_CD carries
  // no address, so after the first lap they are found by the backstop alone.
  std::uint64_t polled = 0;
  for (std::uint64_t burst = 0; burst < 17; ++burst) {
    for (std::uint64_t i = 0; i < 10; ++i) world.fault(0x1000 * (burst * 10 + i));
    regions.housekeeping(burst * 1'000'000 + 1'000'000);
    const std::size_t n = regions.poll(0, out);
    EXPECT_EQ(n, 10U) << burst;
    for (std::size_t i = 0; i < n; ++i) {
      EXPECT_EQ(out[i].lost_before, 0U);
      if (GetParam().max_abi == 2) {
        EXPECT_EQ(out[i].form, FaultRecord::Form::kRawEvent);
        EXPECT_EQ(out[i].event[0] & 0xffU, 0x0aU);
      } else {
        EXPECT_EQ(out[i].form, FaultRecord::Form::kReason);
        EXPECT_EQ(out[i].reason,
                  GetParam().quirks ? FaultReason::kUnknown : FaultReason::kBadPasidEntry);
      }
    }
    polled += n;
    EXPECT_EQ(regions.commit(0), 0);
    EXPECT_EQ(regions.take_loss(0).exact + regions.take_loss(0).possible, 0U);
  }
  EXPECT_EQ(polled, 170U);

  for (const Operation& op : std::initializer_list<Operation>{
           {.kind = OperationKind::kTlbAll},
           {.kind = OperationKind::kTlbAsid, .asid = 1},
           {.kind = OperationKind::kTlbVa, .leaf = true, .asid = 1, .addr = 0x1000, .pages = 3},
           {.kind = OperationKind::kTlbVaa, .addr = 0x1000, .pages = 1},
           {.kind = OperationKind::kCfgCd, .sid = 3},
           {.kind = OperationKind::kCfgCdAll, .sid = 3},
           {.kind = OperationKind::kAtcInv, .sid = 3, .addr = 0x4000, .pages = 4},
           {.kind = OperationKind::kAtcInv, .sid = 3}}) {
    EXPECT_EQ(sink.submit({&op, 1}).error, 0) << static_cast<int>(op.kind);
  }
  EXPECT_EQ(sink.set_stage1(0, {}).error, 0);
  EXPECT_EQ(world.kernel->dma(0, {.iova = 0x1000}).status, soft::DmaStatus::kAborted);
}

TEST_P(VfioSoft, TellsTheLossOfAFullRing) {
  VfioOnSoft world(GetParam().max_abi, GetParam().quirks);
  auto opened = vfio::FaultRegions<SoftSys>::open(*world.sys, world.devices);
  ASSERT_TRUE(opened) << opened.error().message();
  auto& regions = *opened;
  ASSERT_EQ(
      world.container->bind_stage1({.mode = Stage1Config::Mode::kTranslate, .cd_table = kRam}), 0);
  constexpr std::uint64_t kFaults = 1100;
  for (std::uint64_t i = 0; i < kFaults; ++i) world.fault(i * 0x1000);
  std::vector<FaultRecord> out(kFaults);
  const std::size_t n = regions.poll(0, out);
  EXPECT_LT(n, kFaults);
  EXPECT_EQ(regions.commit(0), 0);
  const SourceLoss loss = regions.take_loss(0);
  if (GetParam().max_abi == 2) {
    EXPECT_EQ(n + loss.exact, kFaults);
  } else {
    EXPECT_EQ(loss.possible, 1U);
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, VfioSoft,
                         ::testing::Values(Way{1, false}, Way{1, true}, Way{2, false}));

}  // namespace
}  // namespace faultline::testing
