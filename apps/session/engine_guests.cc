// SPDX-License-Identifier: BSD-3-Clause
#include "apps/session/engine_guests.h"

#include <cerrno>
#include <utility>

#include "apps/session/engine_guests_backends.h"
#include "apps/session/guest_budget.h"
#include "apps/session/served_guests.h"

namespace faultline::session {

engine::GuestSpec spec_of(const GuestRequest& request, const EngineGuestsOptions& options) {
  engine::GuestSpec spec;
  spec.name = request.name;
  spec.registers = request.registers;
  spec.mode = request.mode;
  spec.policy = options.policy;
  spec.merge = options.merge;
  spec.budget = request.budget ? at_most(*request.budget, options.budget) : options.budget;
  for (const DeviceRequest& d : request.devices) spec.devices.push_back({d.name, d.vsid});
  spec.evtq_eventfd = request.evtq_eventfd;
  spec.gerror_eventfd = request.gerror_eventfd;
  spec.sync_eventfd = request.sync_eventfd;
  spec.doorbell_eventfd = request.doorbell_eventfd;
  spec.arm_eventfd = request.arm_eventfd;
  spec.armed_eventfd = request.armed_eventfd;
  spec.routes = request.routes;
  spec.register_poll_ns = options.register_poll_ns;
  spec.vcpus = request.vcpus;
  return spec;
}

Result<std::unique_ptr<GuestHost>> make_engine_guests(engine::ColdLane& lane,
                                                      const engine::Plan& plan,
                                                      engine::Launcher launcher,
                                                      EngineGuestsOptions options) {
  const Backend backend = options.backend;
  switch (backend) {
    case Backend::kSoft:
      return make_soft_guests(lane, plan, std::move(launcher), std::move(options));
    case Backend::kVfio:
      return make_vfio_guests(lane, plan, std::move(launcher), std::move(options));
    case Backend::kIommufd:
      return make_iommufd_guests(lane, plan, std::move(launcher), std::move(options));
  }
  return fail(EINVAL, "there is no such backend");
}

}  // namespace faultline::session
