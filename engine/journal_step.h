// SPDX-License-Identifier: BSD-3-Clause
// hot path: the named points between two writes at which a kill must do no harm.
#pragma once

#include <concepts>
#include <csignal>
#include <cstdint>
#include <optional>
#include <string_view>

namespace faultline::engine {

/// Every point at which the state outside the engine (guest memory, kernel, journal) has just
/// changed and the next change is still to come. Tests stop or kill the engine at each.
enum class JournalStep : std::uint8_t {
  // EventDuty, one burst
  kEventPolled,     ///< records decoded, nothing given back, nothing visible
  kEventPlaced,     ///< events in the guest's slots, PROD still below them
  kEventIntent,     ///< intent valid
  kEventPublished,  ///< PROD moved
  kEventCommitted,  ///< the kernel's consumer index moved
  kEventDone,       ///< journal says so
  kEventInterrupted,
  // EventDuty, on CommandDuty's demand
  kEvtqJournalled,    ///< event queue switched on or off, not acknowledged
  kIrqJournalled,     ///< IRQ_CTRL latched, not acknowledged
  kGerrorJournalled,  ///< GERROR toggled in the journal, not in the page
  kGerrorPublished,   ///< and in the page, not acknowledged
  // CommandDuty
  kRegistersJournalled,  ///< guest's registers latched, not acknowledged in the page
  kCommandsFetched,      ///< commands copied, nothing submitted
  kCommandsSubmitted,    ///< all took effect, CONS still before them
  kConsJournalled,       ///< CONS in the journal, not in the page
  kConsPublished,
  kSyncJournalled,     ///< state 1: the MSI is still to be written
  kSyncMsiWritten,     ///< MSI word in guest memory, state still 1
  kSyncMsiJournalled,  ///< state 2: CONS is still to be published
  kSyncConsPublished,  ///< CONS in the page, state still 2
  kSyncDone,           ///< state 0
  kErrorJournalled,    ///< a command error with its token, CONS.ERR not in the page
  kErrorPublished,     ///< CONS.ERR in the page, GERROR not asked for
  kAttachMarked,       ///< stage-1 change announced, not begun
  kAttachDone,         ///< the kernel has the new stage 1, the journal the old one
  kAttachJournalled,   ///< the journal has it too; the command is not yet consumed
};
inline constexpr unsigned kJournalSteps = static_cast<unsigned>(JournalStep::kAttachJournalled) + 1;

/// The step's name as a chaos run reports it, such as "event-intent".
[[nodiscard]] std::string_view step_name(JournalStep step) noexcept;
[[nodiscard]] std::optional<JournalStep> step_from_name(std::string_view name) noexcept;

/// A StepHook is called with every step; true: drop what you are doing and leave the round (the
/// duty object is thrown away afterwards, as a kill would).
template <class H>
concept StepHook = requires(H& h, JournalStep step) {
  { h(step) }
  noexcept->std::same_as<bool>;
};

/// Production: compiles to nothing.
struct NoHook {
  constexpr bool operator()(JournalStep) const noexcept { return false; }
};

/// Chaos runs: kill this process, without any clean-up, at the `count`th passing of a step.
/// thread   one object per duty
struct KillAtStep {
  static constexpr std::uint8_t kNever = 0xff;

  std::uint8_t step = kNever;
  std::uint32_t count = 1;

  KillAtStep() = default;
  KillAtStep(JournalStep at, std::uint32_t nth) noexcept
      : step(static_cast<std::uint8_t>(at)), count(nth) {}

  bool operator()(JournalStep at) noexcept {
    if (static_cast<std::uint8_t>(at) == step && --count == 0) raise(SIGKILL);
    return false;
  }
};

static_assert(StepHook<NoHook> && StepHook<KillAtStep>);

}  // namespace faultline::engine
