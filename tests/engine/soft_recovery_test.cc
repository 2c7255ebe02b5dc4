// SPDX-License-Identifier: BSD-3-Clause
// EventDuty on the seed's real interface: vfio::FaultRegions over the soft kernel, which goes on
// when the engine is killed, as the supervisor's duplicates of the descriptors let it.
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "engine/event_duty.h"
#include "kernel/soft/soft_kernel.h"
#include "kernel/soft/soft_sys.h"
#include "kernel/vfio/container.h"
#include "kernel/vfio/device.h"
#include "kernel/vfio/fault_regions.h"
#include "tests/engine/event_world.h"
#include "tests/kernel/soft_guest.h"

namespace faultline::engine {
namespace {

using namespace testing_world;
using Sys = soft::SoftSys;

/// Two devices with their containers and a bound, empty stage 1: every access faults.
class KernelSide {
 public:
  static constexpr std::size_t kDevices = 2;

  explicit KernelSide(const GuestRam& ram) : produced(kDevices) {
    soft::SoftKernelConfig config;
    for (unsigned i = 0; i < kDevices; ++i) {
      config.devices.push_back({"0000:00:0" + std::to_string(i + 1) + ".0", i + 1, 0x10 + i, 0});
    }
    kernel_ = soft::SoftKernel::create(config).value();
    sys_ = std::make_unique<Sys>(*kernel_);
    void* memory = ram.memory().pointer(Gpa{0}, GuestRam::kBytes);
    // The last quarter of guest memory holds the guest's tables.
    constexpr std::uint64_t kTables = 0x60000;
    soft::GuestTables tables(static_cast<char*>(memory) + kTables, GuestRam::kBytes - kTables,
                             kTables);
    tables.write_cd(1);
    for (unsigned i = 0; i < kDevices; ++i) {
      containers_.push_back(vfio::Container<Sys>::open(*sys_).value());
      auto& container = containers_.back();
      EXPECT_TRUE(container.attach_group("/dev/vfio/" + std::to_string(i + 1)).has_value());
      EXPECT_TRUE(container.set_nesting().has_value());
      EXPECT_TRUE(container.map_dma(Gpa{0}, GuestRam::kBytes, memory).has_value());
      uapi::vfio_iommu_type1_attach_pasid_table table{};
      table.argsz = sizeof table;
      table.config.version = 1;
      table.config.format = 1;
      table.config.base_ptr = tables.cd();
      table.config.config = 1;
      table.config.smmuv3.version = 1;
      EXPECT_EQ(sys_->ioctl(container.fd(), uapi::kVfioIommuAttachPasidTable, &table), 0);
      devices_.push_back(vfio::Device<Sys>::open(*sys_, container, config.devices[i].name).value());
    }
  }

  void fault(std::size_t device) {
    const std::uint64_t iova = 0x10'0000'0000 + 0x1000 * ++count_;
    const auto done = kernel_->dma(device, {.iova = iova, .cookie = count_});
    EXPECT_EQ(done.status, soft::DmaStatus::kFaulted);
    produced[device].push_back(iova);
  }

  vfio::FaultRegions<Sys> open(vfio::AbiChoice abi, std::span<const SourcePosition> positions) {
    return vfio::FaultRegions<Sys>::open(*sys_, devices_, abi, {}, positions).value();
  }
  [[nodiscard]] soft::SoftKernelStats stats() const { return kernel_->stats(); }

  std::vector<std::vector<std::uint64_t>> produced;

 private:
  std::unique_ptr<soft::SoftKernel> kernel_;
  std::unique_ptr<Sys> sys_;
  std::vector<vfio::Container<Sys>> containers_;
  std::vector<vfio::Device<Sys>> devices_;
  std::uint64_t count_ = 0;
};

/// Engines on that kernel, one after the other.
class Lives {
 public:
  Lives(vfio::AbiChoice abi, std::optional<JournalStep> step, int passing)
      : kernel(ram),
        guest(ram, 6),
        journal(*Journal::create("test", KernelSide::kDevices, 0)),
        abi_(abi),
        step_(step),
        passing_(passing),
        left_(passing),
        random_(static_cast<std::uint64_t>(passing)) {
    start();
    rings_->to_event.push(
        {.kind = ToEventDuty::Kind::kIrqControl, .token = 1, .bits = viommu::irq_ctrl::kEvtq});
    rings_->to_event.push({.kind = ToEventDuty::Kind::kEnableEvtq,
                           .token = 2,
                           .base = GuestRam::kQueue,
                           .log2size = 6});
    duty_->round(now_);
  }

  void run(int rounds) {
    for (int i = 0; i < rounds; ++i) {
      std::size_t faults = random_() % 16 == 0 ? random_() % 250 : random_() % 4;
      if (random_() % 128 == 0) faults = 2600;  // more than two rings of either ABI hold
      for (std::size_t f = 0; f < faults; ++f) kernel.fault(random_() % KernelSide::kDevices);
      turn(random_() % 4 != 0);
    }
    for (int i = 0; i < 50; ++i) turn(true);
  }
  void turn(bool guest_reads) {
    if (duty_->stopped()) {
      if (++kills < 5) left_ = passing_;  // also in the middle of a recovery
      duty_.reset();
      sources_.reset();
      start();
    }
    duty_->round(now_ += 50'000);
    if (guest_reads && guest.interrupted()) guest.read_events();
  }

  GuestRam ram;
  KernelSide kernel;
  FakeGuest guest;
  Journal journal;
  const std::vector<StreamId> vsids = {StreamId{0x100}, StreamId{0x108}};
  int kills = 0;

 private:
  using Sources = vfio::FaultRegions<Sys>;
  using Duty = EventDuty<Sources, StopAt, CountingClock>;

  void start() {
    EventJournal event = journal.event();
    std::vector<SourcePosition> positions;
    for (std::size_t i = 0; journal.in_use() && i < KernelSide::kDevices; ++i) {
      positions.push_back(event.resume_position(i));
    }
    rings_ = std::make_unique<GuestRings>();
    sources_.emplace(kernel.open(abi_, positions));
    if (!journal.in_use()) {
      for (std::size_t i = 0; i < KernelSide::kDevices; ++i) {
        event.set_position(i, sources_->position(i));
      }
    }
    EventDutySetup setup;
    setup.memory = &ram.memory();
    setup.page = ram.page();
    setup.vsids = vsids;
    setup.evtq_eventfd = guest.eventfd_of();
    setup.rings = rings_.get();
    duty_ = std::make_unique<Duty>(*sources_, setup, event, StopAt{step_, &left_},
                                   CountingClock{&now_});
    duty_->resume();
    journal.set_in_use();
  }

  vfio::AbiChoice abi_;
  std::optional<JournalStep> step_;
  int passing_;
  int left_;
  std::mt19937_64 random_;
  Nanos now_ = 1'000'000;
  std::unique_ptr<GuestRings> rings_;
  std::optional<Sources> sources_;
  std::unique_ptr<Duty> duty_;
};

class SoftRecovery : public testing::TestWithParam<std::tuple<vfio::AbiChoice, JournalStep>> {};

TEST_P(SoftRecovery, LosesNothingInSilenceAndDoublesNothing) {
  const auto [abi, step] = GetParam();
  int kills = 0;
  std::uint64_t dropped = 0;
  for (int passing = 1; passing <= 20; ++passing) {
    SCOPED_TRACE("passing " + std::to_string(passing));
    Lives lives(abi, step, passing);
    lives.run(150);
    kills += lives.kills;
    dropped += lives.kernel.stats().dropped;
    audit(lives.kernel.produced, lives.guest, lives.vsids);
    if (HasFatalFailure()) return;
    EXPECT_TRUE(lives.guest.drained());
  }
  EXPECT_GT(kills, 0);
  EXPECT_GT(dropped, 0U) << "the kernel's rings never overflowed: the test shows too little";
}

INSTANTIATE_TEST_SUITE_P(
    KilledAt, SoftRecovery,
    testing::Combine(testing::Values(vfio::AbiChoice::kV1, vfio::AbiChoice::kV2),
                     testing::Values(JournalStep::kEventPolled, JournalStep::kEventPlaced,
                                     JournalStep::kEventIntent, JournalStep::kEventPublished,
                                     JournalStep::kEventCommitted, JournalStep::kEventDone,
                                     JournalStep::kEventInterrupted)),
    [](const auto& info) {
      std::string name(step_name(std::get<1>(info.param)));
      std::replace(name.begin(), name.end(), '-', '_');
      return name + "_abi_" + std::to_string(static_cast<unsigned>(std::get<0>(info.param)));
    });

}  // namespace
}  // namespace faultline::engine
