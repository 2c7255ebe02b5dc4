// SPDX-License-Identifier: BSD-3-Clause
// A whole round of an EventDuty: idle, per device, on the seed's real interface; and in bursts of
// 32, per record, from poll to the journalled end, with the interrupt. Baseline: copying the
// record.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "bench/support/guest.h"
#include "engine/event_duty.h"
#include "kernel/soft/soft_kernel.h"
#include "kernel/soft/soft_sys.h"
#include "kernel/vfio/container.h"
#include "kernel/vfio/device.h"
#include "kernel/vfio/fault_regions.h"

namespace faultline {
namespace {

using Sys = soft::SoftSys;

engine::EventDutySetup setup_of(bench::Guest& guest, engine::GuestRings& rings,
                                std::size_t devices) {
  engine::EventDutySetup setup;
  setup.memory = &guest.memory_;
  setup.page = guest.page_;
  setup.rings = &rings;
  for (std::uint32_t i = 0; i < devices; ++i) setup.vsids.push_back(StreamId{i});
  rings.to_event.push({.kind = engine::ToEventDuty::Kind::kEnableEvtq,
                       .token = 1,
                       .base = bench::Guest::kQueueAt,
                       .log2size = 10});
  return setup;
}

/// range(0): devices of the guest; range(1): fault ABI.
void IdleRound(benchmark::State& state) {
  const auto devices = static_cast<unsigned>(state.range(0));
  soft::SoftKernelConfig config;
  for (unsigned i = 0; i < devices; ++i) {
    config.devices.push_back({"device-" + std::to_string(i), i + 1, i + 1, 0});
  }
  auto kernel = soft::SoftKernel::create(config);
  if (!kernel) return state.SkipWithError(kernel.error().what.c_str());
  Sys sys(**kernel);
  std::vector<vfio::Container<Sys>> containers;
  std::vector<vfio::Device<Sys>> files;
  for (unsigned i = 0; i < devices; ++i) {
    containers.push_back(vfio::Container<Sys>::open(sys).value());
    if (!containers.back().attach_group("/dev/vfio/" + std::to_string(i + 1)) ||
        !containers.back().set_nesting()) {
      return state.SkipWithError("no container");
    }
    files.push_back(
        vfio::Device<Sys>::open(sys, containers.back(), config.devices[i].name).value());
  }
  auto sources = vfio::FaultRegions<Sys>::open(
      sys, files, state.range(1) == 1 ? vfio::AbiChoice::kV1 : vfio::AbiChoice::kV2);
  if (!sources) return state.SkipWithError(sources.error().what.c_str());

  bench::Guest guest;
  engine::GuestRings rings;
  engine::Journal journal = engine::Journal::create("bench", devices, 0).value();
  engine::EventDuty<vfio::FaultRegions<Sys>> duty(*sources, setup_of(guest, rings, devices),
                                                  journal.event());
  Nanos now = 1;
  duty.round(now);
  std::size_t work = 0;
  for (auto _ : state) work += duty.round(now += 100);
  benchmark::DoNotOptimize(work);
  state.counters["per_device"] =
      benchmark::Counter(static_cast<double>(state.iterations()) * devices,
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}
BENCHMARK(IdleRound)->ArgsProduct({{1, 16, 64}, {1, 2}});

/// Always has a full burst of raw events.
class Flood {
 public:
  Flood() {
    record_.form = FaultRecord::Form::kRawEvent;
    record_.event[0] = 0x10;
  }
  [[nodiscard]] std::size_t size() const noexcept { return 1; }
  std::size_t poll(std::size_t, std::span<FaultRecord> out) noexcept {
    for (FaultRecord& r : out) r = record_;
    at_.next += out.size();
    return out.size();
  }
  [[nodiscard]] SourcePosition position(std::size_t) const noexcept { return at_; }
  int commit(std::size_t) noexcept { return 0; }
  SourceLoss take_loss(std::size_t) noexcept { return {}; }
  std::size_t housekeeping(Nanos) noexcept { return 0; }

 private:
  FaultRecord record_;
  SourcePosition at_;
};

void Burst32(benchmark::State& state) {
  bench::Guest guest;
  engine::GuestRings rings;
  engine::Journal journal = engine::Journal::create("bench", 1, 0).value();
  Flood sources;
  engine::EventDuty<Flood> duty(sources, setup_of(guest, rings, 1), journal.event());
  Nanos now = 1;
  duty.round(now);
  for (auto _ : state) {
    guest.page_.store(viommu::Reg32::kEvtqCons, guest.page_.load(viommu::Reg32::kEvtqProd));
    duty.round(now += 100);
  }
  state.SetItemsProcessed(state.iterations() * 32);
  state.counters["per_record"] =
      benchmark::Counter(static_cast<double>(state.iterations()) * 32,
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}
BENCHMARK(Burst32);

void CopyRecord(benchmark::State& state) {
  FaultRecord from, to;
  for (auto _ : state) {
    benchmark::DoNotOptimize(&from);
    to = from;
    benchmark::DoNotOptimize(&to);
  }
}
BENCHMARK(CopyRecord);

}  // namespace
}  // namespace faultline
