// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <memory>

#include "apps/session/engine_guests.h"

namespace faultline::session {

// One kind of kernel each; make_engine_guests() chooses.

Result<std::unique_ptr<GuestHost>> make_soft_guests(engine::ColdLane& lane,
                                                    const engine::Plan& plan,
                                                    engine::Launcher launcher,
                                                    EngineGuestsOptions options);
Result<std::unique_ptr<GuestHost>> make_vfio_guests(engine::ColdLane& lane,
                                                    const engine::Plan& plan,
                                                    engine::Launcher launcher,
                                                    EngineGuestsOptions options);
Result<std::unique_ptr<GuestHost>> make_iommufd_guests(engine::ColdLane& lane,
                                                       const engine::Plan& plan,
                                                       engine::Launcher launcher,
                                                       EngineGuestsOptions options);

}  // namespace faultline::session
