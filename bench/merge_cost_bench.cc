// SPDX-License-Identifier: BSD-3-Clause
// What a policy costs per command: adding a burst of {TLBI, SYNC} pairs as four vCPUs write them,
// and taking its submissions. Baseline: forward-each. The sink takes no time.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <vector>

#include "engine/merge/batch_until_sync.h"
#include "engine/merge/forward_each.h"
#include "engine/merge/merge.h"

namespace faultline {
namespace {

using merge::Position;

enum Shape : std::int64_t {
  kStrict,    ///< as an NVMe guest with ranges: one range, one SYNC, in turn; several ASIDs
  kPages,     ///< as a guest without ranges: single pages in runs of eight, then a SYNC
  kScattered  ///< single pages that nothing can be made of, one SYNC at the end: the dearest
};

struct Entry {
  bool sync = false;
  Operation op;
};

std::vector<Entry> commands(Shape shape, std::size_t burst) {
  std::vector<Entry> out;
  std::uint64_t page = 0x10'0000;
  for (std::size_t i = 0; i < burst; ++i) {
    Entry e;
    e.op.kind = OperationKind::kTlbVa;
    e.op.leaf = true;
    e.op.pages = 1;
    switch (shape) {
      case kStrict:
        e.sync = i % 2 == 1;
        e.op.pages = 8;
        e.op.asid = static_cast<std::uint16_t>(1 + i / 2 % 4);
        page += 64;
        break;
      case kPages:
        e.sync = i % 9 == 8 || i + 1 == burst;
        e.op.asid = 1;
        page += i % 9 == 0 ? 64 : 1;
        break;
      case kScattered:
        e.sync = i + 1 == burst;
        e.op.asid = static_cast<std::uint16_t>(1 + i % 7);
        // An odd factor: no order, no neighbours.
        page = (i * 0x9e37'79b1U) & 0xff'ffffU;
        break;
    }
    if (burst == 1) e.sync = false;
    e.op.addr = page << 12U;
    out.push_back(e);
  }
  return out;
}

template <class Policy>
void run(benchmark::State& state, Policy& policy) {
  const auto entries =
      commands(static_cast<Shape>(state.range(1)), static_cast<std::size_t>(state.range(0)));
  Position at = 0;
  Nanos now = 1'000'000;
  std::uint64_t submitted = 0;
  std::uint64_t submissions = 0;
  const auto drain = [&] {
    while (policy.due(now)) {
      const std::span<const Operation> ops = policy.take(now);
      benchmark::DoNotOptimize(ops.data());
      submitted += ops.size();
      ++submissions;
      policy.done(now);
    }
  };
  for (auto _ : state) {
    for (const Entry& e : entries) {
      if (policy.room() == 0) drain();
      if (e.sync) {
        if (policy.oldest(~Position{0}) != ~Position{0}) policy.add_sync(at, now);
      } else {
        policy.add(e.op, at, now);
      }
      ++at;
    }
    if (entries.size() == 1) policy.flush();
    drain();
    now += 1'000;
  }
  const double all = static_cast<double>(state.iterations()) * static_cast<double>(entries.size());
  state.SetItemsProcessed(static_cast<std::int64_t>(all));
  state.counters["per_command"] =
      benchmark::Counter(all, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["operations_per_1000"] = 1000 * static_cast<double>(submitted) / all;
  state.counters["submissions_per_1000"] = 1000 * static_cast<double>(submissions) / all;
}

merge::MergeSetup array_sink() {
  merge::MergeSetup setup;
  setup.caps.range = true;
  return setup;
}
merge::MergeSetup one_operation_sink() {
  merge::MergeSetup setup;
  setup.caps = {1, true, true, true, false, 512};
  return setup;
}

void ForwardEach(benchmark::State& state) {
  merge::ForwardEach policy;
  run(state, policy);
}
void BatchUntilSync(benchmark::State& state) {
  merge::BatchUntilSync policy;
  run(state, policy);
}
void MergeToArray(benchmark::State& state) {
  merge::Merge policy(array_sink());
  run(state, policy);
}
void MergeToOneOperation(benchmark::State& state) {
  merge::Merge policy(one_operation_sink());
  run(state, policy);
}

void bursts(benchmark::internal::Benchmark* b) {
  b->ArgNames({"burst", "shape"});
  for (const auto shape : {kStrict, kPages, kScattered}) {
    for (const std::int64_t burst : {1, 8, 32, 256}) b->Args({burst, shape});
  }
}
BENCHMARK(ForwardEach)->Apply(bursts);
BENCHMARK(BatchUntilSync)->Apply(bursts);
BENCHMARK(MergeToArray)->Apply(bursts);
BENCHMARK(MergeToOneOperation)->Apply(bursts);

}  // namespace
}  // namespace faultline
