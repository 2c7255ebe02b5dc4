// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <numeric>

#include "engine/placement_cost.h"

namespace faultline::engine::placement {
namespace {

/// An assignment under change, with what is needed to price a change without looking at all of it.
class Search {
 public:
  Search(const Problem& problem, std::size_t most_cores)
      : problem_(problem), most_cores_(most_cores), on_(problem.cores.size()) {
    for (const Core& core : problem.cores) free_shared_ += core.cpu.isolated ? 0 : 1;
  }

  /// Duties by falling load, each where it costs least now.
  void greedy() {
    at_.assign(problem_.duties.size(), kNowhere);
    std::vector<std::size_t> order(at_.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::stable_sort(order, std::ranges::greater{},
                             [&](std::size_t d) { return problem_.duties[d].load; });
    for (const std::size_t d : order) {
      std::size_t best = kNowhere;
      long least = 0;
      for (std::size_t c = 0; c < on_.size(); ++c) {
        if (!may_enter(d, c)) continue;
        const long cost = joining(d, c);
        if (best == kNowhere || cost < least) {
          best = c;
          least = cost;
        }
      }
      put(d, best);
    }
  }

  /// Change for the better until nothing does, on up to `most_cores` cores.
  void improve(std::size_t most_cores) {
    most_cores_ = most_cores;
    while (move_one() || swap_two() || exchange_core()) {
    }
  }

  /// Branch and bound from an assignment that costs `best`: finds the least cost there is, unless
  /// the problem is too large for it.
  void branch(Assignment& found, long best) {
    at_.assign(problem_.duties.size(), kNowhere);
    left_ = kBranches;
    branch_from(0, 0, found, best);
  }

  [[nodiscard]] const Assignment& assignment() const { return at_; }

 private:
  static constexpr std::size_t kNowhere = ~std::size_t{0};
  static constexpr std::size_t kBranches = 200'000;

  void branch_from(std::size_t d, long cost, Assignment& found, long& best) {
    if (d == at_.size()) {
      best = cost;
      found = at_;
      return;
    }
    for (std::size_t c = 0; c < on_.size(); ++c) {
      if (left_ == 0) return;
      --left_;
      if (!may_enter(d, c)) continue;
      const long then = cost + joining(d, c);
      if (then >= best) continue;
      put(d, c);
      branch_from(d + 1, then, found, best);
      take(d);
    }
  }

  [[nodiscard]] bool may_enter(std::size_t d, std::size_t c) const {
    if (!on_[c].empty()) return true;
    const bool leaves_empty = at_[d] != kNowhere && on_[at_[d]].size() == 1;
    if (used_ - (leaves_empty ? 1 : 0) >= most_cores_) return false;
    if (!problem_.keep_a_shared_core || problem_.cores[c].cpu.isolated) return true;
    const bool frees = leaves_empty && !problem_.cores[at_[d]].cpu.isolated;
    return free_shared_ + (frees ? 1 : 0) > 1;
  }

  /// What the assignment costs more with `d`, which is not on `c`, on it.
  [[nodiscard]] long joining(std::size_t d, std::size_t c) const {
    const Duty& duty = problem_.duties[d];
    long cost = cost_alone(duty, problem_.cores[c]) + (on_[c].empty() ? problem_.cores[c].open : 0);
    for (const std::size_t other : on_[c]) cost += cost_together(duty, problem_.duties[other]);
    return cost;
  }

  void put(std::size_t d, std::size_t c) {
    at_[d] = c;
    if (on_[c].empty()) {
      ++used_;
      free_shared_ -= problem_.cores[c].cpu.isolated ? 0 : 1;
    }
    on_[c].push_back(d);
  }

  void take(std::size_t d) {
    const std::size_t c = at_[d];
    std::erase(on_[c], d);
    at_[d] = kNowhere;
    if (on_[c].empty()) {
      --used_;
      free_shared_ += problem_.cores[c].cpu.isolated ? 0 : 1;
    }
  }

  bool move_one() {
    for (std::size_t d = 0; d < at_.size(); ++d) {
      const std::size_t from = at_[d];
      std::size_t best = from;
      std::vector<std::size_t> to;
      for (std::size_t c = 0; c < on_.size(); ++c) {
        if (c != from && may_enter(d, c)) to.push_back(c);
      }
      take(d);
      long least = joining(d, from);
      for (const std::size_t c : to) {
        const long cost = joining(d, c);
        if (cost < least) {
          least = cost;
          best = c;
        }
      }
      put(d, best);
      if (best != from) return true;
    }
    return false;
  }

  bool swap_two() {
    for (std::size_t a = 0; a < at_.size(); ++a) {
      for (std::size_t b = a + 1; b < at_.size(); ++b) {
        const std::size_t ca = at_[a];
        const std::size_t cb = at_[b];
        if (ca == cb) continue;
        take(a);
        take(b);
        const long now = joining(a, ca) + joining(b, cb);
        const long then = joining(a, cb) + joining(b, ca);
        put(a, then < now ? cb : ca);
        put(b, then < now ? ca : cb);
        if (then < now) return true;
      }
    }
    return false;
  }

  /// All duties of one core go to a core that does not poll yet.
  bool exchange_core() {
    for (std::size_t from = 0; from < on_.size(); ++from) {
      if (on_[from].empty()) continue;
      for (std::size_t to = 0; to < on_.size(); ++to) {
        if (!on_[to].empty()) continue;
        const bool costs_a_shared =
            problem_.cores[from].cpu.isolated && !problem_.cores[to].cpu.isolated;
        if (problem_.keep_a_shared_core && costs_a_shared && free_shared_ <= 1) continue;
        long more = problem_.cores[to].open - problem_.cores[from].open;
        for (const std::size_t d : on_[from]) {
          more += cost_alone(problem_.duties[d], problem_.cores[to]) -
                  cost_alone(problem_.duties[d], problem_.cores[from]);
        }
        if (more >= 0) continue;
        for (const std::vector<std::size_t> all = on_[from]; const std::size_t d : all) {
          take(d);
          put(d, to);
        }
        return true;
      }
    }
    return false;
  }

  const Problem& problem_;
  std::size_t most_cores_;
  std::vector<std::vector<std::size_t>> on_;  ///< duties of each core
  Assignment at_;
  std::size_t left_ = 0;  ///< branches that may still be looked at
  std::size_t used_ = 0;
  std::size_t free_shared_ = 0;  ///< cores that are neither polled nor isolated
};

}  // namespace

long cost_of(const Problem& problem, const Assignment& assignment) {
  long cost = 0;
  std::set<std::size_t> used;
  for (std::size_t d = 0; d < assignment.size(); ++d) {
    const Core& core = problem.cores[assignment[d]];
    cost += cost_alone(problem.duties[d], core);
    if (used.insert(assignment[d]).second) cost += core.open;
    for (std::size_t other = 0; other < d; ++other) {
      if (assignment[other] != assignment[d]) continue;
      cost += cost_together(problem.duties[d], problem.duties[other]);
    }
  }
  return cost;
}

bool allowed(const Problem& problem, const Assignment& assignment) {
  const std::set<std::size_t> used(assignment.begin(), assignment.end());
  if (used.size() > problem.most_cores) return false;
  if (!problem.keep_a_shared_core) return true;
  for (std::size_t c = 0; c < problem.cores.size(); ++c) {
    if (!problem.cores[c].cpu.isolated && !used.contains(c)) return true;
  }
  return false;
}

Assignment search(const Problem& problem) {
  if (problem.duties.empty()) return {};
  Assignment best;
  // Few cores and many are both worth a start: a descent rarely closes a core that it has opened.
  for (std::size_t most = 1;; most = std::min(most * 2, problem.most_cores)) {
    Search search(problem, most);
    search.greedy();
    search.improve(problem.most_cores);
    if (best.empty() || cost_of(problem, search.assignment()) < cost_of(problem, best)) {
      best = search.assignment();
    }
    if (most == problem.most_cores) break;
  }
  Search(problem, problem.most_cores).branch(best, cost_of(problem, best));
  return best;
}

}  // namespace faultline::engine::placement
