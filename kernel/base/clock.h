// SPDX-License-Identifier: BSD-3-Clause
// hot path: reading the counter.
#pragma once

#include <chrono>
#include <cstdint>
#include <ctime>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace faultline {

/// Nanoseconds on CLOCK_MONOTONIC: one time line for every process of the machine.
/// Passed into everything that asks what time it is, so that tests own the time.
using Nanos = std::uint64_t;

/// Now, in ns. cost: one vDSO call, about 20–40 ns.
inline Nanos monotonic_ns() noexcept {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<Nanos>(t.tv_sec) * 1'000'000'000U + static_cast<Nanos>(t.tv_nsec);
}

/// The same as an object, for what takes its clock as a parameter.
struct MonotonicClock {
  Nanos operator()() const noexcept { return monotonic_ns(); }
};

/// The raw cycle or system counter: for differences on one machine only.
inline std::uint64_t cycles() noexcept {
#if defined(__x86_64__)
  return __rdtsc();
#elif defined(__aarch64__)
  std::uint64_t v = 0;
  asm volatile("mrs %0, cntvct_el0" : "=r"(v));
  return v;
#else
  return monotonic_ns();
#endif
}

/// Tell the core that this is a spin loop.
inline void cpu_relax() noexcept {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");
#endif
}

}  // namespace faultline
