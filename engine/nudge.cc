// SPDX-License-Identifier: BSD-3-Clause
#include "engine/nudge.h"

#include <csignal>

namespace faultline::engine {
namespace {

constexpr int kSignal = SIGUSR2;

}  // namespace

void take_nudges() noexcept {
  struct sigaction action {};
  action.sa_handler = [](int) {};
  sigemptyset(&action.sa_mask);
  sigaction(kSignal, &action, nullptr);
}

void nudge(pthread_t thread) noexcept {
  (void)pthread_kill(thread, kSignal);
}

}  // namespace faultline::engine
