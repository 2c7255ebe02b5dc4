// SPDX-License-Identifier: BSD-3-Clause
// hot path: page requests of one guest, from the kernel's cookie to the guest's answer.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/event_counters.h"
#include "engine/journal.h"
#include "engine/messages.h"
#include "kernel/record.h"

namespace faultline::engine {

/// What an EventDuty does about page requests. Each group is answered exactly once:
///
///   taken → open in the journal → shown to the guest as a stalled event → answered → closed
///
/// What cannot be shown tries again at once, before the reading mark is cleared. What is open when
/// an engine dies tries again at the next start: the access is repeated, and faults anew if it has
/// to. So the guest's own answer may find nothing open any more; it is then counted and dropped.
///
/// Sources  answers pages (source_traits.h)
/// thread   the owning shard
template <class Sources>
class PageRequests {
 public:
  PageRequests(Sources& sources, EventJournal journal) noexcept
      : sources_(&sources), journal_(journal) {}

  /// A whole group: keep it open until the guest answers.
  /// returns  false: there is no room for it; it is refused as by refuse()
  bool open(std::uint32_t device, const FaultRecord& request,
            EventDeviceCounters& counters) noexcept {
    // A kernel gives a cookie again only when the request that had it is gone: answered by itself,
    // because the device was detached. Its guest's answer must not reach this one.
    for (std::size_t slot = 0; slot < kJournalCookies; ++slot) {
      const JournalCookie open = journal_.request(slot);
      if (open.valid == 0 || open.cookie != request.cookie) continue;
      journal_.close_request(slot);
      tally(counters.pages_void);
    }
    if (!journal_.open_request({1, device, request.cookie, request.group})) {
      refuse(request, true, counters);
      return false;
    }
    tally(counters.page_requests);
    return true;
  }

  /// It cannot be shown to the guest: answered at once.
  void refuse(const FaultRecord& request, bool retry, EventDeviceCounters& counters) noexcept {
    if (waiting_ == now_.size()) flush();
    now_[waiting_++] = {request.cookie, retry};
    tally(retry ? counters.pages_retried : counters.pages_failed);
  }

  /// Whether anything refused is still to be written: before the reading mark is cleared.
  [[nodiscard]] bool waiting() const noexcept { return waiting_ != 0; }
  void flush() noexcept {
    (void)sources_->answer(std::span(now_).first(waiting_));
    waiting_ = 0;
  }

  /// What the guest answered since the last round.
  ///
  /// counters  of all devices
  /// returns   answers of the guest served
  std::size_t serve(GuestRings& rings, std::span<EventDeviceCounters> counters) noexcept {
    std::array<PageAnswer, kJournalCookies> answers;
    std::array<std::uint8_t, kJournalCookies> slots;
    static_assert(kJournalCookies <= 64);
    std::uint64_t taken = 0;  // slots answered in this round; none twice
    std::size_t served = 0;
    std::size_t n = 0;
    PageResponse response;
    while (rings.responses.pop(response)) {
      ++served;
      if (response.device >= counters.size()) continue;
      const std::size_t before = n;
      for (std::size_t slot = 0; slot < kJournalCookies; ++slot) {
        const JournalCookie open = journal_.request(slot);
        if (open.valid == 0 || open.device != response.device || (taken >> slot & 1) != 0) continue;
        if (response.all == 0 && open.group != response.group) continue;
        taken |= std::uint64_t{1} << slot;
        answers[n] = {open.cookie, response.retry != 0};
        slots[n++] = static_cast<std::uint8_t>(slot);
      }
      EventDeviceCounters& device = counters[response.device];
      if (n != before) {
        tally(device.pages_answered, n - before);
      } else if (response.all == 0) {
        tally(device.answers_stale);
      }
    }
    if (n == 0) return served;
    // Written, then closed: what a kill leaves open is answered again, and the kernel refuses that.
    (void)sources_->answer(std::span(answers).first(n));
    for (std::size_t i = 0; i < n; ++i) journal_.close_request(slots[i]);
    return served;
  }

  /// After a restart: everything that an earlier life left open tries again.
  ///
  /// taken    a read of that life never finished: requests may be nowhere but in the kernel
  /// returns  requests let go
  [[gnu::cold, gnu::noinline]] std::size_t resume(bool taken) noexcept {
    std::size_t let_go = 0;
    for (std::size_t slot = 0; slot < kJournalCookies; ++slot) {
      const JournalCookie open = journal_.request(slot);
      if (open.valid == 0) continue;
      const PageAnswer answer{open.cookie, true};
      (void)sources_->answer(std::span(&answer, 1));
      journal_.close_request(slot);
      ++let_go;
    }
    return let_go + (taken ? sources_->answer_taken() : 0);
  }

 private:
  Sources* sources_;
  EventJournal journal_;
  std::size_t waiting_ = 0;
  std::array<PageAnswer, 32> now_;
};

/// For sources without page requests.
struct NoPageRequests {};

}  // namespace faultline::engine
