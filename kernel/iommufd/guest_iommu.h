// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernel/base/result.h"
#include "kernel/base/units.h"
#include "kernel/iommufd/device.h"
#include "kernel/iommufd/hardware.h"
#include "kernel/iommufd/iommufd.h"
#include "kernel/iommufd/msi_window.h"
#include "kernel/iommufd/stage1.h"
#include "kernel/operation.h"
#include "kernel/sys.h"

namespace faultline::iommufd {

/// Guest memory to make reachable at stage 2: mapped here, or (memfd >= 0) a piece of a file.
struct GuestRange {
  Gpa gpa;
  std::uint64_t size = 0;
  void* at = nullptr;
  int memfd = -1;
  std::uint64_t offset = 0;
};

/// What there is already of a guest's IOMMU: nothing but names, or all that a VMM or an earlier
/// engine made. An id of 0 and a descriptor of -1 stand for what is still to be made.
struct Parts {
  struct Device {
    std::string name;  ///< PCI address or device file; only a name when there is a descriptor
    StreamId vsid;     ///< what the guest calls it
    int fd = -1;
    std::uint32_t id = 0;  ///< what binding gave; 0: bind it
    std::uint32_t vdevice = 0;
    std::uint32_t nested = 0;  ///< the table attached now, if this is known
  };

  int iommufd = -1;
  std::uint32_t ioas = 0;  ///< made by somebody else: then so is what is mapped in it
  std::uint32_t parent = 0;
  std::uint32_t viommu = 0;
  std::uint32_t bypass = 0;
  std::uint32_t abort = 0;
  std::uint32_t veventq = 0;
  int veventq_fd = -1;
  std::uint32_t fault_queue = 0;
  int fault_fd = -1;
  std::vector<Device> devices;
  /// The objects given are destroyed with the others; else they are their maker's.
  bool owned = false;
};

struct GuestIommuOptions {
  std::uint32_t event_depth = 4096;  ///< events that the kernel keeps before it loses some
  bool page_requests = true;         ///< where the hardware can stall
};

/// The host's side of one virtual SMMU on mainline: stage 2, the vIOMMU, its devices and their
/// stage 1, its queues.
///
/// Objects:   IOAS ◄ nest parent ◄ vIOMMU ◄ vDEVICE of each device
///                                        ◄ bypass and abort tables, shared by the devices
///                                        ◄ nested table of each translating device
///                                        ◄ vEVENTQ            fault queue
///
/// A device is blocked until its first set_stage1(). What is made is taken away again in the
/// reverse order, when anything fails as well as at the end.
///
/// Sys      must outlive this object
/// thread   one at a time; invalidations (sink.h) may run beside map and unmap
/// source   Documentation/userspace-api/iommufd.rst; arm-smmu-v3-iommufd.c of Linux 7.2
template <Syscalls Sys>
class GuestIommu {
 public:
  /// Make what `parts` does not have.
  ///
  /// parts     its descriptors are closed by this object, also on failure
  /// memory    of the guest; not looked at when there is an IOAS already
  /// errors    one line: device, call, errno, likely cause. Nothing of what was made stays
  static Result<std::unique_ptr<GuestIommu>> make(Sys& sys, Parts parts,
                                                  std::span<const GuestRange> memory,
                                                  const GuestIommuOptions& options = {}) {
    auto iommufd = parts.iommufd >= 0
                       ? Result<Iommufd<Sys>>(Iommufd<Sys>::adopt(sys, parts.iommufd))
                       : Iommufd<Sys>::open(sys);
    std::unique_ptr<GuestIommu> g;
    if (iommufd) g.reset(new GuestIommu(std::move(*iommufd)));
    // From here on every descriptor has an owner, whatever fails.
    UniqueFd<Sys> events(sys, parts.veventq_fd);
    UniqueFd<Sys> faults(sys, parts.fault_fd);
    std::vector<UniqueFd<Sys>> files;
    for (const auto& d : parts.devices) files.emplace_back(sys, d.fd);
    if (!iommufd) return tl::unexpected(std::move(iommufd.error()));
    g->veventq_.fd = std::move(events);
    g->faults_.fd = std::move(faults);
    auto ok = g->take_devices(parts, files);
    if (ok) ok = g->make_stage2(parts, memory);
    if (ok) ok = g->make_virtual(parts);
    if (ok) ok = g->make_queues(parts, options);
    if (!ok) return tl::unexpected(std::move(ok.error()));
    return g;
  }

  GuestIommu(const GuestIommu&) = delete;
  GuestIommu& operator=(const GuestIommu&) = delete;
  ~GuestIommu() {
    if (kept_) return;
    // Nested tables cannot go while they are attached.
    for (Bound& b : bound_) {
      if (b.attached) b.device.detach();
    }
  }

  /// Replace the stage 1 of a device: the new table is made, attached in the place of the old one
  /// in one step, and then the old one goes. There is no moment without one.
  ///
  /// errors   SubmitResult::error; everything is as before. EIO, EINVAL: the guest's entry has
  ///          something that the kernel does not take
  SubmitResult set_stage1(std::size_t device, const Stage1Config& config) noexcept {
    if (device >= bound_.size()) return {.error = ENODEV};
    SubmitResult result;
    Bound& b = bound_[device];
    Object<Sys> fresh;
    std::uint32_t table = config.mode == Stage1Config::Mode::kAbort ? abort_.id() : bypass_.id();
    if (config.mode == Stage1Config::Mode::kTranslate) {
      ++result.calls;
      const int rc =
          iommufd_.alloc_nested(b.device.id(), viommu_.id(), nested_table(config, offer_.ats),
                                faults_.object.id(), fresh);
      if (rc < 0) return refuse(result, Request::kNested, -rc);
      table = fresh.id();
    }
    ++result.calls;
    if (const int rc = b.device.attach(table); rc < 0) {
      return refuse(result, Request::kAttach, -rc);
    }
    b.attached = true;
    result.calls += b.nested ? 1 : 0;
    b.nested = std::move(fresh);
    result.host_syncs = result.calls;
    return result;
  }

  /// Why the last set_stage1() failed, as one line.
  [[nodiscard]] std::optional<Error> stage1_refusal() const {
    if (refused_code_ == 0) return std::nullopt;
    return refused(refused_, refused_code_, "stage 1").value();
  }

  /// Guest memory that comes and goes while the guest runs.
  Result<void> map(const GuestRange& range) {
    if (MsiWindow::overlaps(range.gpa, range.size)) {
      return fail(0, "guest memory at " + hex(range.gpa.value) + " lies in the window at " +
                         hex(MsiWindow::kBase) + " that the kernel maps MSI doorbells in");
    }
    if (range.memfd >= 0) {
      return iommufd_.map_file(ioas_.id(), range.gpa, range.size, range.memfd, range.offset);
    }
    return iommufd_.map(ioas_.id(), range.gpa, range.size, range.at);
  }
  Result<std::uint64_t> unmap(Gpa gpa, std::uint64_t size) {
    return iommufd_.unmap(ioas_.id(), gpa, size);
  }
  Result<std::vector<uapi::iommu_iova_range>> ranges() {
    return iommufd_.ranges(ioas_.id(), bound_.front().device.name());
  }

  /// The device's index by its StreamID, or -1.
  [[nodiscard]] int find(std::uint32_t vsid) const noexcept {
    for (std::size_t i = 0; i < bound_.size(); ++i) {
      if (bound_[i].vsid.value == vsid) return static_cast<int>(i);
    }
    return -1;
  }

  /// What to hand to whoever keeps the guest's IOMMU alive over a restart. Plain numbers.
  [[nodiscard]] Parts parts() const {
    Parts p;
    p.iommufd = iommufd_.fd();
    p.ioas = ioas_.id();
    p.parent = parent_.id();
    p.viommu = viommu_.id();
    p.bypass = bypass_.id();
    p.abort = abort_.id();
    p.veventq = veventq_.object.id();
    p.veventq_fd = veventq_.fd.get();
    p.fault_queue = faults_.object.id();
    p.fault_fd = faults_.fd.get();
    for (const Bound& b : bound_) {
      p.devices.push_back(
          {b.device.name(), b.vsid, b.device.fd(), b.device.id(), b.vdevice.id(), b.nested.id()});
    }
    return p;
  }
  /// Close nothing but descriptors at the end: the objects go on without this process.
  void keep() noexcept {
    kept_ = true;
    for (Object<Sys>* o :
         {&ioas_, &parent_, &viommu_, &bypass_, &abort_, &veventq_.object, &faults_.object}) {
      o->release();
    }
    for (Bound& b : bound_) {
      b.vdevice.release();
      b.nested.release();
    }
  }

  [[nodiscard]] std::size_t size() const noexcept { return bound_.size(); }
  [[nodiscard]] const Device<Sys>& device(std::size_t i) const noexcept { return bound_[i].device; }
  [[nodiscard]] StreamId vsid(std::size_t i) const noexcept { return bound_[i].vsid; }
  [[nodiscard]] const Hardware& hardware(std::size_t i) const noexcept {
    return bound_[i].hardware;
  }
  [[nodiscard]] const Offer& offer() const noexcept { return offer_; }
  [[nodiscard]] int iommufd() const noexcept { return iommufd_.fd(); }
  [[nodiscard]] std::uint32_t viommu() const noexcept { return viommu_.id(); }
  [[nodiscard]] int events_fd() const noexcept { return veventq_.fd.get(); }
  /// -1: no page requests
  [[nodiscard]] int faults_fd() const noexcept { return faults_.fd.get(); }
  [[nodiscard]] MsiWindow& msi() noexcept { return msi_; }
  [[nodiscard]] Sys& sys() const noexcept { return iommufd_.sys(); }

 private:
  struct Bound {
    Device<Sys> device;
    StreamId vsid;
    Hardware hardware;
    Object<Sys> vdevice;
    Object<Sys> nested;
    bool attached = false;
  };

  explicit GuestIommu(Iommufd<Sys> iommufd) : iommufd_(std::move(iommufd)) {}

  Object<Sys> given(const Parts& parts, std::uint32_t id) noexcept {
    return parts.owned ? Object<Sys>(iommufd_.sys(), iommufd_.fd(), id) : Object<Sys>::borrow(id);
  }
  /// The object that was given, or the one that `f` makes.
  template <class F>
  Result<void> fill(Object<Sys>& object, const Parts& parts, std::uint32_t id, F f) {
    if (id != 0) {
      object = given(parts, id);
      return {};
    }
    Result<Object<Sys>> made = f();
    if (!made) return tl::unexpected(std::move(made.error()));
    object = std::move(*made);
    return {};
  }

  Result<void> take_devices(const Parts& parts, std::vector<UniqueFd<Sys>>& files) {
    if (parts.devices.empty()) return fail(0, "a guest's IOMMU needs a device");
    Sys& sys = iommufd_.sys();
    for (std::size_t i = 0; i < parts.devices.size(); ++i) {
      const Parts::Device& d = parts.devices[i];
      const int fd = files[i].release();
      auto device = fd < 0      ? Device<Sys>::open(sys, iommufd_.fd(), d.name)
                    : d.id == 0 ? Device<Sys>::bind(sys, fd, iommufd_.fd(), d.name)
                                : Result<Device<Sys>>(Device<Sys>::adopt(sys, fd, d.id, d.name));
      if (!device) return tl::unexpected(std::move(device.error()));
      auto hardware = iommufd_.hardware(device->id(), d.name);
      if (!hardware) return tl::unexpected(std::move(hardware.error()));
      const Offer offer = offer_of(*hardware);
      if (!offer.possible) {
        return fail(0, d.name + " is behind " + hardware->describe() +
                           ": guests are served on an SMMUv3 with both stages");
      }
      offer_ = i == 0 ? offer : common(offer_, offer);
      bound_.push_back({std::move(*device), d.vsid, *hardware, {}, {}, parts.owned && d.id != 0});
    }
    return {};
  }

  Result<void> make_stage2(const Parts& parts, std::span<const GuestRange> memory) {
    const std::string& where = bound_.front().device.name();
    const std::uint32_t dev = bound_.front().device.id();
    auto ok = fill(ioas_, parts, parts.ioas, [&] { return iommufd_.alloc_ioas(where); });
    for (const GuestRange& range : memory) {
      if (!ok || parts.ioas != 0) break;
      ok = map(range);
    }
    if (!ok) return ok;
    return fill(parent_, parts, parts.parent,
                [&] { return iommufd_.alloc_nest_parent(dev, ioas_.id(), where); });
  }

  Result<void> make_virtual(const Parts& parts) {
    const std::string& where = bound_.front().device.name();
    const std::uint32_t dev = bound_.front().device.id();
    auto ok = fill(viommu_, parts, parts.viommu,
                   [&] { return iommufd_.alloc_viommu(dev, parent_.id(), where); });
    for (std::size_t i = 0; ok && i < bound_.size(); ++i) {
      Bound& b = bound_[i];
      b.nested = given(parts, parts.devices[i].nested);
      ok = fill(b.vdevice, parts, parts.devices[i].vdevice, [&] {
        return iommufd_.alloc_vdevice(viommu_.id(), b.device.id(), b.vsid, b.device.name());
      });
    }
    // Made once: a device can then be blocked without an allocation that may fail.
    using Mode = Stage1Config::Mode;
    if (ok) ok = fill(bypass_, parts, parts.bypass, [&] { return fixed_table(Mode::kBypass); });
    if (ok) ok = fill(abort_, parts, parts.abort, [&] { return fixed_table(Mode::kAbort); });
    return ok;
  }

  Result<Object<Sys>> fixed_table(Stage1Config::Mode mode) {
    const Device<Sys>& device = bound_.front().device;
    Stage1Config config;
    config.mode = mode;
    Object<Sys> table;
    const int rc =
        iommufd_.alloc_nested(device.id(), viommu_.id(), nested_table(config, false), 0, table);
    if (rc < 0) return refused(Request::kNested, -rc, device.name());
    return table;
  }

  Result<void> make_queues(const Parts& parts, const GuestIommuOptions& options) {
    const std::string& where = bound_.front().device.name();
    if (parts.veventq != 0) {
      veventq_.object = given(parts, parts.veventq);
    } else {
      auto made = iommufd_.alloc_veventq(viommu_.id(), options.event_depth, where);
      if (!made) return tl::unexpected(std::move(made.error()));
      veventq_ = std::move(*made);
    }
    if (parts.fault_queue != 0) {
      faults_.object = given(parts, parts.fault_queue);
    } else if (options.page_requests && offer_.stalls) {
      auto made = iommufd_.alloc_fault_queue(where);
      if (!made) return tl::unexpected(std::move(made.error()));
      faults_ = std::move(*made);
    }
    return {};
  }

  SubmitResult refuse(SubmitResult result, Request request, int code) noexcept {
    refused_ = request;
    refused_code_ = code;
    result.error = code;
    result.host_syncs = result.calls;
    return result;
  }

  // In this order: what is declared later goes first, and what it uses is then still there. A
  // device's file closes behind its nested table and its vDEVICE.
  Iommufd<Sys> iommufd_;
  Offer offer_;
  Object<Sys> ioas_;
  Object<Sys> parent_;
  QueueObject<Sys> faults_;
  Object<Sys> viommu_;
  QueueObject<Sys> veventq_;
  Object<Sys> abort_;
  Object<Sys> bypass_;
  std::vector<Bound> bound_;
  MsiWindow msi_;
  Request refused_ = Request::kNested;
  int refused_code_ = 0;
  bool kept_ = false;
};

}  // namespace faultline::iommufd
