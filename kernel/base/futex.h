// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <cstdint>
#include <ctime>

#include "kernel/base/clock.h"

namespace faultline {

/// Sleep while `word` holds `expected`, at most timeout_ns. Works between processes that map the
/// same page. Returns early for no reason at times: the caller looks again at what it waits for.
inline void futex_wait(std::uint32_t& word, std::uint32_t expected, Nanos timeout_ns) noexcept {
  timespec t{};
  t.tv_sec = static_cast<std::time_t>(timeout_ns / 1'000'000'000U);
  t.tv_nsec = static_cast<long>(timeout_ns % 1'000'000'000U);
  syscall(SYS_futex, &word, FUTEX_WAIT, expected, &t, nullptr, 0);
}

/// Wake everybody who sleeps on `word`. cost: one system call.
inline void futex_wake(std::uint32_t& word) noexcept {
  syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace faultline
