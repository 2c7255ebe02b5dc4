// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "kernel/base/result.h"
#include "kernel/base/unique_fd.h"
#include "kernel/sys.h"
#include "kernel/uapi/vfio_nested.h"
#include "kernel/vfio/capability_chain.h"
#include "kernel/vfio/container.h"
#include "kernel/vfio/mapping.h"

namespace faultline::vfio {

/// One assigned device: its file, its regions, its interrupts.
///
/// Sys      must outlive the device
/// thread   one at a time
/// source   drivers/vfio/pci/vfio_pci.c of Linux 5.1; v7 18–22/23 for the fault regions
template <Syscalls Sys>
class Device {
 public:
  /// Get the device's file from the container's group, which must be in nesting mode already.
  ///
  /// name   PCI address, "0000:01:00.0"
  static Result<Device> open(Sys& sys, const Container<Sys>& container, const std::string& name) {
    std::string argument = name;
    const int fd = sys.ioctl(container.group_fd(), uapi::kVfioGroupGetDeviceFd, argument.data());
    if (fd < 0) {
      return fail(-fd, "device " + name + ": its group does not hand it out" +
                           (fd == -ENODEV ? " (is it bound to vfio-pci?)" : ""));
    }
    return adopt(sys, fd, name);
  }

  /// Take over an open device file. Asks the device what it has.
  static Result<Device> adopt(Sys& sys, int fd, const std::string& name) {
    Device device(sys, UniqueFd<Sys>(sys, fd), name);
    uapi::vfio_device_info& info = device.info_;
    info.argsz = sizeof info;
    if (const int rc = sys.ioctl(fd, uapi::kVfioDeviceGetInfo, &info); rc < 0) {
      return fail(-rc, device.what("is not a VFIO device: GET_INFO"));
    }
    return device;
  }

  /// What region `index` is: its size, place and capabilities.
  ///
  /// errors   region of that index unknown; a hostile capability chain; an answer that grows with
  ///          every question
  Result<RegionInfo> region(std::uint32_t index) {
    std::vector<unsigned char> answer(sizeof(uapi::vfio_region_info));
    // Twice is the rule: ask for the size, then for the whole. A region may change in between
    // (version 2's areas do when it is chosen), so the kernel gets a few more chances.
    for (int attempt = 0; attempt < 4; ++attempt) {
      uapi::vfio_region_info info{};
      info.argsz = static_cast<std::uint32_t>(answer.size());
      info.index = index;
      std::memcpy(answer.data(), &info, sizeof info);
      const int rc = sys_->ioctl(fd_.get(), uapi::kVfioDeviceGetRegionInfo, answer.data());
      if (rc < 0) return fail(-rc, what("GET_REGION_INFO of region " + std::to_string(index)));
      std::memcpy(&info, answer.data(), sizeof info);
      if (info.argsz <= answer.size()) {
        info.index = index;
        std::memcpy(answer.data(), &info, sizeof info);
        answer.resize(std::max<std::size_t>(info.argsz, sizeof info));
        auto region = parse_region_info(answer);
        if (!region) return fail(std::move(region.error()), "device " + name_);
        return region;
      }
      if (info.argsz > kLargestAnswer) {
        return fail(0, what("wants " + std::to_string(info.argsz) + " bytes to describe region " +
                            std::to_string(index)));
      }
      answer.assign(info.argsz, 0);
    }
    return fail(0, what("keeps growing its description of region " + std::to_string(index)));
  }

  /// The region with this type and subtype among the device-specific ones.
  ///
  /// errors   none has it; a region that cannot be asked or is hostile ends the search
  Result<RegionInfo> find_region(std::uint32_t type, std::uint32_t subtype) {
    // A hostile count must not keep us here.
    const std::uint32_t end = std::min(info_.num_regions, kMostRegions);
    for (std::uint32_t i = uapi::kVfioPciNumRegions; i < end; ++i) {
      auto found = region(i);
      if (!found) return found;
      if (found->type == type && found->subtype == subtype) return found;
    }
    return fail(0, what("has no region of type " + std::to_string(type) + " subtype " +
                        std::to_string(subtype)));
  }

  /// Have the kernel signal this eventfd for every fault; -1 stops it.
  ///
  /// errors   the device has no DMA_FAULT interrupt, or refuses the descriptor
  Result<void> set_fault_eventfd(int eventfd) {
    if (info_.num_irqs <= uapi::kVfioPciDmaFaultIrqIndex) {
      return fail(0, what("has no DMA_FAULT interrupt: the kernel does not report its faults"));
    }
    uapi::vfio_irq_info info{
        .argsz = sizeof info, .flags = 0, .index = uapi::kVfioPciDmaFaultIrqIndex, .count = 0};
    if (const int rc = sys_->ioctl(fd_.get(), uapi::kVfioDeviceGetIrqInfo, &info); rc < 0) {
      return fail(-rc, what("GET_IRQ_INFO of DMA_FAULT"));
    }
    if (info.count < 1 || (info.flags & uapi::kVfioIrqInfoEventfd) == 0) {
      return fail(0, what("cannot signal an eventfd for DMA_FAULT"));
    }
    struct {
      uapi::vfio_irq_set set;
      std::int32_t eventfd;
    } argument{.set = {.argsz = sizeof argument,
                       .flags = uapi::kVfioIrqSetDataEventfd | uapi::kVfioIrqSetActionTrigger,
                       .index = uapi::kVfioPciDmaFaultIrqIndex,
                       .start = 0,
                       .count = 1},
               .eventfd = eventfd};
    if (const int rc = sys_->ioctl(fd_.get(), uapi::kVfioDeviceSetIrqs, &argument); rc < 0) {
      return fail(-rc, what("refused the eventfd for DMA_FAULT: SET_IRQS"));
    }
    return {};
  }

  /// Map a whole region, a BAR for instance (region 0 = BAR 0), readable and writable.
  Result<Mapping<Sys>> map_region(std::uint32_t index) {
    auto bar = region(index);
    if (!bar) return tl::unexpected(std::move(bar.error()));
    if (bar->size == 0 || !bar->mappable(0, bar->size)) {
      return fail(0, what("region " + std::to_string(index) + " cannot be mapped as a whole"));
    }
    return Mapping<Sys>::map(*sys_, fd_.get(), bar->file_offset, bar->size, PROT_READ | PROT_WRITE,
                             what("region " + std::to_string(index)));
  }

  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  [[nodiscard]] Sys& sys() const noexcept { return *sys_; }
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] const uapi::vfio_device_info& info() const noexcept { return info_; }

 private:
  static constexpr std::uint32_t kLargestAnswer = 64U * 1024U;
  static constexpr std::uint32_t kMostRegions = 256;

  Device(Sys& sys, UniqueFd<Sys> fd, std::string name)
      : sys_(&sys), fd_(std::move(fd)), name_(std::move(name)) {}

  [[nodiscard]] std::string what(const std::string& text) const {
    return "device " + name_ + ": " + text;
  }

  Sys* sys_;
  UniqueFd<Sys> fd_;
  std::string name_;
  uapi::vfio_device_info info_{};
};

}  // namespace faultline::vfio
