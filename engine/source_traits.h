// SPDX-License-Identifier: BSD-3-Clause
// hot path: which of the optional parts of a FaultSourceSet a type has (kernel/backend.h).
#pragma once

#include <concepts>
#include <cstddef>
#include <span>

#include "kernel/record.h"

namespace faultline::engine {

/// A source whose poll() takes records from the kernel for good (a read(2)) says so by
/// `static constexpr bool kPollTakes = true`; then the journal carries a reading mark.
template <class S>
inline constexpr bool kPollTakes = false;
template <class S>
requires requires {
  S::kPollTakes;
}
inline constexpr bool kPollTakes<S> = S::kPollTakes;

/// A source that can tell which of its devices are idle without polling them.
template <class S>
inline constexpr bool kSkipsIdle = requires(S& s, std::size_t i) {
  { s.next_active(i, i) }
  noexcept->std::same_as<std::size_t>;
};

/// A source whose page requests can be answered.
template <class S>
inline constexpr bool kAnswersPages = requires(S& s, std::span<const PageAnswer> answers) {
  { s.answer(answers) }
  noexcept->std::same_as<std::size_t>;
  { s.answer_taken() }
  noexcept->std::same_as<std::size_t>;
};

/// Whether the source has taken something from its kernel that nobody has seen.
template <class S>
[[nodiscard]] inline bool holds_taken(S& sources) noexcept {
  if constexpr (requires { sources.holds(); }) {
    return sources.holds();
  } else {
    return false;
  }
}

}  // namespace faultline::engine
