// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <memory>
#include <utility>

#include "engine/merge/policy.h"

namespace faultline::prove {

using merge::Position;

/// A policy chosen at run time, so that the duty is compiled once for all of them and for every
/// mutant.
class PolicyBase {
 public:
  PolicyBase() = default;
  PolicyBase(const PolicyBase&) = delete;
  PolicyBase& operator=(const PolicyBase&) = delete;
  virtual ~PolicyBase() = default;

  [[nodiscard]] virtual std::size_t room() const noexcept = 0;
  virtual void add(const Operation& op, Position at, Nanos now) noexcept = 0;
  virtual void add_sync(Position at, Nanos now) noexcept = 0;
  virtual void flush() noexcept = 0;
  [[nodiscard]] virtual bool due(Nanos now) const noexcept = 0;
  virtual std::span<const Operation> take(Nanos now) noexcept = 0;
  virtual void done(Nanos now) noexcept = 0;
  virtual void released(std::size_t syncs, Nanos now) noexcept = 0;
  virtual void clear() noexcept = 0;
  [[nodiscard]] virtual Position oldest(Position none) const noexcept = 0;
};

template <merge::SubmissionPolicy P>
class Wrapped final : public PolicyBase {
 public:
  template <class... Setup>
  explicit Wrapped(const Setup&... setup) : policy_(setup...) {}

  [[nodiscard]] std::size_t room() const noexcept override { return policy_.room(); }
  void add(const Operation& op, Position at, Nanos now) noexcept override {
    policy_.add(op, at, now);
  }
  void add_sync(Position at, Nanos now) noexcept override { policy_.add_sync(at, now); }
  void flush() noexcept override { policy_.flush(); }
  [[nodiscard]] bool due(Nanos now) const noexcept override { return policy_.due(now); }
  std::span<const Operation> take(Nanos now) noexcept override { return policy_.take(now); }
  void done(Nanos now) noexcept override { policy_.done(now); }
  void released(std::size_t syncs, Nanos now) noexcept override { policy_.released(syncs, now); }
  void clear() noexcept override { policy_.clear(); }
  [[nodiscard]] Position oldest(Position none) const noexcept override {
    return policy_.oldest(none);
  }

 private:
  P policy_;
};

class AnyPolicy {
 public:
  explicit AnyPolicy(PolicyBase& policy) noexcept : policy_(&policy) {}

  [[nodiscard]] std::size_t room() const noexcept { return policy_->room(); }
  void add(const Operation& op, Position at, Nanos now) noexcept { policy_->add(op, at, now); }
  void add_sync(Position at, Nanos now) noexcept { policy_->add_sync(at, now); }
  void flush() noexcept { policy_->flush(); }
  [[nodiscard]] bool due(Nanos now) const noexcept { return policy_->due(now); }
  std::span<const Operation> take(Nanos now) noexcept { return policy_->take(now); }
  void done(Nanos now) noexcept { policy_->done(now); }
  void released(std::size_t syncs, Nanos now) noexcept { policy_->released(syncs, now); }
  void clear() noexcept { policy_->clear(); }
  [[nodiscard]] Position oldest(Position none) const noexcept { return policy_->oldest(none); }

 private:
  PolicyBase* policy_;
};

static_assert(merge::SubmissionPolicy<AnyPolicy>);

}  // namespace faultline::prove
