// SPDX-License-Identifier: BSD-3-Clause
// From the guest's command queue to a checked operation, per command. Baseline: copying the same
// 16 bytes.
#include <benchmark/benchmark.h>

#include <cstring>
#include <vector>

#include "bench/support/guest.h"
#include "engine/viommu/command.h"
#include "engine/viommu/command_queue.h"
#include "engine/viommu/feature_set.h"

namespace faultline {
namespace {

constexpr unsigned kLog2 = 10;

/// What a strict Linux guest writes: one TLBI_NH_VA and one CMD_SYNC in turn.
void fill(bench::Guest& guest) {
  auto* slot = static_cast<std::uint64_t*>(guest.memory_.pointer(
      Gpa{bench::Guest::kQueueAt}, std::size_t{viommu::CommandQueue::kEntryBytes} << kLog2));
  for (std::uint64_t i = 0; i < (1U << kLog2); i += 2) {
    slot[2 * i] = 0x12 | (std::uint64_t{5} << 48U);
    slot[2 * i + 1] = 0xffff'0000'0000 + i * 4096 + 1;
    slot[2 * i + 2] = 0x46;
    slot[2 * i + 3] = 0;
  }
}

void FetchAndDecode(benchmark::State& state) {
  bench::Guest guest;
  fill(guest);
  viommu::CommandQueue queue;
  queue.enable(guest.memory_, bench::Guest::kQueueAt | kLog2, 0, 19);
  const viommu::Features features;
  const auto burst = static_cast<std::uint32_t>(state.range(0));
  std::vector<viommu::RawCommand> raw(burst);
  std::uint32_t prod = 0;
  for (auto _ : state) {
    prod = (prod + burst) & ((2U << kLog2) - 1);
    const auto fetched = queue.fetch(prod, raw);
    for (std::size_t i = 0; i < fetched.count; ++i) {
      viommu::Command command;
      if (viommu::decode(raw[i], features, command) != viommu::CommandError::kNone) {
        state.SkipWithError("a command did not decode");
        return;
      }
      if (command.opcode != viommu::Opcode::kSync) {
        Operation op = viommu::to_operation(command);
        benchmark::DoNotOptimize(op);
      }
    }
    queue.advance(static_cast<std::uint32_t>(fetched.count));
  }
  state.SetItemsProcessed(state.iterations() * burst);
  state.counters["per_command"] =
      benchmark::Counter(static_cast<double>(state.iterations()) * burst,
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}
BENCHMARK(FetchAndDecode)->Arg(1)->Arg(8)->Arg(32)->Arg(256);

void BaselineCopy(benchmark::State& state) {
  bench::Guest guest;
  fill(guest);
  const auto burst = static_cast<std::uint32_t>(state.range(0));
  std::vector<viommu::RawCommand> raw(burst);
  const auto* slots = static_cast<const unsigned char*>(
      guest.memory_.pointer(Gpa{bench::Guest::kQueueAt}, std::size_t{16} << kLog2));
  std::uint32_t at = 0;
  for (auto _ : state) {
    copy_from_shared(raw.data(), slots + std::size_t{at} * 16, std::size_t{burst} * 16);
    at = (at + burst) & ((1U << kLog2) - 1);
    benchmark::DoNotOptimize(raw.data());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * burst);
  state.counters["per_command"] =
      benchmark::Counter(static_cast<double>(state.iterations()) * burst,
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}
BENCHMARK(BaselineCopy)->Arg(1)->Arg(8)->Arg(32)->Arg(256);

}  // namespace
}  // namespace faultline
