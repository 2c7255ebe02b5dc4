// SPDX-License-Identifier: BSD-3-Clause
#include <array>
#include <cerrno>

#include "apps/session/engine_guests_backends.h"
#include "apps/session/iommufd_guest.h"
#include "apps/session/served_guests.h"
#include "kernel/sys.h"

namespace faultline::session {
namespace {

LinuxSys linux_sys;

class RealIommufdGuest {
 public:
  using Sources = IommufdGuest<LinuxSys>::Sources;
  using SinkType = IommufdGuest<LinuxSys>::SinkType;
  static constexpr Backend kBackend = Backend::kIommufd;
  static constexpr std::array kDeviceFds = {FileKind::kCharacterDevice};
  static constexpr std::array kBackendFds = {FileKind::kCharacterDevice};

  static Result<std::unique_ptr<RealIommufdGuest>> open(GuestRequest& request,
                                                        engine::Journal& journal) {
    if (journal.in_use() && request.objects.empty()) {
      return fail(ENOTSUP,
                  "its objects in /dev/iommu ended with the earlier service: attach it anew");
    }
    auto guest = IommufdGuest<LinuxSys>::open(linux_sys, request);
    if (!guest) return tl::unexpected(std::move(guest.error()));
    return std::make_unique<RealIommufdGuest>(std::move(*guest));
  }
  explicit RealIommufdGuest(IommufdGuest<LinuxSys> guest) : guest_(std::move(guest)) {}

  [[nodiscard]] const auto& regions() const noexcept { return guest_.regions(); }
  [[nodiscard]] viommu::Features features() const noexcept { return guest_.features(); }
  Result<Sources> sources(engine::Journal& journal) { return guest_.sources(journal); }
  SinkType sink() { return guest_.sink(); }
  [[nodiscard]] KeptObjects objects() { return guest_.objects(); }
  void keep() noexcept { guest_.keep(); }

 private:
  IommufdGuest<LinuxSys> guest_;
};

}  // namespace

Result<std::unique_ptr<GuestHost>> make_iommufd_guests(engine::ColdLane& lane,
                                                       const engine::Plan& plan,
                                                       engine::Launcher launcher,
                                                       EngineGuestsOptions options) {
  return ServedGuests<RealIommufdGuest>::make(lane, plan, std::move(launcher), std::move(options));
}

}  // namespace faultline::session
