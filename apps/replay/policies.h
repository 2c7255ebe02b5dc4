// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <array>
#include <string_view>
#include <utility>

#include "engine/guest_spec.h"
#include "engine/merge/batch_until_sync.h"
#include "engine/merge/forward_each.h"

namespace faultline {

struct NamedPolicy {
  std::string_view name;
  engine::PolicyKind kind;
};

/// Every policy that can be replayed. A new one is a line here and a case below.
inline constexpr std::array kReplayPolicies = {
    NamedPolicy{"forward-each", engine::PolicyKind::kForwardEach},
    NamedPolicy{"batch-until-sync", engine::PolicyKind::kBatchUntilSync},
};

/// Call `f` with a fresh policy of this kind. One type per policy: the loops behind `f` are
/// monomorphic.
template <class F>
decltype(auto) with_policy(engine::PolicyKind kind, F&& f) {
  switch (kind) {
    case engine::PolicyKind::kForwardEach:
      return std::forward<F>(f)(merge::ForwardEach());
    case engine::PolicyKind::kBatchUntilSync:
      break;
  }
  return std::forward<F>(f)(merge::BatchUntilSync());
}

}  // namespace faultline
