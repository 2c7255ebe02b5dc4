// SPDX-License-Identifier: BSD-3-Clause
// Page request groups through a whole EventDuty, beside events, with a guest that answers anything
// at any time and engines that die between two rounds: no device waits for ever, each group is
// answered once, and no event is lost in silence.
#include "engine/page_requests.h"

#include <memory>
#include <optional>
#include <vector>

#include "engine/event_duty.h"
#include "kernel/iommufd/sources.h"
#include "tests/fuzz/guest.h"
#include "tests/kernel/iommufd_files.h"

namespace faultline::fuzz {
namespace {

using Files = testing::EventFiles;
using Sources = iommufd::EventSources<Files>;
using engine::ToEventDuty;
using viommu::Reg32;

constexpr std::uint64_t kQueue = 0x10'0000;
constexpr std::uint64_t kRegisters = 0x20'0000;
constexpr unsigned kDevices = 2;

const GuardedMemory& memory() {
  static const GuardedMemory made{{kQueue, 0x2000}, {kRegisters, 0x20000}};
  return made;
}

struct FixedClock {
  Nanos operator()() const noexcept { return 0; }
};

/// Stops at the nth passing of any step, as a kill would.
struct StopAfter {
  int* left;
  bool operator()(engine::JournalStep) noexcept { return *left > 0 && --*left == 0; }
};

class World {
 public:
  explicit World(Input& in) : in_(in) {
    memory().clear();
    files_.depth = 1 + in.byte() % 16;
    log2size_ = 1 + in.byte() % 5;
    start();
    enable();
  }

  void run() {
    for (int steps = 0; steps < 96 && !in_.empty(); ++steps) step();
    left_ = 0;
    files_.most_read = SIZE_MAX;
    if (duty_->stopped()) restart();
    for (int i = 0; i < 40; ++i) {
      read_all();
      duty_->round(++now_);
    }
    // The guest has been told everything by now; it terminates all that waits.
    for (std::uint32_t device = 0; device < kDevices; ++device) {
      rings_->responses.push({device, 0, 0, 1});
    }
    for (int i = 0; i < 4; ++i) duty_->round(++now_);
    hold(files_.groups.empty(), "a request is not read");
    hold(files_.open_cookies.empty(), "a device waits for ever");
    hold(files_.answered.size() + forgotten_ == requests_, "a group is not answered once");
    hold(journal_->event().reading() == 0, "the reading mark stays");
    hold(lost() || seen_ == files_.produced, "an event is lost in silence");
  }

 private:
  [[nodiscard]] bool lost() const { return overflows_ != 0; }

  void start() {
    const engine::EventJournal event = journal_->event();
    std::vector<SourcePosition> positions;
    for (std::size_t i = 0; i < kDevices; ++i) positions.push_back(event.resume_position(i));
    iommufd::SourceFiles setup;
    setup.devices = {{StreamId{1}, 1}, {StreamId{2}, 2}};
    setup.veventq = Files::kVeventq;
    setup.fault_queue = Files::kFaultQueue;
    rings_ = std::make_unique<engine::GuestRings>();
    sources_.emplace(*Sources::open(files_, setup, iommufd::WatchChoice::kAuto, positions));
    engine::EventDutySetup duty;
    duty.memory = &memory().get();
    duty.page = page_;
    duty.vsids = {StreamId{1}, StreamId{2}};
    duty.rings = rings_.get();
    duty_.emplace(*sources_, duty, event, StopAfter{&left_}, FixedClock{});
    duty_->resume();
  }
  void restart() {
    left_ = 0;
    duty_.reset();
    start();
  }
  void enable() {
    rings_->to_event.push({.kind = ToEventDuty::Kind::kEnableEvtq,
                           .token = 1,
                           .base = kQueue,
                           .log2size = log2size_});
    duty_->round(++now_);
    engine::ToCommandDuty answer;
    while (rings_->to_command.pop(answer)) {
    }
  }

  /// The guest takes what is in its queue and acknowledges overflows.
  void read_all() {
    const std::uint32_t prod = page_.acquire(Reg32::kEvtqProd);
    const std::uint32_t mask = (2U << log2size_) - 1;
    if (((prod ^ page_.load(Reg32::kEvtqCons)) & viommu::queue::kOverflow) != 0) ++overflows_;
    for (; (cons_ & mask) != (prod & mask); ++cons_) {
      const auto* words = reinterpret_cast<const std::uint64_t*>(memory().host(0)) +
                          4 * std::size_t{cons_ & (mask >> 1)};
      if ((words[1] & viommu::event::kStall) == 0) ++seen_;
    }
    page_.store(Reg32::kEvtqCons, (cons_ & mask) | (prod & viommu::queue::kOverflow));
  }

  void step() {
    switch (in_.byte() % 8) {
      case 0:
        for (unsigned n = in_.byte() % 24; n > 0; --n) files_.produce(1 + in_.byte() % 2U, 0x1000);
        break;
      case 1: {
        std::vector<Files::Page> pages(1 + in_.byte() % 40);
        for (auto& p : pages) p = {1 + in_.byte() % 3U, in_.byte(), in_.byte() % 20U, 0x1000};
        if (in_.flag()) {
          for (auto& p : pages) p = {pages[0].dev_id, pages[0].group, 1, 0x2000};
        }
        ++requests_;
        files_.request(std::move(pages));
        break;
      }
      case 2:
        read_all();
        break;
      case 3:
        for (unsigned n = in_.byte() % 70; n > 0; --n) {
          rings_->responses.push({in_.byte() % 3U, in_.byte(), in_.byte() % 2U, in_.byte() % 2U});
        }
        break;
      case 4:
        left_ = 1 + in_.byte() % 12;
        break;
      case 5: {
        const unsigned value = in_.u16();
        if (value < 0xc000) {
          files_.most_read = 40 + value % 2000;
        } else if (files_.forget(value)) {
          ++forgotten_;
        }
        break;
      }
      default:
        duty_->round(++now_);
        if (duty_->stopped()) restart();
        break;
    }
  }

  Input& in_;
  Files files_;
  viommu::RegisterPage page_ = *viommu::RegisterPage::map(memory().get(), Gpa{kRegisters});
  std::optional<engine::Journal> journal_ = *engine::Journal::create("fuzz", kDevices, 0);
  std::unique_ptr<engine::GuestRings> rings_;
  std::optional<Sources> sources_;
  std::optional<engine::EventDuty<Sources, StopAfter, FixedClock>> duty_;
  int left_ = 0;
  unsigned log2size_ = 1;
  Nanos now_ = 0;
  std::uint32_t cons_ = 0;
  std::size_t requests_ = 0;
  std::size_t forgotten_ = 0;  ///< by the kernel, which answered them itself
  std::uint64_t seen_ = 0;
  std::uint64_t overflows_ = 0;
};

}  // namespace
}  // namespace faultline::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  faultline::fuzz::Input in(data, size);
  faultline::fuzz::World(in).run();
  return 0;
}
