// SPDX-License-Identifier: BSD-3-Clause
// From a fault on one core to its decoded record on another: polled in either ABI, and with eventfd
// and epoll. Baseline, interleaved in the same run: a bare cache line handed over.
#include <benchmark/benchmark.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "bench/support/one_way.h"
#include "bench/support/soft_rig.h"
#include "kernel/uapi/fault_abi2.h"

namespace faultline {
namespace {

constexpr std::size_t kRounds = 15;
constexpr std::size_t kPolledPerRound = 300;
constexpr std::size_t kEpollPerRound = 100;
constexpr Nanos kPerRound = 40'000'000;
constexpr Nanos kLost = 5'000'000'000;  // a fault that has not come by then never will

/// SoftSys whose pread costs what a real one does: a function call has no kernel entry.
struct EnteringSys : soft::SoftSys {
  explicit EnteringSys(soft::SoftKernel& kernel)
      : soft::SoftSys(kernel), header(memfd_create("header", MFD_CLOEXEC)) {
    if (header < 0 || ftruncate(header, 4096) != 0) throw std::runtime_error("memfd");
  }
  EnteringSys(const EnteringSys&) = delete;
  EnteringSys& operator=(const EnteringSys&) = delete;
  ~EnteringSys() { ::close(header); }

  ssize_t pread(int fd, void* out, std::size_t size, off_t at) noexcept {
    std::array<unsigned char, 20> real;
    benchmark::DoNotOptimize(::pread(header, real.data(), real.size(), 0));
    return soft::SoftSys::pread(fd, out, size, at);
  }

  int header;
};

/// What one way of being told costs.
struct Leg {
  std::vector<double> medians;  ///< ns, one per round
  std::vector<double> to_line, to_epoll;
  std::unique_ptr<Histogram> samples = std::make_unique<Histogram>();
};

enum Way : std::size_t {
  kLine,
  kLineAndRecord,
  kPublished2,
  kPolled2,
  kPolled1,
  kPolled1Entering,
  kEpoll2,
  kEpoll1,
  kWays,
};

struct Study {
  std::array<Leg, kWays> legs;
  std::string error;
  double offset_ns = 0;
};

template <class Seen>
void spin_until(Seen seen) {
  const Nanos start = monotonic_ns();
  for (;;) {
    for (int i = 0; i < 4096; ++i) {
      if (seen()) return;
    }
    if (monotonic_ns() - start > kLost) throw std::runtime_error("a fault did not arrive");
  }
}

/// A bare hand-over: one line, or a record's line and then an index's.
struct Lines {
  struct alignas(2 * kCacheLine) Slot {
    std::uint64_t word[8];
  };
  alignas(2 * kCacheLine) std::uint64_t index = 0;
  std::array<Slot, 1024> slots{};
  std::uint64_t next = 0;

  static std::uint64_t line(void* context) {
    auto& self = *static_cast<Lines*>(context);
    const std::uint64_t stamp = cycles();
    store_release(self.index, ++self.next);
    return stamp;
  }
  static std::uint64_t record(void* context) {
    auto& self = *static_cast<Lines*>(context);
    const std::uint64_t stamp = cycles();
    for (std::uint64_t& w : self.slots[self.next % 1024].word) store_relaxed(w, stamp);
    store_release(self.index, ++self.next);
    return stamp;
  }
};

/// Runs a memory of its own under FaultRegion2, so that the producer, which does what fl_ring2_push
/// does, can read the clock between the record and its index.
struct OwnMemory {
  struct Sys : LinuxSys {
    void* producer = nullptr;
    void* consumer = nullptr;
    std::intptr_t mmap(void*, std::size_t size, int, int, int, off_t) noexcept {
      return reinterpret_cast<std::intptr_t>(size > kPage4K ? producer : consumer);
    }
    int munmap(void*, std::size_t) noexcept { return 0; }
  };
  struct alignas(kPage4K) Memory {
    std::array<unsigned char, 17 * kPage4K> producer{};
    std::array<unsigned char, kPage4K> consumer{};
  };

  OwnMemory() {
    sys.producer = memory->producer.data();
    sys.consumer = memory->consumer.data();
    vfio::FaultQueue<Sys> queue;
    queue.geometry = {.abi = 2, .entries = 1024, .entry_size = 64, .offset = kPage4K};
    queue.producer = vfio::Mapping<Sys>::map(sys, 0, 0, 17 * kPage4K, PROT_READ, "").value();
    queue.consumer = vfio::Mapping<Sys>::map(sys, 0, 0, kPage4K, PROT_READ, "").value();
    region = std::make_unique<vfio::FaultRegion2<Sys>>(sys, std::move(queue), vfio::FaultOptions{},
                                                       std::nullopt);
  }

  static std::uint64_t produce(void* context) {
    auto& self = *static_cast<OwnMemory*>(context);
    auto* ring =
        reinterpret_cast<uapi::vfio_fault_record2*>(self.memory->producer.data() + kPage4K);
    auto* header = reinterpret_cast<uapi::vfio_region_fault_prod2*>(self.memory->producer.data());
    uapi::vfio_fault_record2 record{};
    record.sequence = self.next;
    record.event[0] = 0x10;
    copy_to_shared(&ring[self.next % 1024], &record, sizeof record);
    // The record's line has to be this core's first, or its transfer would be counted as well.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const std::uint64_t stamp = cycles();
    store_release(header->prod, ++self.next);
    return stamp;
  }

  std::unique_ptr<Memory> memory = std::make_unique<Memory>();
  Sys sys;
  std::uint64_t next = 0;
  std::unique_ptr<vfio::FaultRegion2<Sys>> region;
};

/// A device of a soft kernel whose DMA faults; the moment is that before the kernel takes its lock.
template <class Sys>
struct Faulting {
  explicit Faulting(vfio::AbiChoice abi)
      : rig(1, [this] { return stamp(); }), sources(rig.regions(abi)) {
    rig.make_fault(guest);
  }

  Nanos stamp() {
    if (!stamped) {
      stamped = true;
      at = cycles();
    }
    return 1;
  }
  static std::uint64_t produce(void* context) {
    auto& self = *static_cast<Faulting*>(context);
    self.stamped = false;
    soft::DmaRequest request;
    request.iova = ++self.number << 12U;  // no record equals the one a lap before
    static_cast<void>(self.rig.kernel().dma(0, request));
    return self.at;
  }

  std::uint64_t polled() {
    std::uint64_t seen = 0;
    spin_until([&] {
      if (sources.poll(0, out) == 0) return false;
      seen = cycles();
      return true;
    });
    sources.commit(0);
    return seen;
  }
  std::uint64_t slept() {
    for (;;) {
      epoll_event event{};
      if (epoll_wait(sources.wake_fd(), &event, 1, 5000) != 1) {
        throw std::runtime_error("no interrupt");
      }
      if (sources.poll(0, out) == 0) continue;
      const std::uint64_t seen = cycles();
      sources.commit(0);
      return seen;
    }
  }

  bool stamped = false;
  std::uint64_t at = 0;
  std::uint64_t number = 0;
  std::array<FaultRecord, 32> out;
  bench::Guest guest;
  bench::SoftRig<Sys> rig;
  vfio::FaultRegions<Sys> sources;
};

void measure(Study& study) {
  const auto cpus = bench::usable_cpus();
  if (cpus.size() < 2) {
    study.error = "needs two CPUs";
    return;
  }
  const auto lines = std::make_unique<Lines>();
  OwnMemory own;
  Faulting<soft::SoftSys> abi2(vfio::AbiChoice::kV2), abi1(vfio::AbiChoice::kV1);
  Faulting<EnteringSys> entering(vfio::AbiChoice::kV1);
  bench::OneWay way(cpus[1], cpus[0]);
  study.offset_ns = way.offset_ns();
  std::uint64_t expected = 0;
  std::array<FaultRecord, 32> out;
  const auto line = [&] {
    ++expected;
    spin_until([&] { return load_acquire(lines->index) == expected; });
    return cycles();
  };
  const auto line_and_record = [&] {
    ++expected;
    spin_until([&] { return load_acquire(lines->index) == expected; });
    std::array<std::uint64_t, 8> copy;
    copy_from_shared(copy.data(), &lines->slots[(expected - 1) % 1024], sizeof copy);
    benchmark::DoNotOptimize(copy);
    return cycles();
  };
  const auto published = [&] {
    spin_until([&] { return own.region->poll(out) != 0; });
    const std::uint64_t seen = cycles();
    own.region->commit();
    return seen;
  };
  const auto run = [&](Way which, bench::OneWay::Produce produce, void* context, std::size_t most,
                       auto wait) {
    Leg& leg = study.legs[which];
    leg.medians.push_back(way.run(produce, context, most, kPerRound, wait, *leg.samples));
  };
  for (std::size_t i = 0; i < kRounds; ++i) {
    run(kLine, &Lines::line, lines.get(), kPolledPerRound, line);
    run(kLineAndRecord, &Lines::record, lines.get(), kPolledPerRound, line_and_record);
    run(kPublished2, &OwnMemory::produce, &own, kPolledPerRound, published);
    run(kPolled2, &decltype(abi2)::produce, &abi2, kPolledPerRound, [&] { return abi2.polled(); });
    run(kPolled1, &decltype(abi1)::produce, &abi1, kPolledPerRound, [&] { return abi1.polled(); });
    run(kPolled1Entering, &decltype(entering)::produce, &entering, kPolledPerRound,
        [&] { return entering.polled(); });
    run(kEpoll2, &decltype(abi2)::produce, &abi2, kEpollPerRound, [&] { return abi2.slept(); });
    run(kEpoll1, &decltype(abi1)::produce, &abi1, kEpollPerRound, [&] { return abi1.slept(); });
    for (Leg& leg : study.legs) {
      leg.to_line.push_back(leg.medians[i] / study.legs[kLine].medians[i]);
      leg.to_epoll.push_back(study.legs[kEpoll2].medians[i] / leg.medians[i]);
    }
  }
}

const Study& study() {
  static const Study once = [] {
    Study s;
    try {
      measure(s);
    } catch (const std::exception& error) {
      s.error = error.what();
    }
    return s;
  }();
  return once;
}

/// The figures of one way: the median over the rounds of the medians of each, and its ratios to the
/// bare line and from epoll, taken round by round.
void Latency(benchmark::State& state, Way way) {
  const Study& all = study();
  if (!all.error.empty()) return state.SkipWithError(all.error.c_str());
  const Leg& leg = all.legs[way];
  const bench::Spread ns = bench::spread_of(leg.medians);
  for (auto _ : state) state.SetIterationTime(ns.median * 1e-9);
  state.counters["median_ns"] = ns.median;
  state.counters["min_ns"] = ns.min;
  state.counters["max_ns"] = ns.max;
  state.counters["p50_ns"] = static_cast<double>(leg.samples->percentile(0.5));
  state.counters["p99_ns"] = static_cast<double>(leg.samples->percentile(0.99));
  state.counters["samples"] = static_cast<double>(leg.samples->count());
  state.counters["counter_offset_ns"] = all.offset_ns;
  state.counters["times_line"] = bench::spread_of(leg.to_line).median;
  state.counters["epoll_is_times"] = bench::spread_of(leg.to_epoll).median;
}
#define FAULTLINE_LATENCY(name, way) \
  BENCHMARK_CAPTURE(Latency, name, way)->Iterations(1)->Repetitions(1)->UseManualTime()
FAULTLINE_LATENCY(line, kLine);
FAULTLINE_LATENCY(line_and_record, kLineAndRecord);
FAULTLINE_LATENCY(abi2_published, kPublished2);
FAULTLINE_LATENCY(abi2_polled, kPolled2);
FAULTLINE_LATENCY(abi1_polled, kPolled1);
FAULTLINE_LATENCY(abi1_polled_real_pread, kPolled1Entering);
FAULTLINE_LATENCY(abi2_epoll, kEpoll2);
FAULTLINE_LATENCY(abi1_epoll, kEpoll1);

/// One real pread of the header's 20 bytes from a memfd: what ABI 1 adds at least.
void OnePread(benchmark::State& state) {
  const int fd = memfd_create("header", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, 4096) != 0) return state.SkipWithError("memfd_create");
  std::array<unsigned char, 20> header;
  for (auto _ : state) benchmark::DoNotOptimize(::pread(fd, header.data(), header.size(), 0));
  ::close(fd);
}
BENCHMARK(OnePread);

}  // namespace
}  // namespace faultline
