// SPDX-License-Identifier: BSD-3-Clause
// A fault region in ABI 1: with a kernel that writes anything anywhere, and with one that is v7's,
// where every record comes once, in order, and no loss goes unnoticed.
#include "kernel/vfio/fault_region1.h"

#include <array>
#include <optional>

#include "tests/fuzz/fault_sys.h"

namespace faultline::fuzz {
namespace {

using Region = vfio::FaultRegion1<FaultSys>;

FaultSys& kernel() {
  static FaultSys made;
  return made;
}

struct Shape {
  vfio::Geometry geometry{1, 2, 48, 0x1000};
  vfio::FaultOptions options;
};

Shape shape(Input& in) {
  Shape s;
  const std::uint8_t entries = in.byte();
  s.geometry.entries = entries % 8 == 7 ? 85 : 2 + entries % 32;
  s.geometry.entry_size = in.flag() ? 48 : 64;
  s.options.fetch_addr_shifted = in.flag();
  return s;
}

void reset(FaultSys& sys) {
  sys.prod = sys.cons = sys.last_write = 0;
  sys.fail_reads = sys.fail_writes = 0;
  sys.failed_writes_count = false;
}

uapi::iommu_fault slot(const FaultSys& sys, const Shape& s, std::uint32_t i) {
  uapi::iommu_fault raw;
  std::memcpy(&raw, sys.producer() + std::size_t{i} * s.geometry.entry_size, sizeof raw);
  return raw;
}

/// Whatever is in memory and whatever the calls return.
void hostile(Input& in, const Shape& s) {
  FaultSys& sys = kernel();
  reset(sys);
  const std::uint32_t entries = s.geometry.entries;
  std::optional<SourcePosition> position;
  if (in.flag()) position = SourcePosition{in.u16(), in.u64()};
  std::optional<Region> region;
  auto queue = make_queue(sys, s.geometry, 0);
  queue.negotiated_now = in.flag();
  region.emplace(sys, std::move(queue), s.options, position);
  std::uint64_t unreturned = 0;
  std::array<FaultRecord, 64> out;
  for (int steps = 0; steps < 96 && !in.empty(); ++steps) {
    switch (in.byte() % 8) {
      case 0:
        sys.prod = in.flag() ? in.byte() % (entries + 2) : in.u32();
        break;
      case 1:
        in.fill(sys.producer() + in.below(entries) * s.geometry.entry_size, 48);
        break;
      case 2:
        sys.fail_reads = in.byte() % 4;
        sys.fail_writes = in.byte() % 4;
        sys.failed_writes_count = in.flag();
        break;
      case 3:
        region->attend();
        break;
      case 4: {
        const auto writes = sys.writes;
        const int result = region->commit();
        hold(result <= 0, "commit() returns 0 or -errno");
        hold(sys.last_write < entries, "a consumer index outside of the ring");
        if (sys.writes == writes) break;
        hold(result != 0 || sys.cons == region->position().next,
             "less is given back than was read");
        unreturned = 0;  // also when it is said to have failed: it may have taken effect
        break;
      }
      case 5: {
        const SourceLoss loss = region->take_loss();
        hold(loss.exact == 0, "version 1 cannot count losses");
        break;
      }
      default: {
        const std::size_t room = in.below(out.size() + 1);
        const SourcePosition before = region->position();
        const bool idle = region->watch().idle();
        const std::size_t n = region->poll(std::span(out).first(room));
        hold(n == 0 || !idle, "an idle look misses records");
        hold(n <= room, "more records than there was room");
        if (n == 0) break;  // may have started anew at the kernel's prod
        const std::uint64_t first = (region->position().next + 2 * entries - n % entries) % entries;
        unreturned += n;
        hold(unreturned < entries, "more records than the ring holds");
        hold(n <= entries && (before.next == first || unreturned == n), "records out of order");
        for (std::size_t i = 0; i < n; ++i) {
          vfio::FaultStats stats;
          const auto raw = slot(sys, s, static_cast<std::uint32_t>((first + i) % entries));
          const FaultRecord r = vfio::decode_fault1(raw, s.options.fetch_addr_shifted, stats);
          hold(r.form == out[i].form && r.addr == out[i].addr && r.pasid == out[i].pasid,
               "a record of another slot");
        }
        break;
      }
    }
    hold(region->position().next < entries, "a position outside of the ring");
  }
  hold(region->stats().records >= region->stats().malformed, "records are not counted");
}

/// v7: drops in silence when its masked rule says full.
class Honest {
 public:
  Honest(Input& in, const Shape& s) : in_(in), shape_(s) {
    reset(kernel());
    region_.emplace(kernel(), make_queue(kernel(), s.geometry, 0), s.options, std::nullopt);
  }

  void run() {
    for (int steps = 0; steps < 128 && !in_.empty(); ++steps) step();
    kernel().fail_reads = kernel().fail_writes = 0;
    for (int i = 0; i < 4; ++i) {
      region_->attend();
      poll(64);
      poll(64);
      hold(region_->commit() == 0, "a commit fails that cannot");
    }
    hold(read_ == produced_, "records are left behind");
    hold(kernel().cons == kernel().prod, "records are not given back");
  }

 private:
  void produce() {
    FaultSys& sys = kernel();
    const std::uint32_t entries = shape_.geometry.entries;
    ++serial_;
    if (((sys.cons - sys.prod - 1U) & (entries - 1)) == 0) return;
    uapi::iommu_fault raw{};
    raw.type = uapi::kIommuFaultDmaUnrecov;
    raw.event.flags = uapi::kIommuFaultUnrecovAddrValid;
    raw.event.addr = serial_;
    std::memcpy(sys.producer() + std::size_t{sys.prod} * shape_.geometry.entry_size, &raw,
                sizeof raw);
    sys.prod = (sys.prod + 1) % entries;
    ++produced_;
  }

  void poll(std::size_t room) {
    std::array<FaultRecord, 64> out;
    const bool idle = region_->watch().idle();
    const std::size_t n = region_->poll(std::span(out).first(room));
    hold(n == 0 || !idle, "an idle look misses records");
    for (std::size_t i = 0; i < n; ++i) {
      hold(out[i].addr > last_, "a record twice, or out of order");
      told_ |= out[i].lost_before != 0;
      hold(out[i].addr == last_ + 1 || told_, "a loss goes unnoticed");
      last_ = out[i].addr;
      told_ = false;
    }
    read_ += n;
    // As the engine does after every burst.
    told_ |= region_->take_loss().possible != 0;
  }

  void step() {
    FaultSys& sys = kernel();
    switch (in_.byte() % 8) {
      case 0:
        for (unsigned n = in_.byte() % 32; n > 0; --n) produce();
        break;
      case 1:
        region_->attend();
        break;
      case 2:
        sys.fail_reads = in_.byte() % 4;
        break;
      case 3:
        sys.fail_writes = in_.byte() % 4;
        sys.failed_writes_count = in_.flag();
        break;
      case 4: {
        // Killed and started again at the journalled position.
        const SourcePosition at = region_->position();
        if (in_.flag()) region_->commit();
        auto queue = map_queue(sys, shape_.geometry, 0);
        queue.negotiated_now = false;
        region_.emplace(sys, std::move(queue), shape_.options, at);
        break;
      }
      case 5:
        region_->commit();
        break;
      case 6:
        produce();
        break;
      default:
        poll(1 + in_.below(64));
        break;
    }
  }

  Input& in_;
  const Shape& shape_;
  std::optional<Region> region_;
  std::uint64_t serial_ = 0;    ///< of the last event
  std::uint64_t produced_ = 0;  ///< events that found room
  std::uint64_t read_ = 0;
  std::uint64_t last_ = 0;  ///< serial of the last record read
  bool told_ = false;       ///< a loss since then was reported
};

void run(Input in) {
  const bool honest = in.flag();
  const Shape s = shape(in);
  if (honest) {
    Honest(in, s).run();
  } else {
    hostile(in, s);
  }
}

}  // namespace
}  // namespace faultline::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  faultline::fuzz::run({data, size});
  return 0;
}
