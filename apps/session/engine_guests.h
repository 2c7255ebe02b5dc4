// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <memory>

#include "apps/session/guest_host.h"
#include "engine/budget.h"
#include "engine/cold_lane.h"
#include "engine/engine.h"
#include "engine/placement.h"
#include "engine/topology.h"
#include "kernel/base/result.h"

namespace faultline::session {

struct EngineGuestsOptions {
  Backend backend = Backend::kSoft;
  engine::EngineOptions engine;
  engine::PolicyKind policy = engine::PolicyKind::kMerge;
  merge::MergeOptions merge;
  engine::Budget budget;               ///< of each guest, and the most that its VMM may ask for
  Nanos register_poll_ns = 50'000;     ///< GuestSpec::register_poll_ns of every guest
  engine::Topology topology;           ///< for placing guests as they come
  engine::PlacementOptions placement;  ///< node, shards, cpus: as the plan was made
};

/// The engine behind sessions: started without guests on the plan's shards; each guest that comes
/// is placed by its vCPUs and devices among those already there.
///
/// lane       made before EAL; outlives the result
/// launcher   on_lcores() in the daemon, on_threads() in tests
/// errors     as Engine::start()
Result<std::unique_ptr<GuestHost>> make_engine_guests(engine::ColdLane& lane,
                                                      const engine::Plan& plan,
                                                      engine::Launcher launcher,
                                                      EngineGuestsOptions options);

}  // namespace faultline::session
