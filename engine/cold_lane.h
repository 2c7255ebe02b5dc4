// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <functional>
#include <memory>
#include <vector>

namespace faultline::engine {

/// Where everything goes that may block or take long: a oneTBB arena whose workers are bound to
/// housekeeping CPUs and never run on a polling core.
///
/// Start it before EAL and from a thread that is not pinned: EAL pins the thread that starts it,
/// and an arena made by a pinned thread has no workers. Under the thread sanitizer (oneTBB is not
/// instrumented) tasks run inline, in submit().
class ColdLane {
 public:
  /// housekeeping  CPUs that its workers may run on; not empty
  explicit ColdLane(std::vector<unsigned> housekeeping);
  ColdLane(const ColdLane&) = delete;
  ColdLane& operator=(const ColdLane&) = delete;
  /// Waits for what was submitted.
  ~ColdLane();

  /// Run a task on the lane. Tasks of one lane may run beside each other.
  ///
  /// thread  any but a polling core; allocates
  void submit(std::function<void()> task);

  /// Wait until everything submitted so far has been done.
  void wait();

  /// Workers that the lane may use at once, >= 1.
  [[nodiscard]] unsigned concurrency() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace faultline::engine
