// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <array>
#include <string_view>
#include <utility>

#include "engine/guest_spec.h"
#include "engine/merge/batch_until_sync.h"
#include "engine/merge/forward_each.h"
#include "engine/merge/merge.h"

namespace faultline {

struct NamedPolicy {
  std::string_view name;
  engine::PolicyKind kind;
};

/// Every policy that can be replayed. A new one is a line here and a case below.
inline constexpr std::array kReplayPolicies = {
    NamedPolicy{"forward-each", engine::PolicyKind::kForwardEach},
    NamedPolicy{"batch-until-sync", engine::PolicyKind::kBatchUntilSync},
    NamedPolicy{"merge", engine::PolicyKind::kMerge},
};

/// Call `f` with a fresh policy of this kind. One type per policy: the loops behind `f` are
/// monomorphic.
///
/// setup   of kMerge
template <class F>
decltype(auto) with_policy(engine::PolicyKind kind, const merge::MergeSetup& setup, F&& f) {
  switch (kind) {
    case engine::PolicyKind::kForwardEach:
      return std::forward<F>(f)(merge::ForwardEach());
    case engine::PolicyKind::kBatchUntilSync:
      return std::forward<F>(f)(merge::BatchUntilSync());
    case engine::PolicyKind::kMerge:
      break;
  }
  return std::forward<F>(f)(merge::Merge(setup));
}

}  // namespace faultline
