// SPDX-License-Identifier: BSD-3-Clause
// hot path: all that one polling core owns.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "engine/budget.h"
#include "engine/duty.h"
#include "engine/monitor.h"
#include "engine/offers.h"
#include "engine/ring.h"
#include "engine/sleeper.h"
#include "kernel/base/clock.h"
#include "kernel/base/shared.h"
#include "kernel/base/units.h"

namespace faultline::engine {

/// What the control thread tells a shard.
struct ShardMessage {
  enum class Kind : std::uint32_t { kAdd, kRemove, kStop };
  Kind kind = Kind::kStop;
  std::uint32_t type = 0;   ///< index of the duty's type in Shard<Duties...>
  std::uint64_t duty = 0;   ///< its address
  std::uint64_t token = 0;  ///< comes back when the message took effect
};

/// Written by the shard alone, read by anybody with load_relaxed().
struct alignas(kCacheLine) ShardCounters {
  std::uint64_t rounds = 0;
  std::uint64_t busy_rounds = 0;
  std::uint64_t work = 0;
  std::uint64_t busy_cycles = 0;
  std::uint64_t idle_cycles = 0;
  std::uint64_t submissions = 0;  ///< rounds that made one
  std::uint64_t beat = 0;         ///< `now` of the last round
  std::uint64_t sleeps = 0;
  std::uint64_t slept_ns = 0;
};

/// The duties of one polling core, by type: the loop over them is monomorphic, nothing in it is
/// shared with another core.
///
/// A guest waits for at most one foreign submission per round: the sweep over the submitting duties
/// ends behind one that made a submission, the others are served, and the next round goes on behind
/// that guest (or with it, while its budget gives it another submission). With N guests of one
/// submission each, everybody's turn comes within N rounds.
///
/// thread  round() and what it calls: the owning core. post(), withdraw(), take_ack(), watch(),
/// unwatch(): one
///         control thread. add() and remove() directly: only while no core runs the shard
template <Duty... Duties>
class Shard {
 public:
  static constexpr std::size_t kTypes = sizeof...(Duties);

  /// capacity   duties of each type that the shard can hold; add() never allocates
  explicit Shard(std::size_t capacity = 1024) {
    std::apply([&](auto&... list) { (list.reserve(capacity), ...); }, duties_);
  }

  template <Duty D>
  [[nodiscard]] static constexpr std::uint32_t type_of() noexcept {
    std::uint32_t index = 0;
    const bool found = ((std::same_as<D, Duties> || (++index, false)) || ...);
    static_assert((std::same_as<D, Duties> || ...), "this shard has no duties of that type");
    return found ? index : 0;
  }

  /// returns  false when there is no room
  template <Duty D>
  bool add(D& duty) noexcept {
    auto& list = std::get<std::vector<D*>>(duties_);
    if (list.size() == list.capacity()) return false;
    if constexpr (SubmittingDuty<D>) {
      if (base_of<D>() + list.size() < next_) ++next_;
    }
    list.push_back(&duty);
    return true;
  }

  template <Duty D>
  bool remove(D& duty) noexcept {
    auto& list = std::get<std::vector<D*>>(duties_);
    const auto at = std::find(list.begin(), list.end(), &duty);
    if (at == list.end()) return false;
    if constexpr (SubmittingDuty<D>) {
      if (base_of<D>() + static_cast<std::size_t>(at - list.begin()) < next_) --next_;
    }
    list.erase(at);
    return true;
  }

  /// One round of every duty, after what the control thread said.
  /// returns  the work done
  std::size_t round(Nanos now) noexcept {
    std::size_t work = control();
    std::apply([&](auto&... list) { ((work += rounds(list, now)), ...); }, duties_);
    if constexpr ((SubmittingDuty<Duties> || ...)) work += sweep(now);
    store_relaxed(counters_.rounds, counters_.rounds + 1);
    store_relaxed(counters_.beat, now);
    return work;
  }

  /// Every duty in every round, however many submissions that makes: what a test or a benchmark
  /// compares the rule with. Before the first round.
  void waive_submission_rule() noexcept { one_submission_ = false; }

  /// Book the cycles of one round; run_loop measures them.
  void account(std::size_t work, std::uint64_t cycles) noexcept {
    if (work != 0) {
      store_relaxed(counters_.busy_rounds, counters_.busy_rounds + 1);
      store_relaxed(counters_.work, counters_.work + work);
      store_relaxed(counters_.busy_cycles, counters_.busy_cycles + cycles);
    } else {
      store_relaxed(counters_.idle_cycles, counters_.idle_cycles + cycles);
    }
  }

  [[nodiscard]] bool stopping() const noexcept { return stopping_; }

  /// Its loop has returned. Release: all that the shard did; pairs with the acquire in ended().
  void end() noexcept { store_release(ended_, std::uint32_t{1}); }
  /// thread  any
  [[nodiscard]] bool ended() const noexcept { return load_acquire(ended_) != 0; }

  /// Nothing is in flight in any duty.
  [[nodiscard]] bool quiet() const noexcept {
    return std::apply([](const auto&... list) { return (all_quiet(list) && ...); }, duties_);
  }

  /// returns  false when the ring is full: try again
  bool post(const ShardMessage& message) noexcept {
    offers_.offer(message.token);
    const bool pushed = to_shard_.push(message);
    if (pushed) offers_.offered();
    if (sleeper_) sleeper_->wake();
    return pushed;
  }

  /// Take back a message that the shard has not begun to serve: it never takes effect, and nothing
  /// that it names is touched. Whoever gives up on a shard has to, before it frees what it offered.
  /// returns  false: it takes effect; the acknowledgement is there or about to come
  bool withdraw(std::uint64_t token) noexcept { return offers_.withdraw(token); }

  // For a shard that sleeps; shard_sleep.h says in which order.

  /// Let a duty's descriptors wake the shard: before the duty is added, by whoever adds it, since
  /// that takes system calls. returns  false: the kernel refused; nothing is watched
  template <Duty D>
  bool watch(D& duty) noexcept {
    if constexpr (requires { duty.wake_fds(); }) {
      for (const int fd : duty.wake_fds()) {
        if (!sleeper_ || sleeper_->watch(fd)) continue;
        unwatch(duty);
        return false;
      }
    }
    return true;
  }
  /// After it was removed.
  template <Duty D>
  void unwatch(D& duty) noexcept {
    if constexpr (requires { duty.wake_fds(); }) {
      if (!sleeper_) return;
      for (const int fd : duty.wake_fds()) sleeper_->unwatch(fd);
    }
  }

  /// Before its first duty.
  void sleep_on(std::unique_ptr<Sleeper> sleeper) noexcept { sleeper_ = std::move(sleeper); }
  [[nodiscard]] Sleeper* sleeper() noexcept { return sleeper_.get(); }

  void drain_signals(Nanos now) noexcept {
    for_each([&](auto& duty) {
      if constexpr (requires { duty.drain_signals(now); }) duty.drain_signals(now);
    });
  }

  /// ns; 0: some duty has to be polled all the time.
  [[nodiscard]] Nanos longest_sleep() noexcept {
    Nanos least = ~Nanos{0};
    for_each([&](auto& duty) {
      if constexpr (requires { duty.longest_sleep(); }) {
        least = std::min(least, duty.longest_sleep());
      } else {
        least = 0;
      }
    });
    return least;
  }

  /// The line of the duty that had work last; null: no duty has one.
  [[nodiscard]] const std::uint32_t* watched_word() noexcept {
    WatchedLine best;
    for_each([&](auto& duty) {
      if constexpr (requires { duty.watched(); }) {
        const WatchedLine line = duty.watched();
        if (line.word == nullptr) return;
        if (best.word == nullptr || line.last_work > best.last_work) best = line;
      }
    });
    return best.word;
  }

  void account_sleep(Nanos length) noexcept {
    store_relaxed(counters_.sleeps, counters_.sleeps + 1);
    store_relaxed(counters_.slept_ns, counters_.slept_ns + length);
  }

  /// returns  false when nothing new took effect; else `token` of the oldest such message, and
  ///          `accepted`: false where it could not be done (no room, no such duty)
  bool take_ack(std::uint64_t& token, bool& accepted) noexcept {
    Ack ack;
    if (!from_shard_.pop(ack)) return false;
    token = ack.token;
    accepted = ack.accepted != 0;
    return true;
  }

  [[nodiscard]] const ShardCounters& counters() const noexcept { return counters_; }

 private:
  struct Ack {
    std::uint64_t token = 0;
    std::uint64_t accepted = 0;
  };
  static constexpr unsigned kRing = 64;

  template <class D>
  std::size_t rounds(std::vector<D*>& list, Nanos now) noexcept {
    std::size_t work = 0;
    if constexpr (!SubmittingDuty<D>) {
      for (D* duty : list) {
        const std::size_t done = duty->round(now);
        if (done != 0) note_wait(*duty, submitter_);
        work += done;
      }
    }
    return work;
  }

  template <class D>
  static void note_wait(D& duty, const void* submitter) noexcept {
    if constexpr (requires { duty.note_foreign_wait(); }) {
      if (submitter != nullptr && submitter != duty.owner()) duty.note_foreign_wait();
    }
  }

  /// The submitting duties, numbered through all types: from next_ on and round to it again.
  /// A round that ended early counts as busy: it did not find that nothing is to do.
  std::size_t sweep(Nanos now) noexcept {
    const void* const before = std::exchange(submitter_, nullptr);
    const std::size_t from = next_;
    std::size_t work = 0;
    bool go_on = sweep(from, ~std::size_t{0}, before, now, work);
    if (go_on && from != 0) go_on = sweep(0, from, before, now, work);
    if (go_on) next_ = 0;
    if (submitter_ != nullptr) store_relaxed(counters_.submissions, counters_.submissions + 1);
    return work;
  }

  /// returns  false: the rule ended it
  bool sweep(std::size_t from, std::size_t to, const void* before, Nanos now,
             std::size_t& work) noexcept {
    std::size_t base = 0;
    return std::apply(
        [&](auto&... list) { return (part(list, base, from, to, before, now, work) && ...); },
        duties_);
  }

  template <class D>
  bool part(std::vector<D*>& list, std::size_t& base, std::size_t from, std::size_t to,
            const void* before, Nanos now, std::size_t& work) noexcept {
    if constexpr (SubmittingDuty<D>) {
      const std::size_t end = std::min(base + list.size(), to);
      for (std::size_t i = std::max(from, base); i < end; ++i) {
        D& duty = *list[i - base];
        const std::size_t done = duty.round(now);
        work += done;
        if (done != 0) note_wait(duty, before);
        const Submitted submitted = duty.take_submitted();
        if (submitted == Submitted::kNone) [[likely]] {
          continue;
        }
        ++work;
        submitter_ = duty.owner();
        if (!one_submission_) continue;
        next_ = submitted == Submitted::kOver ? i + 1 : i;
        return false;
      }
      base += list.size();
    }
    return true;
  }

  /// Number of the first submitting duty of this type.
  template <class D>
  [[nodiscard]] std::size_t base_of() const noexcept {
    std::size_t base = 0;
    bool before = true;
    const auto count = [&]<class E>(const std::vector<E*>& list) {
      before = before && !std::same_as<D, E>;
      if (before && SubmittingDuty<E>) base += list.size();
    };
    std::apply([&](const auto&... list) { (count(list), ...); }, duties_);
    return base;
  }

  template <class D>
  static bool all_quiet(const std::vector<D*>& list) noexcept {
    if constexpr (requires(const D& d) {
                    { d.quiet() }
                    noexcept->std::same_as<bool>;
                  }) {
      return std::all_of(list.begin(), list.end(), [](const D* d) { return d->quiet(); });
    } else {
      return true;
    }
  }

  template <class F>
  void for_each(F&& f) noexcept {
    std::apply(
        [&](auto&... list) { (std::ranges::for_each(list, [&](auto* duty) { f(*duty); }), ...); },
        duties_);
  }

  std::size_t control() noexcept {
    if (to_shard_.empty()) [[likely]] {
      return 0;
    }
    return serve_control();
  }

  [[gnu::cold, gnu::noinline]] std::size_t serve_control() noexcept {
    std::size_t served = 0;
    ShardMessage message;
    while (to_shard_.pop(message)) {
      if (!offers_.take()) continue;
      const bool done = serve(message, std::index_sequence_for<Duties...>{});
      from_shard_.push(Ack{message.token, done ? 1U : 0U});
      ++served;
    }
    return served;
  }

  template <std::size_t... I>
  bool serve(const ShardMessage& message, std::index_sequence<I...>) noexcept {
    if (message.kind == ShardMessage::Kind::kStop) {
      stopping_ = true;
      return true;
    }
    bool done = false;
    ((message.type == I ? (done = change<std::tuple_element_t<I, std::tuple<Duties...>>>(message))
                        : false),
     ...);
    return done;
  }

  template <class D>
  bool change(const ShardMessage& message) noexcept {
    D& duty = *reinterpret_cast<D*>(static_cast<std::uintptr_t>(message.duty));
    return message.kind == ShardMessage::Kind::kAdd ? add(duty) : remove(duty);
  }

  std::tuple<std::vector<Duties*>...> duties_;
  SpscRing<ShardMessage> to_shard_{kRing};
  SpscRing<Ack> from_shard_{kRing};
  Offers<std::size_t{2} * kRing> offers_;
  ShardCounters counters_;
  std::size_t next_ = 0;             ///< the submitting duty that the next round begins with
  const void* submitter_ = nullptr;  ///< owner of the last submission of the round before
  bool one_submission_ = true;
  bool stopping_ = false;
  std::uint32_t ended_ = 0;
  std::unique_ptr<Sleeper> sleeper_;  ///< null: it never sleeps
};

}  // namespace faultline::engine
