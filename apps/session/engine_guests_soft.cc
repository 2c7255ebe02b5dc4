// SPDX-License-Identifier: BSD-3-Clause
#include <array>

#include "apps/session/engine_guests_backends.h"
#include "apps/session/served_guests.h"
#include "apps/session/vfio_guest.h"
#include "kernel/soft/soft_process_sys.h"

namespace faultline::session {
namespace {

/// A guest on a soft kernel that runs in some process; each guest may have its own.
class SoftGuest {
 public:
  using Sys = soft::SoftProcessSys;
  using Sources = VfioGuest<Sys>::Sources;
  using SinkType = VfioGuest<Sys>::SinkType;
  static constexpr Backend kBackend = Backend::kSoft;
  static constexpr std::array kDeviceFds = {FileKind::kSocket, FileKind::kSocket,
                                            FileKind::kSocket};
  static constexpr std::array kBackendFds = {FileKind::kSocket};

  static Result<std::unique_ptr<SoftGuest>> open(GuestRequest& request,
                                                 engine::Journal& /*journal*/) {
    auto sys = std::make_unique<Sys>(request.backend_fds[0]);
    auto guest = VfioGuest<Sys>::open(*sys, request);
    if (!guest) return tl::unexpected(std::move(guest.error()));
    return std::make_unique<SoftGuest>(std::move(sys), std::move(*guest));
  }
  SoftGuest(std::unique_ptr<Sys> sys, VfioGuest<Sys> guest)
      : sys_(std::move(sys)), guest_(std::move(guest)) {}

  [[nodiscard]] const auto& regions() const noexcept { return guest_.regions(); }
  [[nodiscard]] viommu::Features features() const noexcept { return guest_.features(); }
  Result<Sources> sources(engine::Journal& journal) { return guest_.sources(journal); }
  SinkType sink() { return guest_.sink(); }

 private:
  std::unique_ptr<Sys> sys_;
  VfioGuest<Sys> guest_;
};

}  // namespace

Result<std::unique_ptr<GuestHost>> make_soft_guests(engine::ColdLane& lane,
                                                    const engine::Plan& plan,
                                                    engine::Launcher launcher,
                                                    EngineGuestsOptions options) {
  return ServedGuests<SoftGuest>::make(lane, plan, std::move(launcher), std::move(options));
}

}  // namespace faultline::session
