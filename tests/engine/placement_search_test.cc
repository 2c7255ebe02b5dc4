// SPDX-License-Identifier: BSD-3-Clause
// The search against every assignment there is, under a cost written here a second time.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <random>

#include "engine/placement_cost.h"

namespace faultline::engine::placement {
namespace {

/// The documented cost (doc/operation.md), added up from what one sees of an assignment.
long documented_cost(const Problem& problem, const Assignment& at) {
  long cost = 0;
  for (std::size_t c = 0; c < problem.cores.size(); ++c) {
    std::vector<const Duty*> here;
    for (std::size_t d = 0; d < at.size(); ++d) {
      if (at[d] == c) here.push_back(&problem.duties[d]);
    }
    if (here.empty()) continue;
    cost += problem.cores[c].open;
    for (std::size_t i = 0; i < here.size(); ++i) {
      const bool outside = !here[i]->l3s.empty() && !here[i]->l3s.contains(problem.cores[c].cpu.l3);
      if (outside) cost += 30 * here[i]->load;
      for (std::size_t j = 0; j < i; ++j) {
        cost += 100 * here[i]->load * here[j]->load;
        if (here[i]->guest == here[j]->guest) cost += 150;
      }
    }
  }
  return cost;
}

bool documented_limits(const Problem& problem, const Assignment& at) {
  std::size_t used = 0;
  bool shared_left = false;
  for (std::size_t c = 0; c < problem.cores.size(); ++c) {
    const bool polls = std::ranges::find(at, c) != at.end();
    used += polls ? 1 : 0;
    if (!polls && !problem.cores[c].cpu.isolated) shared_left = true;
  }
  return used <= problem.most_cores && (shared_left || !problem.keep_a_shared_core);
}

long exhaustive(const Problem& problem) {
  Assignment at(problem.duties.size(), 0);
  long best = std::numeric_limits<long>::max();
  for (;;) {
    if (documented_limits(problem, at)) best = std::min(best, documented_cost(problem, at));
    std::size_t digit = 0;
    while (digit < at.size() && ++at[digit] == problem.cores.size()) at[digit++] = 0;
    if (digit == at.size()) return best;
  }
}

Problem random_problem(std::mt19937& random, unsigned most_cores, unsigned most_guests) {
  Problem p;
  const unsigned cores = 2 + random() % (most_cores - 1);
  for (unsigned c = 0; c < cores; ++c) {
    const bool isolated = random() % 2 == 0;
    const long vcpus = random() % 4 == 0 ? static_cast<long>(1 + random() % 2) : 0;
    const long on_sibling = random() % 4 == 0 ? 1 : 0;
    p.cores.push_back(
        {{.index = c, .core = c, .l3 = static_cast<unsigned>(random() % 3), .isolated = isolated},
         1000 * vcpus + 300 * on_sibling + (isolated ? 0 : 80)});
  }
  std::ranges::stable_sort(p.cores, {}, &Core::open);
  for (unsigned g = 1 + random() % most_guests; g > 0; --g) {
    std::set<unsigned> l3s;
    for (unsigned l = random() % 3; l > 0; --l) l3s.insert(random() % 3);
    p.duties.push_back({g, static_cast<long>(1 + (random() % 3 == 0 ? random() % 5 : 0)), l3s});
    p.duties.push_back({g, static_cast<long>(1 + (random() % 3 == 0 ? random() % 5 : 0)), l3s});
  }
  p.most_cores = 1 + random() % (cores - 1);
  p.keep_a_shared_core = random() % 4 != 0 && std::ranges::any_of(p.cores, [](const Core& c) {
                           return !c.cpu.isolated;
                         });
  return p;
}

TEST(PlacementSearch, CostsWhatTheDocumentSays) {
  std::mt19937 random(21);
  for (int round = 0; round < 2000; ++round) {
    const Problem p = random_problem(random, 8, 3);
    Assignment at;
    for (std::size_t d = 0; d < p.duties.size(); ++d) at.push_back(random() % p.cores.size());
    ASSERT_EQ(cost_of(p, at), documented_cost(p, at)) << "round " << round;
    ASSERT_EQ(allowed(p, at), documented_limits(p, at)) << "round " << round;
  }
}

TEST(PlacementSearch, FindsWhatExhaustiveSearchFinds) {
  std::mt19937 random(22);
  for (int round = 0; round < 400; ++round) {
    const Problem p = random_problem(random, round < 380 ? 5 : 8, 3);
    const Assignment found = search(p);
    ASSERT_EQ(found.size(), p.duties.size());
    ASSERT_TRUE(documented_limits(p, found)) << "round " << round;
    EXPECT_EQ(documented_cost(p, found), exhaustive(p)) << "seed 22, round " << round;
  }
}

}  // namespace
}  // namespace faultline::engine::placement
