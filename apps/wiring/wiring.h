// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <sys/mman.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/wiring/host_guest.h"
#include "engine/engine.h"
#include "engine/journal.h"
#include "engine/viommu/feature_set.h"
#include "kernel/base/result.h"
#include "kernel/base/unique_fd.h"
#include "kernel/sys.h"
#include "kernel/vfio/container.h"
#include "kernel/vfio/device.h"
#include "kernel/vfio/fault_regions.h"
#include "kernel/vfio/mapping.h"
#include "kernel/vfio/sink.h"

namespace faultline {

/// Descriptors of one assigned device, for handing them to another process.
struct DeviceFds {
  int container = -1;
  int group = -1;
  int device = -1;
};

/// The host's side of one guest on the seed's interface: a container, a group and a device file per
/// device, and the guest's memory mapped at stage 2.
///
/// Sys      must outlive this object
/// thread   one at a time
template <Syscalls Sys>
class Wiring {
 public:
  using Sources = vfio::FaultRegions<Sys>;
  using SinkType = vfio::Sink<Sys>;

  /// The fault ABI in use.
  static unsigned abi_of(Sources& sources) { return sources.abi(0); }
  /// What to offer guests before the sink has its say.
  [[nodiscard]] static viommu::Features features() noexcept { return {}; }

  /// Map the guest's memory through the seam (the kernel may need the file behind it) and note
  /// where in `guest`.
  static Result<vfio::Mapping<Sys>> map_memory(Sys& sys, HostGuest& guest) {
    auto mapping = vfio::Mapping<Sys>::map(sys, guest.memfd, 0, guest.bytes, PROT_READ | PROT_WRITE,
                                           guest.name + ": its memory");
    if (mapping) guest.memory = mapping->data();
    return mapping;
  }

  /// Open everything: container, group, nesting, stage 2, device.
  static Result<std::unique_ptr<Wiring>> open(Sys& sys, const HostGuest& guest) {
    auto wiring = std::make_unique<Wiring>(sys, devices_of(guest));
    for (const HostDevice& d : guest.devices) {
      auto container = vfio::Container<Sys>::open(sys);
      if (!container) return fail(std::move(container.error()), d.name);
      auto ok = container->attach_group("/dev/vfio/" + std::to_string(d.group));
      if (ok) ok = container->set_nesting();
      if (!ok) return fail(std::move(ok.error()), d.name);
      auto profile = container->probe();
      if (!profile) return fail(std::move(profile.error()), d.name);
      wiring->profile_ = *profile;
      // All of RAM but the register page, which is no memory to a device.
      ok = container->map_dma(HostGuest::kBase, guest.bytes - HostGuest::kRegisterBytes,
                              guest.memory);
      if (!ok) return fail(std::move(ok.error()), d.name);
      if (auto r = wiring->add(std::move(*container), d); !r) return tl::unexpected(r.error());
    }
    return wiring;
  }

  /// Go on with descriptors of an earlier life: no call changes anything in the kernel.
  ///
  /// fds       of each device; this object's from here on, also on failure
  /// profile   what the kernel can do; none: it is asked, which costs a few misses
  static Result<std::unique_ptr<Wiring>> adopt(Sys& sys, std::vector<engine::DeviceSpec> devices,
                                               const std::vector<DeviceFds>& fds,
                                               std::optional<vfio::KernelProfile> profile) {
    auto wiring = std::make_unique<Wiring>(sys, std::move(devices));
    std::vector<UniqueFd<Sys>> files;
    for (std::size_t i = 0; i < fds.size(); ++i) {
      wiring->containers_.push_back(std::make_unique<vfio::Container<Sys>>(
          vfio::Container<Sys>::adopt(sys, fds[i].container, fds[i].group, wiring->name(i))));
      files.emplace_back(sys, fds[i].device);
    }
    for (std::size_t i = 0; i < fds.size(); ++i) {
      if (!profile) {
        auto asked = wiring->containers_[i]->probe();
        if (!asked) return tl::unexpected(asked.error());
        profile = *asked;
      }
      auto device = vfio::Device<Sys>::adopt(sys, files[i].release(), wiring->name(i));
      if (!device) return tl::unexpected(device.error());
      wiring->devices_.push_back(std::move(*device));
    }
    if (profile) wiring->profile_ = *profile;
    return wiring;
  }

  Wiring(Sys& sys, std::vector<engine::DeviceSpec> devices)
      : sys_(&sys), specs_(std::move(devices)) {}

  /// The fault queues of all devices; `journal` says where an earlier engine stopped, if one did.
  Result<Sources> sources(vfio::AbiChoice abi, engine::Journal& journal) {
    std::vector<SourcePosition> positions;
    if (journal.in_use()) {
      for (std::size_t i = 0; i < devices_.size(); ++i) {
        positions.push_back(journal.event().resume_position(i));
      }
    }
    return Sources::open(*sys_, devices_, abi, {}, positions);
  }

  SinkType sink() {
    std::vector<typename SinkType::Target> targets;
    for (std::size_t i = 0; i < containers_.size(); ++i) {
      targets.push_back({containers_[i].get(), specs_[i].vsid});
    }
    return SinkType(targets, profile_);
  }

  [[nodiscard]] const vfio::KernelProfile& profile() const noexcept { return profile_; }
  [[nodiscard]] DeviceFds fds(std::size_t i) const noexcept {
    return {containers_[i]->fd(), containers_[i]->group_fd(), devices_[i].fd()};
  }

 private:
  static std::vector<engine::DeviceSpec> devices_of(const HostGuest& guest) {
    std::vector<engine::DeviceSpec> devices;
    for (const HostDevice& d : guest.devices) devices.push_back({d.name, d.vsid});
    return devices;
  }
  [[nodiscard]] const std::string& name(std::size_t i) const noexcept { return specs_[i].name; }

  Result<void> add(vfio::Container<Sys> container, const HostDevice& d) {
    containers_.push_back(std::make_unique<vfio::Container<Sys>>(std::move(container)));
    auto device = vfio::Device<Sys>::open(*sys_, *containers_.back(), d.name);
    if (!device) return tl::unexpected(device.error());
    devices_.push_back(std::move(*device));
    return {};
  }

  Sys* sys_;
  std::vector<engine::DeviceSpec> specs_;
  vfio::KernelProfile profile_;
  std::vector<std::unique_ptr<vfio::Container<Sys>>> containers_;
  std::vector<vfio::Device<Sys>> devices_;
};

/// Everything of the host's side that outlives an engine, index = guest.
///
/// Sys    must outlive this object
/// Wired  how a guest's devices hang on the kernel: Wiring or IommufdWiring
template <Syscalls Sys, class Wired = Wiring<Sys>>
struct HostSide {
  using Wires = Wired;

  std::vector<vfio::Mapping<Sys>> memories;
  std::vector<std::unique_ptr<Wires>> wirings;
  std::vector<engine::Journal> journals;

  /// Memory, interrupts, devices and a fresh journal for each guest.
  ///
  /// hosts    are given their descriptors and where their memory is; outlive the result
  static Result<HostSide> make(Sys& sys, std::vector<HostGuest>& hosts, engine::PolicyKind policy) {
    HostSide side;
    for (HostGuest& host : hosts) {
      if (auto ok = make_descriptors(host); !ok) return tl::unexpected(ok.error());
      auto memory = Wiring<Sys>::map_memory(sys, host);
      if (!memory) return tl::unexpected(memory.error());
      side.memories.push_back(std::move(*memory));
      auto wiring = Wires::open(sys, host);
      if (!wiring) return tl::unexpected(wiring.error());
      side.wirings.push_back(std::move(*wiring));
      auto journal = engine::create_journal(spec_of(host, policy));
      if (!journal) return tl::unexpected(journal.error());
      side.journals.push_back(std::move(*journal));
    }
    return side;
  }
};

}  // namespace faultline
