// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tests/prove/proof.h"

namespace faultline::prove {

/// A policy as it is proved, or a mutant of one.
struct Rule {
  std::string name;
  Setting setting;
  SinkMistake mistake = SinkMistake::kNone;
  std::unique_ptr<PolicyBase> (*make)() = nullptr;
};

/// Every policy, merge with each of its options.
const std::vector<Rule>& policies();
/// Each makes one mistake.
const std::vector<Rule>& mutants();

/// A script that a rule fails on, as short as dropping events makes it.
struct Counterexample {
  std::uint64_t seed = 0;
  std::size_t events = 0;  ///< before shrinking
  Script script;
  std::string wrong;
};
/// Drop events while it still fails. Each try is on a new guest.
void shrink(const Rule& rule, const test::CacheWorld& world, Counterexample& found);
/// A rule's name, the seed, the events line by line, and what is wrong at their end.
std::string trace_of(const Rule& rule, const Counterexample& found);

/// Play random scripts under a rule until `commands` commands were proved.
///
/// seed     of the first script; the others count up from it
/// found    filled, and shrunk, when the rule fails
/// returns  whether it held
bool prove(const Rule& rule, std::uint64_t commands, std::uint64_t seed, Tally& tally,
           Counterexample& found);

}  // namespace faultline::prove
