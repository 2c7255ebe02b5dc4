// SPDX-License-Identifier: BSD-3-Clause
// hot path: waiting for a write to one cache line.
#pragma once

#include <cstdint>

#include "engine/idle.h"
#include "kernel/base/clock.h"
#include "kernel/base/result.h"
#include "kernel/base/shared.h"

namespace faultline::engine {

/// What of this CPU IdlePolicy::kMonitor may use.
struct CpuFeatures {
  bool waitpkg = false;       ///< x86: umonitor and umwait
  bool wfxt = false;          ///< arm64: WFE with a timeout (FEAT_WFxT)
  bool event_stream = false;  ///< arm64: the kernel has the timer end each WFE (HWCAP_EVTSTRM)
};
/// thread  any; control path
[[nodiscard]] CpuFeatures cpu_features() noexcept;

/// Can this CPU rest like that? errors  one line: what is missing, and what to take instead
[[nodiscard]] Result<void> check_idle(IdlePolicy policy, const CpuFeatures& cpu = cpu_features());

/// A line that says by a change that a duty may have work.
struct WatchedLine {
  const std::uint32_t* word = nullptr;  ///< null: there is none
  Nanos last_work = 0;                  ///< when the duty last had work that it announced
};

/// This CPU's own way to wait for a write.
///
/// x86    umwait in C0.1 until the line is written, at most kTicks of the TSC (1 to 2 µs): of a
///        shard with several sources only one is watched, and the others wait no longer for it
/// arm64  WFE: a write by another CPU clears the exclusive monitor that LDXR has set, which is an
///        event. At most 2 µs with FEAT_WFxT, else until the next event of the kernel's event
///        stream, 100 µs
/// else   it only tells the core that it spins
class CpuMonitor {
 public:
  static constexpr std::uint64_t kTicks = 4'096;

  explicit CpuMonitor(CpuFeatures cpu = cpu_features()) noexcept : cpu_(cpu) {}

  /// Watch the line of this word from here on. returns  the word, read afterwards
  [[nodiscard]] std::uint32_t arm(const std::uint32_t& word) const noexcept {
#if defined(__x86_64__)
    if (cpu_.waitpkg) umonitor(&word);
#elif defined(__aarch64__)
    if (cpu_.wfxt || cpu_.event_stream) {
      std::uint32_t value = 0;
      asm volatile("ldxr %w0, %1" : "=r"(value) : "Q"(word) : "memory");
      return value;
    }
#endif
    return load_acquire(word);
  }

  /// Until the line has been written since arm(), or the time is over.
  void wait() const noexcept {
#if defined(__x86_64__)
    if (cpu_.waitpkg) return umwait(cycles() + kTicks);
#elif defined(__aarch64__)
    if (cpu_.wfxt) {
      std::uint64_t hz = 0;
      asm volatile("mrs %0, cntfrq_el0" : "=r"(hz));
      register std::uint64_t until asm("x0") = cycles() + hz / 500'000;
      asm volatile(".inst 0xd5031000" : : "r"(until) : "memory");  // wfet x0
      return;
    }
    if (cpu_.event_stream) {
      asm volatile("wfe" ::: "memory");
      return;
    }
#endif
    cpu_relax();
  }

 private:
#if defined(__x86_64__)
  [[gnu::target("waitpkg"), gnu::noinline]] static void umonitor(const void* at) noexcept {
    _umonitor(const_cast<void*>(at));
  }
  [[gnu::target("waitpkg"), gnu::noinline]] static void umwait(std::uint64_t until) noexcept {
    constexpr unsigned kC01 = 1;  // wakes sooner than C0.2
    _umwait(kC01, until);
  }
#endif

  CpuFeatures cpu_;
};

/// One idle shard's way to wait, by the same order as for a sleep: see what the word is, look (a
/// round), arm, and wait only where the word is still the same. What is written before the first
/// step is found by the look; what is written afterwards changes the word or ends the wait.
///
/// Cpu     CpuMonitor, or a test's
/// thread  the shard
template <class Cpu = CpuMonitor>
class LineWatch {
 public:
  explicit LineWatch(Cpu cpu = Cpu{}) noexcept : cpu_(cpu) {}

  /// Before a round. null: there is nothing to watch, or no time to
  void look(const std::uint32_t* word) noexcept {
    word_ = word;
    // Acquire: the round's own loads come after it.
    if (word != nullptr) seen_ = load_acquire(*word);
  }

  /// After a round without work. `word` is asked for again: the round may have dropped the duty,
  /// and with it the memory.
  void rest(const std::uint32_t* word) noexcept {
    if (word == nullptr || word != word_) return cpu_relax();
    if (cpu_.arm(*word) == seen_) cpu_.wait();
  }

 private:
  Cpu cpu_;
  const std::uint32_t* word_ = nullptr;
  std::uint32_t seen_ = 0;
};

}  // namespace faultline::engine
