// SPDX-License-Identifier: BSD-3-Clause
// A fault region in ABI 2: with a kernel that writes anything anywhere, and with one that keeps to
// doc/fault-abi-2.md, where every record comes once, in order, and every loss is counted.
#include "kernel/vfio/fault_region2.h"

#include <array>
#include <optional>

#include "tests/fuzz/fault_sys.h"

namespace faultline::fuzz {
namespace {

using Region = vfio::FaultRegion2<FaultSys>;

FaultSys& kernel() {
  static FaultSys made;
  return made;
}
uapi::vfio_region_fault_prod2& header() {
  return *reinterpret_cast<uapi::vfio_region_fault_prod2*>(kernel().producer());
}
uapi::vfio_fault_record2* ring() {
  return reinterpret_cast<uapi::vfio_fault_record2*>(kernel().producer() + 4096);
}
std::uint64_t& cons() {
  return reinterpret_cast<uapi::vfio_region_fault_cons2*>(kernel().consumer)->cons;
}

vfio::Geometry shape(Input& in) {
  return {2, 2U << in.byte() % 6, 64, 4096};
}

void hostile(Input& in, const vfio::Geometry& geometry) {
  std::optional<SourcePosition> position;
  if (in.flag()) position = SourcePosition{in.u64(), in.u64()};
  auto queue = make_queue(kernel(), geometry, 4096);
  queue.negotiated_now = in.flag();
  header().prod = in.flag() ? in.u64() : 0;
  header().lost = in.flag() ? in.u64() : 0;
  Region region(kernel(), std::move(queue), {}, position);
  std::array<FaultRecord, 64> out;
  for (int steps = 0; steps < 96 && !in.empty(); ++steps) {
    switch (in.byte() % 8) {
      case 0:
        header().prod += in.byte() % 16;
        break;
      case 1:
        header().prod = in.flag() ? in.u64() : cons() + in.byte() % 80;
        break;
      case 2:
        header().lost = in.flag() ? in.u64() : header().lost + in.byte();
        break;
      case 3:
        in.fill(&ring()[in.below(geometry.entries)], 64);
        break;
      case 4:
        hold(region.commit() == 0 && cons() == region.position().next, "less is given back");
        break;
      case 5:
        (void)region.take_loss();
        break;
      default: {
        const std::size_t room = in.below(out.size() + 1);
        const std::uint64_t before = region.position().next;
        const auto malformed = region.stats().malformed;
        const bool idle = region.watch().idle();
        const std::size_t n = region.poll(std::span(out).first(room));
        hold(n == 0 || !idle, "an idle look misses records");
        hold(n <= room && n <= geometry.entries, "more records than there was room");
        hold(n <= header().prod - before || n == 0, "records that the kernel has not produced");
        hold(n == 0 || header().prod - before <= geometry.entries, "records overwritten long ago");
        std::uint64_t bad = 0;
        for (std::size_t i = 0; i < n; ++i) {
          const auto& raw = ring()[(before + i) % geometry.entries];
          if (out[i].form == FaultRecord::Form::kMalformed) {
            hold(out[i].lost_before_is_guess, "a malformed record without a loss");
            ++bad;
          } else {
            hold(std::memcmp(out[i].event, raw.event, 32) == 0, "a record of another slot");
          }
        }
        hold(region.stats().malformed - malformed == bad, "malformed is not counted");
        break;
      }
    }
  }
}

class Honest {
 public:
  Honest(Input& in, const vfio::Geometry& geometry) : in_(in), geometry_(geometry) {
    region_.emplace(kernel(), make_queue(kernel(), geometry, 4096), vfio::FaultOptions{},
                    std::nullopt);
  }

  void run() {
    for (int steps = 0; steps < 128 && !in_.empty(); ++steps) step();
    for (int i = 0; i < 3; ++i) poll(64);
    (void)region_->commit();
    hold(last_ + told_ == serial_, "losses at the end are not counted");
    hold(cons() == header().prod, "records are not given back");
    hold(region_->stats().resyncs == 0, "an honest kernel is mistrusted");
  }

 private:
  void produce() {
    const std::uint64_t position = header().prod;
    ++serial_;
    if (cons() <= position && position - cons() <= geometry_.entries) good_cons_ = cons();
    if (position - good_cons_ == geometry_.entries) {
      ++header().lost;
      return;
    }
    auto& slot = ring()[position % geometry_.entries];
    slot = {};
    slot.sequence = serial_ - 1;
    slot.event[2] = serial_;
    header().prod = position + 1;
  }

  void poll(std::size_t room) {
    std::array<FaultRecord, 64> out;
    const bool idle = region_->watch().idle();
    const std::size_t n = region_->poll(std::span(out).first(room));
    hold(n == 0 || !idle, "an idle look misses records");
    for (std::size_t i = 0; i < n; ++i) {
      told_ += out[i].lost_before;
      hold(!out[i].lost_before_is_guess, "an honest kernel's loss is guessed");
      hold(out[i].event[2] == last_ + told_ + 1,
           "a record twice, out of order, or lost in silence");
      last_ = out[i].event[2];
      told_ = 0;
    }
    const SourceLoss loss = region_->take_loss();
    hold(loss.possible == 0, "an honest kernel's loss is guessed");
    told_ += loss.exact;
  }

  void step() {
    switch (in_.byte() % 6) {
      case 0:
        for (unsigned n = in_.byte() % 80; n > 0; --n) produce();
        break;
      case 1:
        produce();
        break;
      case 2:
        (void)region_->commit();
        break;
      case 3: {
        const SourcePosition at = region_->position();
        if (in_.flag()) (void)region_->commit();
        auto queue = map_queue(kernel(), geometry_, 4096);
        queue.negotiated_now = false;
        region_.emplace(kernel(), std::move(queue), vfio::FaultOptions{}, at);
        break;
      }
      default:
        poll(in_.below(65));
        break;
    }
  }

  Input& in_;
  const vfio::Geometry& geometry_;
  std::optional<Region> region_;
  std::uint64_t serial_ = 0;
  std::uint64_t good_cons_ = 0;
  std::uint64_t last_ = 0;
  std::uint64_t told_ = 0;  ///< losses told since the last record
};

void run(Input in) {
  const bool honest = in.flag();
  const vfio::Geometry geometry = shape(in);
  if (honest) {
    Honest(in, geometry).run();
  } else {
    hostile(in, geometry);
  }
}

}  // namespace
}  // namespace faultline::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  faultline::fuzz::run({data, size});
  return 0;
}
