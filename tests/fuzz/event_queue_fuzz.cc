// SPDX-License-Identifier: BSD-3-Clause
// A vEVENTQ's byte stream: any bytes, in reads of any size; and the stream of a kernel that keeps
// to the rules, where every record comes once, in order, and every loss is counted.
#include "kernel/iommufd/event_queue.h"

#include <array>
#include <optional>

#include "tests/fuzz/event_sys.h"

namespace faultline::fuzz {
namespace {

using Queue = iommufd::EventQueue<EventSys>;
constexpr std::uint64_t kModulus = std::uint64_t{1} << 31U;

std::vector<StreamId> streams() {
  return {StreamId{1}, StreamId{2}, StreamId{3}};
}

void hostile(Input& in) {
  EventSys sys;
  Queue queue(sys, 0, streams(), in.flag() ? in.u64() >> 8U : 0);
  sys.lie = in.byte() % 4 == 0 ? in.u16() : 0;
  std::array<FaultRecord, 16> out;
  std::uint64_t handed = queue.handed();
  for (int steps = 0; steps < 64 && !in.empty(); ++steps) {
    switch (in.byte() % 8) {
      case 0:
        sys.most = 1 + in.byte();
        break;
      case 1:
        sys.fail_reads = in.byte() % 4;
        break;
      case 2: {
        const uapi::iommufd_vevent_header header{in.byte() % 4U, in.u32()};
        sys.put(header);
        break;
      }
      case 3: {
        const uapi::iommufd_vevent_header header{in.byte() % 2U * 2U, in.byte()};
        uapi::iommu_vevent_arm_smmuv3 event{};
        event.evt[0] = std::uint64_t{in.byte() % 5U} << 32U;
        sys.put(header);
        sys.put(event);
        break;
      }
      case 4:
        for (unsigned n = in.byte() % 64; n > 0; --n) sys.put(in.byte());
        break;
      case 5: {
        const SourceLoss loss = queue.take_loss();
        hold(loss.exact < kModulus * 64, "a loss that nobody can count");
        if (!queue.front()) hold(queue.take_loss().exact == 0, "a loss is told twice");
        break;
      }
      default: {
        bool dry = false;
        const bool front = queue.refill(dry);
        hold(!front || !dry, "a record in front of nothing");
        hold(!front || queue.held(), "a record that is not held");
        hold(!front || queue.device() < 3, "a record of no device");
        const std::size_t device = front ? queue.device() : in.byte() % 3U;
        const std::size_t room = in.byte() % (out.size() + 1);
        const std::size_t n = queue.poll(device, std::span(out).first(room));
        hold(n <= room, "more records than there was room");
        hold(front || n == 0, "records from nowhere");
        break;
      }
    }
    hold(queue.handed() >= handed, "the position goes backward");
    handed = queue.handed();
  }
}

/// Linux's queue: depth, LOST header at the tail, sequence numbers that wrap.
class Honest {
 public:
  explicit Honest(Input& in)
      : in_(in), depth_(1 + in.byte() % 8), next_(in.flag() ? kModulus - 1 - in.byte() % 16U : 0) {
    first_ = next_;
    queue_.emplace(sys_, 0, streams(), next_);
  }
  void run() {
    for (int steps = 0; steps < 128 && !in_.empty(); ++steps) step();
    sys_.most = SIZE_MAX;
    sys_.fail_reads = 0;
    for (int i = 0; i < 40; ++i) take(16);
    produce();
    for (int i = 0; i < 40; ++i) take(16);
    hold(seen_ + told_ == next_ - first_, "events that nobody accounted for");
    hold(queue_->handed() == next_, "the position is not where the kernel is");
    hold(!queue_->held(), "something is kept for ever");
    hold(queue_->stats().bad_sequence == 0, "an honest kernel is mistrusted");
  }

 private:
  struct Event {
    std::uint64_t number = 0;
    std::uint32_t stream = 0;
  };
  void produce() {
    const std::uint64_t number = next_++;
    if (events_.size() >= depth_) {
      lost_ = number;
      return;
    }
    lost_.reset();
    events_.push_back({number, 1 + in_.byte() % 3U});
  }
  /// What a read would find, put where the fake file reads from.
  void fill() {
    if (!sys_.bytes.empty()) return;
    std::size_t room = 40 * (1 + in_.byte() % 4U) + (in_.flag() ? 8 : 0);
    while (!events_.empty() && room >= 40) {
      const Event event = events_.front();
      events_.erase(events_.begin());
      sys_.put(uapi::iommufd_vevent_header{0, static_cast<std::uint32_t>(event.number % kModulus)});
      uapi::iommu_vevent_arm_smmuv3 raw{};
      raw.evt[0] = std::uint64_t{event.stream} << 32U;
      raw.evt[2] = event.number;
      sys_.put(raw);
      room -= 40;
    }
    if (events_.empty() && lost_ && room >= 8) {
      sys_.put(uapi::iommufd_vevent_header{1, static_cast<std::uint32_t>(*lost_ % kModulus)});
      lost_.reset();
    }
  }
  void take(std::size_t room) {
    fill();
    bool dry = false;
    (void)queue_->refill(dry);
    std::array<FaultRecord, 16> out;
    const std::size_t device = queue_->front() ? queue_->device() : 0;
    const std::size_t n = queue_->poll(device, std::span(out).first(room));
    for (std::size_t i = 0; i < n; ++i) {
      told_ += out[i].lost_before;
      hold(out[i].event[2] == first_ + seen_ + told_,
           "a record twice, out of order, or lost in silence");
      ++seen_;
    }
    const SourceLoss loss = queue_->take_loss();
    hold(loss.possible == 0, "an honest kernel's loss is guessed");
    told_ += loss.exact;
  }
  void step() {
    switch (in_.byte() % 6) {
      case 0:
        for (unsigned n = in_.byte() % 24; n > 0; --n) produce();
        break;
      case 1:
        produce();
        break;
      case 2:
        sys_.most = 1 + in_.byte();
        break;
      case 3: {
        // Killed: what was read and not handed out is gone, and counted by the next gap.
        const std::uint64_t at = queue_->handed();
        sys_.bytes.clear();
        queue_.emplace(sys_, 0, streams(), at);
        break;
      }
      default:
        take(in_.byte() % 17U);
        break;
    }
  }

  Input& in_;
  EventSys sys_;
  std::size_t depth_;
  std::uint64_t next_;
  std::uint64_t first_ = 0;
  std::vector<Event> events_;
  std::optional<std::uint64_t> lost_;
  std::optional<Queue> queue_;
  std::uint64_t seen_ = 0;
  std::uint64_t told_ = 0;
};

void run(Input in) {
  if (in.flag()) {
    Honest(in).run();
  } else {
    hostile(in);
  }
}

}  // namespace
}  // namespace faultline::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  faultline::fuzz::run({data, size});
  return 0;
}
