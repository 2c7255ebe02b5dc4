// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include "engine/journal_step.h"

namespace faultline::engine {

/// A StepHook behind a function pointer, for the rare paths of a duty, and its memory: once the
/// hook said "leave", nothing may be changed any more.
///
/// thread  the duty's
class StepCall {
 public:
  StepCall() = default;

  template <StepHook Hook>
  explicit StepCall(Hook& hook) noexcept
      : hook_(&hook),
        call_([](void* at, JournalStep step) noexcept { return (*static_cast<Hook*>(at))(step); }) {
  }

  /// returns  true: leave the round at once, change nothing
  bool operator()(JournalStep step) noexcept {
    if (!stopped_ && call_ != nullptr) stopped_ = call_(hook_, step);
    return stopped_;
  }
  [[nodiscard]] bool stopped() const noexcept { return stopped_; }

 private:
  void* hook_ = nullptr;
  bool (*call_)(void*, JournalStep) noexcept = nullptr;
  bool stopped_ = false;
};

}  // namespace faultline::engine
