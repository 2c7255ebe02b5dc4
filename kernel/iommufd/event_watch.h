// SPDX-License-Identifier: BSD-3-Clause
// hot path: which of many event files may have something to read.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernel/base/clock.h"
#include "kernel/base/result.h"
#include "kernel/iommufd/poll_ring.h"
#include "kernel/iommufd/source_stats.h"
#include "kernel/sys.h"

namespace faultline::iommufd {

/// How to learn that an event file has something.
enum class WatchChoice : std::uint8_t {
  kAuto,  ///< the ring where this kernel has one, else reads
  kRing,  ///< one io_uring with a multishot poll of each file; refused where there is none
  kRead,  ///< a non-blocking read of each file in each round
};

/// Watches the event files of one shard's duty. An idle round is one load of the ring's mapped flag
/// word, however many files there are; with reads it is one system call for each.
///
/// A file is ready from when it may have something until empty() says that a read found nothing.
/// What comes after that read is announced again, so nothing is missed; and a backstop has every
/// file read once a period whatever the ring says.
///
/// Sys      one with RingSyscalls can have a ring
/// cost     look(): one load when nothing came; no allocation
/// thread   open() anywhere, everything else by the owning shard only: the ring belongs to the
///          thread of the first look()
template <Syscalls Sys>
class EventWatch {
 public:
  static constexpr Nanos kBackstopNs = 100'000'000;

  /// fds      open as long as this object lives; slot = index
  /// errors   kRing: whatever the kernel refuses, with what to do about it
  static Result<EventWatch> open(Sys& sys, std::vector<int> fds,
                                 WatchChoice choice = WatchChoice::kAuto) {
    EventWatch watch(std::move(fds));
    if (choice == WatchChoice::kRead) {
      watch.reason_ = "asked for";
      return watch;
    }
    auto ring = PollRing<Sys>::open(sys, watch.fds_.size());
    if (ring) {
      watch.ring_ = std::move(*ring);
    } else if (choice == WatchChoice::kRing) {
      return tl::unexpected(std::move(ring.error()));
    } else {
      watch.reason_ = ring.error().message();
    }
    return watch;
  }

  /// What came since the last look. Call it once a round.
  /// returns  files that became ready
  std::size_t look(Nanos now) noexcept {
    if (!ring_) {
      for (std::size_t w = 0; w < ready_.size(); ++w) ready_[w] = all_[w];
      return 0;
    }
    if (now - last_backstop_ >= kBackstopNs) [[unlikely]] {
      backstop(now);
    }
    if (!armed_) [[unlikely]] {
      return arm();
    }
    if (unpolled_) [[unlikely]] {
      for (std::size_t w = 0; w < ready_.size(); ++w) ready_[w] |= broken_[w];
    }
    if (ring_.quiet()) [[likely]] {
      return 0;
    }
    return harvest();
  }

  [[nodiscard]] bool ready(std::size_t slot) const noexcept {
    return (ready_[slot / 64] >> (slot % 64) & 1) != 0;
  }
  /// The first ready slot of [from, to), `to` when there is none.
  [[nodiscard]] std::size_t next_ready(std::size_t from, std::size_t to) const noexcept {
    for (std::size_t w = from / 64; from < to; from = ++w * 64) {
      const std::uint64_t bits = ready_[w] >> (from % 64);
      if (bits != 0) return std::min(to, from + static_cast<std::size_t>(std::countr_zero(bits)));
    }
    return to;
  }

  /// A read of the file found nothing.
  void empty(std::size_t slot) noexcept {
    const std::uint64_t bit = std::uint64_t{1} << (slot % 64);
    ready_[slot / 64] &= ~bit;
    unannounced_[slot / 64] &= ~bit;
  }
  /// A read of the file found something.
  void found(std::size_t slot) noexcept {
    const std::uint64_t bit = std::uint64_t{1} << (slot % 64);
    if ((unannounced_[slot / 64] & bit) == 0) [[likely]] {
      return;
    }
    unannounced_[slot / 64] &= ~bit;
    ++stats_.backstop_finds;
  }

  [[nodiscard]] std::size_t size() const noexcept { return fds_.size(); }
  [[nodiscard]] bool uses_ring() const noexcept { return static_cast<bool>(ring_); }
  /// What the kernel writes when something came; null: there is no ring.
  [[nodiscard]] const std::uint32_t* flag_word() const noexcept {
    return ring_ ? ring_.flag_word() : nullptr;
  }
  /// One line for the operator: how, and why not otherwise.
  [[nodiscard]] std::string describe() const {
    const std::string files = std::to_string(fds_.size()) + (fds_.size() == 1 ? " file" : " files");
    if (uses_ring()) return files + " watched by io_uring, no system call while idle";
    return files + " read in every round (" + reason_ + ")";
  }
  [[nodiscard]] const WatchStats& stats() const noexcept { return stats_; }

 private:
  explicit EventWatch(std::vector<int> fds)
      : fds_(std::move(fds)),
        ready_((fds_.size() + 63) / 64),
        all_(ready_.size()),
        unannounced_(ready_.size()),
        broken_(ready_.size()) {
    for (std::size_t i = 0; i < fds_.size(); ++i) set(all_, i);
  }

  static void set(std::vector<std::uint64_t>& bits, std::size_t slot) noexcept {
    bits[slot / 64] |= std::uint64_t{1} << (slot % 64);
  }

  /// The ring belongs to the thread that does this: it may have been opened by another one.
  [[gnu::cold, gnu::noinline]] std::size_t arm() noexcept {
    armed_ = true;
    if (const int rc = ring_.enable(); rc < 0) return give_up(rc);
    for (std::size_t i = 0; i < fds_.size(); ++i) {
      ring_.arm(fds_[i], i);
      ++stats_.armed;
    }
    return harvest();
  }

  [[gnu::noinline]] std::size_t harvest() noexcept {
    std::size_t became = 0;
    // More than once only after an overflow, or to arm again what the kernel ended.
    for (int turn = 0; turn < kTurns; ++turn) {
      if (ring_.overflowed()) ++stats_.overflows;
      ++stats_.enters;
      if (const int rc = ring_.enter(); rc < 0) return became + give_up(rc);
      PollResult result;
      while (ring_.next(result)) became += take(result);
      if (!ring_.unsubmitted() && !ring_.overflowed()) break;
    }
    return became;
  }

  std::size_t take(const PollResult& result) noexcept {
    ++stats_.completions;
    if (result.slot >= fds_.size()) {
      ++stats_.bad_results;
      return 0;
    }
    const auto slot = static_cast<std::size_t>(result.slot);
    if (result.error < 0) {
      set(broken_, slot);
      set(ready_, slot);
      unpolled_ = true;
      ++stats_.poll_failed;
      return 1;
    }
    if (!result.more) {
      ring_.arm(fds_[slot], slot);
      ++stats_.armed;
      ++stats_.ended;
    }
    const std::size_t became = ready(slot) ? 0 : 1;
    set(ready_, slot);
    unannounced_[slot / 64] &= ~(std::uint64_t{1} << (slot % 64));
    return became;
  }

  [[gnu::cold, gnu::noinline]] std::size_t give_up(int rc) noexcept {
    if (rc == -EAGAIN || rc == -EBUSY || rc == -EINTR) return 0;  // the next round tries again
    ring_.close();
    ++stats_.given_up;
    reason_ = rc == -EEXIST ? "the ring belongs to another thread" : "the ring failed";
    ready_ = all_;
    return fds_.size();
  }

  [[gnu::cold, gnu::noinline]] void backstop(Nanos now) noexcept {
    last_backstop_ = now;
    ++stats_.backstops;
    for (std::size_t w = 0; w < ready_.size(); ++w) {
      unannounced_[w] |= all_[w] & ~ready_[w];
      ready_[w] = all_[w];
    }
  }

  static constexpr int kTurns = 8;

  PollRing<Sys> ring_;
  bool armed_ = false;
  bool unpolled_ = false;
  Nanos last_backstop_ = 0;
  std::vector<int> fds_;
  std::vector<std::uint64_t> ready_;        ///< bit per slot
  std::vector<std::uint64_t> all_;          ///< every slot
  std::vector<std::uint64_t> unannounced_;  ///< ready by the backstop alone
  std::vector<std::uint64_t> broken_;       ///< cannot be polled
  std::string reason_;
  WatchStats stats_;
};

}  // namespace faultline::iommufd
