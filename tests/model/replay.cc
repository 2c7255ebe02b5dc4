// SPDX-License-Identifier: BSD-3-Clause
// Plays a counterexample of command_queue.pml against the real CommandDuty.
//
// usage: replay PLANTED TRAIL: exit status 0 when it holds with the policy merge, and does not with
// the same error planted.
#include <cstdio>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "engine/merge/merge.h"
#include "engine/merge/planted.h"
#include "tests/engine/command_duty_world.h"
#include "tests/prove/mutants.h"
#include "tests/prove/proof.h"

namespace faultline::prove {
namespace {

namespace w = engine::command_world;

constexpr std::uint64_t kBlock = 0x40'0000'0000;
constexpr std::uint64_t kBlockPages = 512;

/// Every TLB command names a page of its own, every ATC command the whole block in a cache of its
/// own: what is stale in the TLB can fill it again.
std::uint64_t page_of(unsigned command) {
  return kBlock + 0x8000 * std::uint64_t{command};
}
viommu::RawCommand tlb(unsigned command) {
  return w::tlbi_va(page_of(command));
}
viommu::RawCommand atc(unsigned which) {
  const std::uint64_t sid = sid_of(which % kDevices);
  const std::uint64_t ssid = which / kDevices;
  return {{0x40 | 1U << 11U | ssid << 12U | sid << 32U, kBlock | 9}};
}

test::CacheWorld world() {
  std::vector<test::CachedEntry> entries;
  for (unsigned i = 0; i < 12; ++i) {
    test::CachedEntry e;
    e.asid = 1;
    e.addr = page_of(i);
    e.bytes = 0x1000;
    entries.push_back(e);
  }
  for (unsigned i = 0; i < 8; ++i) {
    test::CachedEntry e;
    e.where = test::CachedEntry::Where::kAtc;
    e.sid = sid_of(i % kDevices);
    e.ssid = i / kDevices;
    e.with_ssid = true;
    e.addr = kBlock;
    e.bytes = kBlockPages << 12U;
    entries.push_back(e);
  }
  return {entries, {}};
}

/// Commands are queued when the model's engine fetches them, since the duty takes what is there.
Script read_trail(const std::string& path) {
  Script script;
  std::vector<bool> operation;  // commands fetched and not yet submitted
  std::ifstream in(path);
  unsigned command = 0;
  unsigned atcs = 0;
  Event event;
  const auto push = [&](Event::Kind kind) {
    event.kind = kind;
    event.passes = 1'000'000;  // no linger is as long
    script.push_back(event);
    event = {};
  };
  const auto operations = [&](unsigned commands) {
    std::uint8_t n = 0;
    for (unsigned i = 0; i < commands && i < operation.size(); ++i) n += operation[i] ? 1 : 0;
    return n;
  };
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string what;
    std::string kind;
    words >> what;
    if (what == "fetch") {
      words >> kind;
      event.raw = kind == "tlb" ? tlb(command) : kind == "atc" ? atc(atcs++) : w::sync();
      ++command;
      operation.push_back(kind != "sync");
      push(Event::Kind::kPlace);
    } else if (what == "submit") {
      push(Event::Kind::kRing);
      push(Event::Kind::kRound);
    } else if (what == "fails") {
      unsigned part = 0;
      unsigned count = 0;
      words >> part >> count;
      Event& round = script.back();
      round.fail = true;
      round.executed = operations(part);
      round.reported = operations(count);
    } else if (what == "resync") {
      words >> kind;
      event.fail = kind == "fails";
      push(Event::Kind::kRound);
      operation.clear();
    }
    if (what == "works") operation.clear();
  }
  return script;
}

/// Takes a submission for all that is held.
class LoseRest : public merge::Merge {
 public:
  using Merge::Merge;
  void done(Nanos now) noexcept {
    Merge::done(now);
    clear();
  }
};

struct Planted {
  std::unique_ptr<PolicyBase> policy;
  SinkMistake mistake = SinkMistake::kNone;
};
Planted planted(const std::string& name) {
  if (name == "EARLY_SYNC") {
    return {std::make_unique<Wrapped<merge::EarlySync<merge::BatchUntilSync>>>()};
  }
  if (name == "ACROSS_KINDS") return {std::make_unique<Wrapped<Across<false>>>()};
  if (name == "LOSE_REST") return {std::make_unique<Wrapped<LoseRest>>()};
  if (name == "TRUST_COUNT") {
    return {std::make_unique<Wrapped<merge::Merge>>(), SinkMistake::kResumeAtCount};
  }
  return {};
}

int run(const std::string& name, const std::string& trail) {
  const Script script = read_trail(trail);
  Planted wrong = planted(name);
  if (wrong.policy == nullptr || script.empty()) {
    std::printf("no such planted error, or no trail\n");
    return 2;
  }
  Proof right(std::make_unique<Wrapped<merge::Merge>>(), {});
  const std::string held = right.play(script, world());
  std::printf("merge: %s\n", held.empty() ? "holds" : held.c_str());
  Proof erring(std::move(wrong.policy), {}, wrong.mistake);
  const std::string found = erring.play(script, world());
  std::printf("planted: %s\n", found.empty() ? "HOLDS, too" : found.c_str());
  return held.empty() && !found.empty() ? 0 : 1;
}

}  // namespace
}  // namespace faultline::prove

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: replay PLANTED TRAIL\n");
    return 2;
  }
  return faultline::prove::run(argv[1], argv[2]);
}
