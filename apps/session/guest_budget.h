// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "engine/budget.h"
#include "kernel/base/result.h"

namespace faultline::session {

/// The operator's, where there is none.
inline constexpr engine::Budget kAnyBudget = {.commands = engine::Budget::kMost,
                                              .records = engine::Budget::kMost,
                                              .submissions = engine::Budget::kMost,
                                              .weight = engine::Budget::kMostWeight};

/// The budget that a VMM asks for, as in the method `budget`; what it leaves out is the operator's.
///
/// most     the operator's: a VMM may ask for less, so that no guest takes from its neighbours.
///          kAnyBudget: what was asked, for at_most(), which is what a guest comes with: it has to
///          be served again where it was served, whatever the operator has lowered since
/// errors   code EINVAL and one line
[[nodiscard]] inline Result<engine::Budget> read_budget(const std::string& guest,
                                                        const nlohmann::json& asked,
                                                        const engine::Budget& most) {
  const std::string where = "guest " + guest + ": budget: ";
  if (!asked.is_object()) return fail(EINVAL, where + "it has to be an object");
  engine::Budget out = most;
  const std::pair<const char*, std::uint32_t*> fields[] = {{"commands", &out.commands},
                                                           {"records", &out.records},
                                                           {"submissions", &out.submissions},
                                                           {"weight", &out.weight}};
  std::size_t known = 0;
  for (const auto& [name, value] : fields) {
    const auto at = asked.find(name);
    if (at == asked.end()) continue;
    ++known;
    if (!at->is_number_unsigned() || at->get<std::uint64_t>() == 0 ||
        at->get<std::uint64_t>() > *value) {
      return fail(EINVAL, where + "'" + name + "' has to be a whole number from 1 to " +
                              std::to_string(*value) +
                              (most == kAnyBudget ? "" : ", the operator's"));
    }
    *value = at->get<std::uint32_t>();
  }
  if (known != asked.size()) {
    return fail(EINVAL, where + "its fields are commands, records, submissions and weight");
  }
  return out;
}

/// What is left of a budget that was asked for when the operator's is another one.
[[nodiscard]] inline engine::Budget at_most(const engine::Budget& asked,
                                            const engine::Budget& most) noexcept {
  engine::Budget out;
  out.commands = std::min(asked.commands, most.commands);
  out.records = std::min(asked.records, most.records);
  out.submissions = std::min(asked.submissions, most.submissions);
  out.weight = std::min(asked.weight, most.weight);
  return out;
}

}  // namespace faultline::session
