// SPDX-License-Identifier: BSD-3-Clause
// Proves every policy on random command sequences, on all cores.
#include <atomic>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/prove/rules.h"

namespace faultline::prove {
namespace {

constexpr std::uint64_t kPart = 2'000'000;  // commands that one thread takes at once

struct Options {
  std::uint64_t commands = 10'000'000;
  std::uint64_t seed = 1;
  unsigned threads = std::max(1U, std::thread::hardware_concurrency());
};

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; i += 2) {
    if (i + 1 == argc) return false;
    char* end = nullptr;
    const double value = std::strtod(argv[i + 1], &end);
    if (*end != '\0' || !(value >= 1) || value > 1e15) return false;
    const auto number = static_cast<std::uint64_t>(value);
    if (std::strcmp(argv[i], "--commands") == 0) {
      options.commands = number;
    } else if (std::strcmp(argv[i], "--seed") == 0) {
      options.seed = number;
    } else if (std::strcmp(argv[i], "--threads") == 0 && number <= 1024) {
      options.threads = static_cast<unsigned>(number);
    } else {
      return false;
    }
  }
  return true;
}

int run(const Options& options) {
  const std::vector<Rule>& rules = policies();
  const std::uint64_t each = (options.commands + rules.size() - 1) / rules.size();
  const std::uint64_t part = std::min(kPart, each);
  const std::uint64_t parts = (each + part - 1) / part;
  std::atomic<std::uint64_t> next{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  std::vector<Tally> tallies(rules.size());
  const auto begin = std::chrono::steady_clock::now();
  const auto work = [&] {
    for (;;) {
      const std::uint64_t job = next.fetch_add(1);
      if (job >= parts * rules.size() || failed) return;
      const std::size_t rule = job % rules.size();
      const std::uint64_t which = job / rules.size();
      Tally tally;
      Counterexample found;
      // Seeds of parts lie far apart.
      const std::uint64_t seed = options.seed + which * kPart + rule * 1'000'003;
      const bool held = prove(rules[rule], std::min(part, each - which * part), seed, tally, found);
      const std::lock_guard lock(mutex);
      Tally& to = tallies[rule];
      to.commands += tally.commands;
      to.syncs += tally.syncs;
      to.submissions += tally.submissions;
      to.operations += tally.operations;
      to.failures += tally.failures;
      to.errors += tally.errors;
      if (held) continue;
      failed = true;
      std::printf("FAILED: %s\n", trace_of(rules[rule], found).c_str());
    }
  };
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < options.threads; ++i) threads.emplace_back(work);
  for (std::thread& t : threads) t.join();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::uint64_t commands = 0;
  std::printf("%-26s %12s %12s %12s %12s %10s %8s\n", "policy", "commands", "SYNCs", "submissions",
              "operations", "failures", "errors");
  for (std::size_t i = 0; i < rules.size(); ++i) {
    const Tally& t = tallies[i];
    commands += t.commands;
    std::printf("%-26s %12" PRIu64 " %12" PRIu64 " %12" PRIu64 " %12" PRIu64 " %10" PRIu64
                " %8" PRIu64 "\n",
                rules[i].name.c_str(), t.commands, t.syncs, t.submissions, t.operations, t.failures,
                t.errors);
  }
  std::printf("%s %" PRIu64 " commands in %.1f s, %.0f a second on %u threads, seed %" PRIu64 "\n",
              failed ? "stopped after" : "proved", commands, seconds,
              static_cast<double>(commands) / seconds, options.threads, options.seed);
  return failed ? 1 : 0;
}

}  // namespace
}  // namespace faultline::prove

int main(int argc, char** argv) {
  faultline::prove::Options options;
  if (!faultline::prove::parse(argc, argv, options)) {
    std::fprintf(stderr, "usage: prove_merge [--commands N] [--seed S] [--threads T]\n");
    return 2;
  }
  return faultline::prove::run(options);
}
