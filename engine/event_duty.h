// SPDX-License-Identifier: BSD-3-Clause
// hot path: faults of one guest on their way up.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "engine/budget.h"
#include "engine/event_counters.h"
#include "engine/guest_spec.h"
#include "engine/interrupt.h"
#include "engine/journal.h"
#include "engine/messages.h"
#include "engine/monitor.h"
#include "engine/page_requests.h"
#include "engine/source_traits.h"
#include "engine/stage_cycles.h"
#include "engine/viommu/event_queue.h"
#include "engine/viommu/guest_memory.h"
#include "engine/viommu/registers.h"
#include "engine/viommu/transcode.h"
#include "kernel/backend.h"
#include "kernel/base/clock.h"
#include "kernel/base/histogram.h"

namespace faultline::engine {

/// What an EventDuty serves. Everything outlives the duty.
struct EventDutySetup {
  const viommu::GuestMemory* memory = nullptr;
  viommu::RegisterPage page;
  RegisterMode mode = RegisterMode::kExitless;
  unsigned evtq_log2 = 19;  ///< largest event queue offered to the guest
  std::vector<StreamId> vsids;
  int evtq_eventfd = -1;
  int gerror_eventfd = -1;
  std::vector<MsiRoute> routes;
  GuestRings* rings = nullptr;
  Budget budget;
};

/// All fault sources of one guest: poll → transcode → place in the guest's event queue → journal
/// the intent → publish PROD → commit to the kernel → journal done → interrupt.
///
/// Exactly once: before the intent nothing is visible and the records are read again after a kill;
/// from the intent on, recovery publishes and commits the same values again.
///
/// Never blocks a kernel queue for a guest that does not read: what finds the guest's queue full is
/// dropped, counted and told as an overflow. With the queue disabled, events are discarded, as
/// hardware does. A loss met while an older overflow is unacknowledged is owed: the overflow is
/// raised again after the acknowledgement, so no loss hides behind another.
///
/// Sources  in the position that EventJournal::resume_position() says
/// Hook     called at every JournalStep
/// Clock    () → Nanos; asked twice per burst, never in an idle round
/// thread   the owning shard; resume() before the first round
template <FaultSourceSet Sources, StepHook Hook = NoHook, class Clock = MonotonicClock>
class EventDuty {
 public:
  static constexpr std::size_t kBurst = 32;

  EventDuty(Sources& sources, EventDutySetup setup, EventJournal journal, Hook hook = {},
            Clock clock = {})
      : sources_(&sources),
        setup_(std::move(setup)),
        rings_(setup_.rings),
        journal_(journal),
        evtq_interrupt_(setup_.evtq_eventfd),
        gerror_interrupt_(setup_.gerror_eventfd),
        hook_(std::move(hook)),
        clock_(std::move(clock)),
        devices_(sources.size()),
        requests_(make_requests()) {
    set_budget(setup_.budget);
  }
  EventDuty(const EventDuty&) = delete;
  EventDuty& operator=(const EventDuty&) = delete;

  /// Go on where the journal says that somebody stopped; on a fresh journal this does nothing that
  /// the guest could see. The first round interrupts: no journal says whether that was done.
  void resume() noexcept;

  /// One round: what CommandDuty asks, then at most kBurst records of every source, of all of them
  /// what the guest's budget allows.
  ///
  /// returns  records taken + messages served; 0 = idle
  std::size_t round(Nanos now) noexcept {
    if (stopped_ || setup_.memory->poisoned()) [[unlikely]] {
      return 0;
    }
    if (now - last_beat_ >= kBeatNs) {
      last_beat_ = now;
      journal_.beat(now);
    }
    std::size_t work = 0;
    if (unsent_ack_ || !rings_->to_event.empty()) [[unlikely]] {
      work += serve_messages();
    }
    if (loss_owed_) [[unlikely]] {
      pay_owed_loss();
    }
    if constexpr (kAnswersPages<Sources>) {
      if (!rings_->responses.empty()) work += requests_.serve(*rings_, devices_);
    } else if (rounds_ % kLossEvery == 0) {
      // Nothing here was ever asked of the guest.
      for (PageResponse stray; rings_->responses.pop(stray);) {
      }
    }
    work += sources_->housekeeping(now);
    timer_.begin();
    ++rounds_;
    ++idle_rounds_;
    const std::size_t n = devices_.size();
    resumes_ = deficit_.was_cut();
    deficit_.begin(quantum_.get());
    if constexpr (kSkipsIdle<Sources>) {
      // Those that the sweep skips, in turn: they may have lost something all the same.
      const std::size_t turn = (kLossEvery - rounds_ % kLossEvery) % kLossEvery;
      for (std::size_t i = turn; i < n && !stopped_; i += kLossEvery) work += burst(i);
    }
    // A different first source every round: when all are busy none is always last. After a round
    // that the budget ended, the source that was next.
    if (++first_ >= n) first_ = 0;
    const std::size_t first = first_;
    if (sweep(first, n, work)) (void)sweep(0, first, work);
    if (!deficit_.was_cut()) deficit_.drained();
    if (interrupt_due_ && !stopped_) interrupt();
    return work;
  }

  /// No message is half served, and every source was asked for losses since it last had anything.
  [[nodiscard]] bool quiet() const noexcept {
    return !unsent_ack_ && rings_->to_event.empty() && idle_rounds_ > kLossEvery &&
           !holds_taken(*sources_);
  }

  // For a shard that shares its core among guests (shard.h).
  [[nodiscard]] const void* owner() const noexcept { return rings_; }
  void note_foreign_wait() noexcept { tally(counters_.foreign_waits); }
  /// thread  the control thread
  void set_budget(const Budget& budget) noexcept {
    quantum_.set(std::uint64_t{budget.records} * budget.weight);
  }

  // For a shard that sleeps (shard_sleep.h).
  [[nodiscard]] std::array<int, 2> wake_fds() const noexcept {
    return {source_fd(), rings_->event_bell.fd()};
  }
  void drain_signals(Nanos now) noexcept {
    rings_->event_bell.drain();
    if constexpr (requires { sources_->drain_signals(now); }) sources_->drain_signals(now);
  }
  /// Sources that signal may be left alone, but for an overflow that is owed to the guest, whose
  /// acknowledgement rings no bell.
  [[nodiscard]] Nanos longest_sleep() const noexcept;

  /// For a shard that waits for a write: of the source that had a record last.
  [[nodiscard]] WatchedLine watched() const noexcept {
    if constexpr (requires { sources_->watched_word(last_source_); }) {
      return {sources_->watched_word(last_source_), last_work_};
    } else {
      return {};
    }
  }

  /// The hook stopped it: it is dead, as after a kill.
  [[nodiscard]] bool stopped() const noexcept { return stopped_; }

  /// For the audit's own tests: err from now on. thread: before the first round
  void plant(EventPlant what) noexcept { plant_ = what; }

  [[nodiscard]] const EventDeviceCounters& device_counters(std::size_t i) const noexcept {
    return devices_[i];
  }
  [[nodiscard]] const EventGuestCounters& counters() const noexcept { return counters_; }
  /// From poll to journalled, ns, one sample per burst.
  [[nodiscard]] const Histogram& publish_ns() const noexcept { return publish_ns_; }
  [[nodiscard]] const EventStageCycles& stages() const noexcept { return stages_; }
  [[nodiscard]] const Interrupt& evtq_interrupt() const noexcept { return evtq_interrupt_; }
  [[nodiscard]] const Interrupt& gerror_interrupt() const noexcept { return gerror_interrupt_; }

 private:
  static constexpr Nanos kBeatNs = 1'000'000;
  static constexpr std::size_t kLossEvery = 16;

  bool step(JournalStep at) noexcept {
    if (hook_(at)) [[unlikely]] {
      stopped_ = true;
      return true;
    }
    return false;
  }

  [[nodiscard]] int source_fd() const noexcept;

  /// returns  false: the budget ended it
  bool sweep(std::size_t from, std::size_t to, std::size_t& work) noexcept {
    for (std::size_t i = from; i < to && !stopped_; ++i) {
      if constexpr (kSkipsIdle<Sources>) {
        i = sources_->next_active(i, to);
        if (i == to) break;
      }
      if (deficit_.left() == 0) [[unlikely]] {
        note_cut();
        first_ = i == 0 ? devices_.size() : i - 1;
        return false;
      }
      work += burst(i);
    }
    return true;
  }

  std::size_t burst(std::size_t i) noexcept {
    if constexpr (kPollTakes<Sources>) journal_.set_reading(i + 1);
    timer_.start();
    const std::size_t most = std::min<std::uint64_t>(kBurst, deficit_.left());
    std::size_t n = most == 0 ? 0 : sources_->poll(i, std::span(records_).first(most));
    deficit_.spend(n);
    if (n == most && most < kBurst) [[unlikely]] {
      note_cut();
    }
    SourceLoss loss;
    if (n == 0) [[likely]] {
      if constexpr (kPollTakes<Sources>) clear_reading(holds_taken(*sources_));
      // A loss behind the last record is not urgent: idle sources are asked in turn. One that has
      // records is always asked, and what it lost becomes visible with them, by the same store.
      if ((i + rounds_) % kLossEvery != 0 && !resumes_) [[likely]] {
        return 0;
      }
      loss = sources_->take_loss(i);
      if (loss.exact == 0 && loss.possible == 0) [[likely]] {
        return 0;
      }
    } else {
      loss = sources_->take_loss(i);
    }
    timer_.mark(stages_.poll);
    idle_rounds_ = 0;
    const Nanos polled = clock_();
    last_source_ = i;
    last_work_ = polled;
    if (step(JournalStep::kEventPolled)) return 0;
    const std::size_t taken = n;
    if (plant_ != EventPlant::kNone) [[unlikely]] {
      n = apply_plant(n);
    }
    EventDeviceCounters& counters = devices_[i];
    place(i, n, counters);
    if (loss.exact != 0 || loss.possible != 0) [[unlikely]] {
      counters.add_loss(loss);
      note_loss();
    }
    timer_.mark(stages_.transcode);
    if (step(JournalStep::kEventPlaced)) return 0;
    if (!deliver(static_cast<std::uint32_t>(i), sources_->position(i), taken != 0)) return 0;
    timer_.mark(stages_.commit);
    if (timer_.on()) [[unlikely]] {
      tally(stages_.bursts);
      tally(stages_.records, taken);
    }
    tally(counters_.bursts);
    publish_ns_.record(clock_() - polled);
    return taken + 1;
  }

  /// Nothing taken may be forgotten: the mark stays while the sources hold some of it.
  void clear_reading(bool held) noexcept {
    if (!held) journal_.set_reading(0);
  }

  void place(std::size_t i, std::size_t n, EventDeviceCounters& counters) noexcept {
    if (!evtq_.enabled()) [[unlikely]] {
      tally(counters.discarded, n);
      if constexpr (kAnswersPages<Sources>) refuse_requests(n, counters);
      return;
    }
    const StreamId vsid = setup_.vsids[i];
    std::uint64_t placed = 0;
    for (std::size_t r = 0; r < n; ++r) {
      const FaultRecord& record = records_[r];
      if (record.lost_before != 0) [[unlikely]] {
        counters.add_loss(record);
        note_loss();
      }
      if constexpr (kAnswersPages<Sources>) {
        if (record.form == FaultRecord::Form::kPageRequest) {
          placed += place_request(i, record, counters);
          continue;
        }
      }
      viommu::Event event;
      if (!viommu::transcode(record, vsid, event, transcode_)) [[unlikely]] {
        tally(counters.untranslatable);
        note_loss();
        continue;
      }
      if (!evtq_.place(event)) [[unlikely]] {
        drop(counters);
        continue;
      }
      ++placed;
    }
    tally(counters.delivered, placed);
    if constexpr (kAnswersPages<Sources>) {
      if (requests_.waiting()) requests_.flush();
    }
  }

  /// returns  false: stopped by the hook
  bool deliver(std::uint32_t device, const SourcePosition& position, bool commit) noexcept {
    const bool held = holds_taken(*sources_);
    journal_.begin(device, evtq_.staged_prod(), position, held);
    // From the intent on nothing that it covers can get lost any more.
    if constexpr (kPollTakes<Sources>) clear_reading(held);
    if (step(JournalStep::kEventIntent)) return false;
    const bool overflow = ((evtq_.staged_prod() ^ evtq_.prod()) & viommu::queue::kOverflow) != 0;
    interrupt_due_ |=
        setup_.mode == RegisterMode::kTrapped ? evtq_.publish_trapped() : evtq_.publish_exitless();
    if (overflow) tally(counters_.overflows);
    timer_.mark(stages_.publish);
    if (step(JournalStep::kEventPublished)) return false;
    if (commit && sources_->commit(device) != 0) tally(devices_[device].commit_failed);
    if (step(JournalStep::kEventCommitted)) return false;
    journal_.done();
    return !step(JournalStep::kEventDone);
  }

  void interrupt() noexcept;

  std::size_t serve_messages() noexcept;
  void serve(const ToEventDuty& message) noexcept;
  void enable_evtq(const ToEventDuty& message) noexcept;
  void raise_gerror(std::uint32_t bits, std::uint32_t token) noexcept;
  [[gnu::cold, gnu::noinline]] void drop(EventDeviceCounters& counters) noexcept;
  [[gnu::cold, gnu::noinline]] void note_loss() noexcept;
  [[gnu::cold, gnu::noinline]] void pay_owed_loss() noexcept;
  [[gnu::cold, gnu::noinline]] void note_cut() noexcept;
  void take_irq_control(std::uint32_t control) noexcept;
  void program(const JournalIrq& irq) noexcept;
  std::size_t apply_plant(std::size_t n) noexcept;
  void refuse_requests(std::size_t n, EventDeviceCounters& counters) noexcept;
  std::uint64_t place_request(std::size_t i, const FaultRecord& request,
                              EventDeviceCounters& counters) noexcept;

  Sources* sources_;
  EventDutySetup setup_;
  GuestRings* rings_;
  EventJournal journal_;
  viommu::EventQueue evtq_;
  std::size_t first_ = 0;
  std::size_t rounds_ = 0;
  Limit quantum_;
  Deficit deficit_;              ///< in records; bursts are cut to fit, so nothing is carried over
  bool resumes_ = false;         ///< the budget ended the round before
  std::size_t idle_rounds_ = 0;  ///< since a source had anything
  std::size_t last_source_ = 0;  ///< that had anything
  Nanos last_work_ = 0;          ///< when that was
  std::uint32_t irq_control_ = 0;
  bool interrupt_due_ = false;
  bool gerror_interrupt_due_ = false;  ///< of resume(), told with the other one
  bool loss_owed_ = false;
  bool stopped_ = false;
  bool unsent_ack_ = false;
  EventPlant plant_ = EventPlant::kNone;
  std::uint32_t plant_turn_ = 0;
  ToCommandDuty ack_;
  Nanos last_beat_ = 0;
  Interrupt evtq_interrupt_;
  Interrupt gerror_interrupt_;
  [[no_unique_address]] Hook hook_;
  [[no_unique_address]] Clock clock_;
  viommu::TranscodeCounts transcode_;
  EventGuestCounters counters_;
  EventStageCycles stages_;
  StageTimer timer_;
  Histogram publish_ns_;
  using Requests =
      std::conditional_t<kAnswersPages<Sources>, PageRequests<Sources>, NoPageRequests>;
  Requests make_requests() noexcept {
    if constexpr (kAnswersPages<Sources>) {
      return Requests(*sources_, journal_);
    } else {
      return {};
    }
  }

  std::vector<EventDeviceCounters> devices_;
  [[no_unique_address]] Requests requests_;
  std::array<FaultRecord, kBurst + 1> records_;
};

}  // namespace faultline::engine

#include "engine/event_duty_control.h"
