// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/run_iommufd.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <new>
#include <string>
#include <system_error>
#include <vector>

#include "apps/faultline/engine_host.h"
#include "apps/faultline/play.h"
#include "apps/faultline/session.h"
#include "apps/faultline/setup.h"
#include "apps/wiring/iommufd_wiring.h"
#include "kernel/soft/dma_bar.h"
#include "kernel/soft/ledger_writer.h"
#include "kernel/sys.h"

namespace faultline {
namespace {

/// What stands for a real device in the guest: a BAR that nobody looks at, and the account of the
/// faults that it caused: none.
class StillDevice {
 public:
  static constexpr std::uint32_t kEntries = 64;

  StillDevice() {
    void* at = ::mmap(nullptr, bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) throw std::bad_alloc();
    at_ = static_cast<std::byte*>(at);
    soft::LedgerWriter(at_ + soft::kDmaBarSize, kEntries);
  }
  ~StillDevice() { ::munmap(at_, bytes()); }
  StillDevice(const StillDevice&) = delete;
  StillDevice& operator=(const StillDevice&) = delete;

  [[nodiscard]] SessionDevice device() noexcept { return {at_, at_ + soft::kDmaBarSize, false}; }

 private:
  static std::size_t bytes() noexcept {
    return soft::kDmaBarSize + soft::LedgerWriter::bytes_for(kEntries);
  }
  std::byte* at_;
};

/// Asked first, so that the answer does not depend on what was named.
Result<void> host_can() {
  std::error_code error;
  const std::filesystem::directory_iterator iommus("/sys/class/iommu", error);
  if (error || iommus == std::filesystem::directory_iterator()) {
    return fail(0,
                "--kernel iommufd: this host has no IOMMU (/sys/class/iommu is empty): switch it "
                "on in the firmware and the kernel, or take --kernel soft, which needs none");
  }
  LinuxSys sys;
  auto iommufd = iommufd::Iommufd<LinuxSys>::open(sys);
  if (!iommufd) return fail(std::move(iommufd.error()), "--kernel iommufd");
  return {};
}

}  // namespace

Result<void> check_iommufd(const RunOptions& options) {
  const char* const soft_only = options.kills()                   ? "--chaos"
                                : !options.plant.empty()          ? "--plant"
                                : options.quirks != "none"        ? "--quirks"
                                : options.fail_invalidations != 0 ? "--fail-invalidations"
                                : options.storms_ms != 0          ? "--storms"
                                : options.abi != "auto"           ? "--abi"
                                : options.rebalance_ms != 0       ? "--rebalance"
                                : options.guests != 1             ? "--guests"
                                                                  : nullptr;
  if (soft_only != nullptr) {
    return fail(kUsageError, std::string(soft_only) +
                                 " is of the software kernel: leave it away with --kernel iommufd");
  }
  return {};
}

Result<int> run_iommufd(const RunOptions& options, const guest::Trace& trace,
                        std::optional<ResultFile>& json) {
  if (auto ok = host_can(); !ok) return tl::unexpected(ok.error());
  if (options.host_devices.empty()) {
    return fail(
        kUsageError,
        "--kernel iommufd: name the devices, bound to vfio-pci, with --device 0000:01:00.0");
  }
  RunOptions with_devices = options;
  with_devices.devices = static_cast<unsigned>(options.host_devices.size());
  std::vector<HostGuest> hosts =
      make_guests(1, guest::Guest::choose_sids(trace, options.host_devices.size()));
  for (std::size_t i = 0; i < options.host_devices.size(); ++i) {
    hosts[0].devices[i].name = options.host_devices[i];
  }
  EngineChoices choices = engine_choices(options);
  auto plan = make_plan(hosts, choices);
  if (!plan) return fail(kUsageError, plan.error().message());
  if (auto ok = choose_hugepages(options.hugepages, choices, *plan); !ok) {
    return tl::unexpected(ok.error());
  }
  announce(with_devices, trace, *plan);

  Result<int> status = fail(0, "");
  {
    LinuxSys sys;
    auto side = IommufdSide<LinuxSys>::make(sys, hosts, choices.policy);
    if (side) {
      auto& iommu = side->wirings[0]->iommu();
      for (std::size_t i = 0; i < iommu.size(); ++i) {
        fmt::print("{}: {}\n", iommu.device(i).name(), iommu.hardware(i).describe());
      }
      std::fflush(stdout);
      std::vector<StillDevice> still(hosts[0].devices.size());
      std::vector<SessionDevice> devices;
      for (StillDevice& d : still) devices.push_back(d.device());
      Session session(with_devices, trace, hosts, devices);
      status = play(with_devices, session, hosts, *side, choices, *plan, json);
    } else {
      status = tl::unexpected(side.error());
    }
  }
  close_descriptors(hosts[0]);
  return status;
}

}  // namespace faultline
