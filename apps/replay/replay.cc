// SPDX-License-Identifier: BSD-3-Clause
#include "apps/replay/replay.h"

#include <algorithm>

#include "apps/replay/policies.h"
#include "apps/replay/session.h"
#include "apps/replay/virtual_session.h"
#include "apps/replay/wall_session.h"
#include "apps/replay/world.h"

namespace faultline {
namespace {

SinkCaps caps_of(const ReplayOptions& options) {
  VirtualTime time;
  Entries entries;
  return ReplaySink<VirtualTime>(options, time, entries).caps();
}

viommu::Features features_for(const guest::Trace& trace, const ReplayOptions& options) {
  return replay_features(trace, caps_of(options));
}

merge::MergeSetup merge_setup(const viommu::Features& features, const ReplayOptions& options) {
  merge::MergeSetup setup;
  setup.options = options.merge;
  setup.caps = caps_of(options);
  setup.sole_granule = features.only_4k();
  return setup;
}

/// How many of these end in a CMD_SYNC.
std::uint64_t syncs_in(const std::vector<guest::Group>& groups) {
  return static_cast<std::uint64_t>(
      std::count_if(groups.begin(), groups.end(), [](const guest::Group& g) { return g.sync; }));
}

std::uint64_t busiest_syncs(const guest::Trace& trace, std::uint64_t loops) {
  const guest::Script script = guest::make_script(trace);
  std::uint64_t most = 0;
  for (const auto& groups : script.vcpus) most = std::max(most, syncs_in(groups));
  return syncs_in(script.prologue) + loops * most;
}

}  // namespace

Result<void> check_replay(const guest::Trace& trace, const ReplayOptions& options) {
  if (options.loops == 0) return fail(0, "a trace is played at least once");
  if (options.round == 0) return fail(0, "a round of the engine takes at least 1 ns");
  return check_commands(trace, features_for(trace, options));
}

Result<ReplayReport> replay(const guest::Trace& trace, const ReplayOptions& options) {
  if (auto ok = check_replay(trace, options); !ok) return tl::unexpected(ok.error());
  const viommu::Features features = features_for(trace, options);
  auto world = ReplayWorld::make(trace, features);
  if (!world) return tl::unexpected(world.error());
  auto report =
      with_policy(options.policy, merge_setup(features, options), [&](const auto& policy) {
        return options.clock == ReplayClock::kVirtual
                   ? play_virtual(**world, trace, options, policy)
                   : play_wall(**world, trace, options, policy);
      });
  if (report) report->busiest_syncs = busiest_syncs(trace, options.loops);
  return report;
}

}  // namespace faultline
