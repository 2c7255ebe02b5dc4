// SPDX-License-Identifier: BSD-3-Clause
#include "engine/placement_reasons.h"

#include <algorithm>

namespace faultline::engine::placement {
namespace {

constexpr std::size_t kMost = 3;

std::string vcpus(unsigned n) {
  return std::to_string(n) + (n == 1 ? " vCPU" : " vCPUs");
}

void add(std::string& to, const std::string& part) {
  if (!to.empty()) to += ", ";
  to += part;
}

std::vector<Rejected> best(std::vector<Rejected> all) {
  std::ranges::stable_sort(all, {}, &Rejected::cost_more);
  if (all.size() > kMost) all.resize(kMost);
  return all;
}

bool outside(const Problem& problem, const Assignment& assignment, std::size_t from,
             std::size_t to) {
  for (std::size_t d = 0; d < assignment.size(); ++d) {
    if (assignment[d] == from && cost_alone(problem.duties[d], problem.cores[to]) >
                                     cost_alone(problem.duties[d], problem.cores[from])) {
      return true;
    }
  }
  return false;
}

/// The cost of one duty's neighbours if it were on `core`, and how many there are.
long neighbours(const Problem& problem, const Assignment& assignment, std::size_t duty,
                std::size_t core, unsigned& count, bool& sibling_duty) {
  long cost = 0;
  for (std::size_t other = 0; other < assignment.size(); ++other) {
    if (other == duty || assignment[other] != core) continue;
    cost += cost_together(problem.duties[duty], problem.duties[other]);
    ++count;
    if (problem.duties[other].guest == problem.duties[duty].guest) sibling_duty = true;
  }
  return cost;
}

}  // namespace

std::string why_core(const Core& core, const CoreFacts& facts) {
  std::string reason =
      "node " + std::to_string(core.cpu.node) + ", L3 " + std::to_string(core.cpu.l3);
  if (core.cpu.isolated) reason += ", isolated";
  if (facts.vcpus_in_l3 > 0) reason += ", " + vcpus(facts.vcpus_in_l3) + " in its L3";
  if (facts.vcpus_on_cpu > 0) {
    reason += ", shares the CPU with " + vcpus(facts.vcpus_on_cpu) + " (no free core left)";
  } else if (facts.vcpus_on_siblings > 0) {
    reason += ", shares its core with " + vcpus(facts.vcpus_on_siblings) + " (no free core left)";
  } else {
    reason += ", no vCPU on its core";
  }
  return reason;
}

std::vector<Rejected> instead_of_core(const Problem& problem, const std::vector<CoreFacts>& facts,
                                      const Assignment& assignment, std::size_t at) {
  std::vector<Rejected> out;
  for (std::size_t c = 0; c < problem.cores.size(); ++c) {
    if (c == at || std::ranges::find(assignment, c) != assignment.end()) continue;
    Assignment moved = assignment;
    std::ranges::replace(moved, at, c);
    long more = problem.cores[c].open - problem.cores[at].open;
    for (std::size_t d = 0; d < assignment.size(); ++d) {
      if (assignment[d] != at) continue;
      more += cost_alone(problem.duties[d], problem.cores[c]) -
              cost_alone(problem.duties[d], problem.cores[at]);
    }
    std::string reason;
    if (!allowed(problem, moved)) add(reason, "kept for housekeeping");
    if (facts[c].vcpus_on_cpu > facts[at].vcpus_on_cpu) {
      add(reason, vcpus(facts[c].vcpus_on_cpu) + " on that CPU");
    }
    if (facts[c].vcpus_on_siblings > facts[at].vcpus_on_siblings) {
      add(reason, vcpus(facts[c].vcpus_on_siblings) + " on its SMT siblings");
    }
    if (problem.cores[at].cpu.isolated && !problem.cores[c].cpu.isolated) {
      add(reason, "not isolated");
    }
    if (outside(problem, assignment, at, c)) add(reason, "outside the L3 of its guests' vCPUs");
    if (reason.empty()) {
      add(reason, facts[c].vcpus_in_l3 < facts[at].vcpus_in_l3 ? "fewer vCPUs in its L3"
                                                               : "as good, but a lower number");
    }
    out.push_back({problem.cores[c].cpu.index, more, reason});
  }
  return best(std::move(out));
}

std::vector<Rejected> instead_for_duty(const Problem& problem, const Assignment& assignment,
                                       const std::vector<std::size_t>& polling, std::size_t duty) {
  const std::size_t at = assignment[duty];
  unsigned here = 0;
  bool with_own = false;
  const long now = cost_alone(problem.duties[duty], problem.cores[at]) +
                   neighbours(problem, assignment, duty, at, here, with_own);
  std::vector<Rejected> out;
  for (const std::size_t c : polling) {
    if (c == at) continue;
    unsigned count = 0;
    bool own = false;
    const long then = cost_alone(problem.duties[duty], problem.cores[c]) +
                      neighbours(problem, assignment, duty, c, count, own);
    std::string reason;
    if (own) add(reason, "the guest's other duty is there");
    if (cost_alone(problem.duties[duty], problem.cores[c]) >
        cost_alone(problem.duties[duty], problem.cores[at])) {
      add(reason, "outside the L3 of its vCPUs");
    }
    if (count > here || reason.empty()) {
      add(reason,
          std::to_string(count) + (count == 1 ? " other duty" : " other duties") + " there");
    }
    out.push_back({problem.cores[c].cpu.index, then - now, reason});
  }
  return best(std::move(out));
}

}  // namespace faultline::engine::placement
