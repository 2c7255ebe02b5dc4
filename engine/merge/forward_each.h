// SPDX-License-Identifier: BSD-3-Clause
// hot path: one submission per command.
#pragma once

#include "engine/merge/policy.h"

namespace faultline::merge {

/// Forwards every operation by itself, as soon as it is fetched.
///
/// source  QEMU hw/arm/smmuv3.c with accel=on (entry_num = 1), Cloud Hypervisor's iommufd backend:
///         one ioctl per command
class ForwardEach {
 public:
  [[nodiscard]] std::size_t room() const noexcept { return held_ ? 0 : 1; }

  void add(const Operation& op, Position at, Nanos /*now*/) noexcept {
    operation_ = op;
    at_ = at;
    held_ = true;
  }
  void add_sync(Position /*at*/, Nanos /*now*/) noexcept {}
  void flush() noexcept {}

  [[nodiscard]] bool due(Nanos /*now*/) const noexcept { return held_; }
  [[nodiscard]] std::span<const Operation> take(Nanos /*now*/) noexcept {
    return {&operation_, held_ ? 1U : 0U};
  }
  void done(Nanos /*now*/) noexcept { held_ = false; }
  void released(std::size_t /*syncs*/, Nanos /*now*/) noexcept {}
  void clear() noexcept { held_ = false; }

  [[nodiscard]] Position oldest(Position none) const noexcept { return held_ ? at_ : none; }

 private:
  Operation operation_;
  Position at_ = 0;
  bool held_ = false;
};

static_assert(SubmissionPolicy<ForwardEach>);

}  // namespace faultline::merge
