// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <cstdio>

#include "tests/prove/rules.h"

namespace faultline::prove {
namespace {

constexpr std::size_t kScript = 2'000;
constexpr std::uint64_t kScriptsPerGuest = 64;

std::string retry(const Rule& rule, const test::CacheWorld& world, const Script& script) {
  Proof proof(rule.make(), rule.setting, rule.mistake);
  return proof.play(script, world);
}

void add(Tally& to, const Tally& t) {
  to.commands += t.commands;
  to.syncs += t.syncs;
  to.submissions += t.submissions;
  to.operations += t.operations;
  to.failures += t.failures;
  to.errors += t.errors;
}

}  // namespace

void shrink(const Rule& rule, const test::CacheWorld& world, Counterexample& found) {
  std::string wrong = retry(rule, world, found.script);
  if (wrong.empty()) return;  // it needs what came before this script: the seed has to do
  found.wrong = wrong;
  for (std::size_t chunk = found.script.size() / 2; chunk != 0; chunk /= 2) {
    for (std::size_t begin = 0; begin < found.script.size();) {
      Script shorter = found.script;
      const auto first = shorter.begin() + static_cast<std::ptrdiff_t>(begin);
      shorter.erase(first,
                    first + static_cast<std::ptrdiff_t>(std::min(chunk, shorter.size() - begin)));
      wrong = retry(rule, world, shorter);
      if (wrong.empty()) {
        begin += chunk;
      } else {
        found.script = std::move(shorter);
        found.wrong = wrong;
      }
    }
  }
}

std::string trace_of(const Rule& rule, const Counterexample& found) {
  std::string text = rule.name + ", seed " + std::to_string(found.seed) + ", " +
                     std::to_string(found.script.size()) + " of " + std::to_string(found.events) +
                     " events:\n";
  std::size_t position = 0;
  for (const Event& event : found.script) {
    const bool command = event.kind == Event::Kind::kPlace;
    text += command ? "  " + std::to_string(position++) + "  " : "     ";
    text += to_text(event, features_of(rule.setting)) + "\n";
  }
  return text + "  " + found.wrong + "\n";
}

bool prove(const Rule& rule, std::uint64_t commands, std::uint64_t seed, Tally& tally,
           Counterexample& found) {
  for (std::uint64_t proved = 0; proved < commands;) {
    Proof proof(rule.make(), rule.setting, rule.mistake);
    for (std::uint64_t n = 0; n < kScriptsPerGuest && proof.tally().commands + proved < commands;
         ++n, ++seed) {
      const std::uint64_t left = commands - proved - proof.tally().commands;
      const test::CacheWorld world = make_world(seed, rule.setting);
      make_script(seed, rule.setting, std::min<std::uint64_t>(kScript, left), seed % 2 == 0,
                  found.script);
      found.wrong = proof.play(found.script, world);
      if (found.wrong.empty()) continue;
      add(tally, proof.tally());
      found.seed = seed;
      found.events = found.script.size();
      shrink(rule, world, found);
      return false;
    }
    proved += proof.tally().commands;
    add(tally, proof.tally());
  }
  return true;
}

}  // namespace faultline::prove
