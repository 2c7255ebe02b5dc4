// SPDX-License-Identifier: BSD-3-Clause
#include <array>

#include "apps/session/engine_guests_backends.h"
#include "apps/session/served_guests.h"
#include "apps/session/vfio_guest.h"
#include "kernel/sys.h"

namespace faultline::session {
namespace {

LinuxSys linux_sys;

class RealVfioGuest {
 public:
  using Sources = VfioGuest<LinuxSys>::Sources;
  using SinkType = VfioGuest<LinuxSys>::SinkType;
  static constexpr Backend kBackend = Backend::kVfio;
  static constexpr std::array kDeviceFds = {FileKind::kCharacterDevice, FileKind::kCharacterDevice,
                                            FileKind::kVfioDevice};
  static constexpr std::array<FileKind, 0> kBackendFds = {};

  static Result<std::unique_ptr<RealVfioGuest>> open(GuestRequest& request,
                                                     engine::Journal& /*journal*/) {
    auto guest = VfioGuest<LinuxSys>::open(linux_sys, request);
    if (!guest) return tl::unexpected(std::move(guest.error()));
    return std::make_unique<RealVfioGuest>(std::move(*guest));
  }
  explicit RealVfioGuest(VfioGuest<LinuxSys> guest) : guest_(std::move(guest)) {}

  [[nodiscard]] const auto& regions() const noexcept { return guest_.regions(); }
  [[nodiscard]] viommu::Features features() const noexcept { return guest_.features(); }
  Result<Sources> sources(engine::Journal& journal) { return guest_.sources(journal); }
  SinkType sink() { return guest_.sink(); }

 private:
  VfioGuest<LinuxSys> guest_;
};

}  // namespace

Result<std::unique_ptr<GuestHost>> make_vfio_guests(engine::ColdLane& lane,
                                                    const engine::Plan& plan,
                                                    engine::Launcher launcher,
                                                    EngineGuestsOptions options) {
  return ServedGuests<RealVfioGuest>::make(lane, plan, std::move(launcher), std::move(options));
}

}  // namespace faultline::session
