// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <fcntl.h>

#include <cstdint>
#include <string>
#include <utility>

#include "kernel/base/result.h"
#include "kernel/base/unique_fd.h"
#include "kernel/iommufd/cdev_path.h"
#include "kernel/iommufd/refusal.h"
#include "kernel/sys.h"
#include "kernel/uapi/vfio_cdev.h"

namespace faultline::iommufd {

/// One assigned device by its VFIO device file, bound to an iommufd.
///
/// Sys      must outlive this object
/// thread   one at a time
/// source   drivers/vfio/device_cdev.c
template <Syscalls Sys>
class Device {
 public:
  /// Open the file and bind it. From then on the device belongs to this iommufd until it is closed.
  ///
  /// device   PCI address or path (cdev_path.h)
  static Result<Device> open(Sys& sys, int iommufd, const std::string& device) {
    auto path = cdev_path(device);
    if (!path) return tl::unexpected(std::move(path.error()));
    const int fd = sys.open(path->c_str(), O_RDWR);
    if (fd < 0) return refused(Request::kOpenDevice, -fd, *path);
    return bind(sys, fd, iommufd, device);
  }
  /// Bind a file that a VMM opened and passed. It is closed at the end, also on failure.
  static Result<Device> bind(Sys& sys, int fd, int iommufd, const std::string& name) {
    Device d(sys, UniqueFd<Sys>(sys, fd), name);
    uapi::vfio_device_bind_iommufd b{
        .argsz = sizeof b, .flags = 0, .iommufd = iommufd, .out_devid = 0};
    if (const int rc = sys.ioctl(fd, uapi::kVfioDeviceBindIommufd, &b); rc < 0) {
      return refused(Request::kBind, -rc, name);
    }
    d.id_ = b.out_devid;
    return d;
  }
  /// Go on with one that is bound already. No call is made.
  ///
  /// id   what binding gave
  static Device adopt(Sys& sys, int fd, std::uint32_t id, const std::string& name) {
    Device d(sys, UniqueFd<Sys>(sys, fd), name);
    d.id_ = id;
    return d;
  }

  /// Attach a page table, or replace the one that is attached in one step.
  /// returns  0 or the negative errno; then everything is as before
  int attach(std::uint32_t pt_id) noexcept {
    uapi::vfio_device_attach_iommufd_pt a{.argsz = sizeof a, .flags = 0, .pt_id = pt_id};
    return sys_->ioctl(fd_.get(), uapi::kVfioDeviceAttachIommufdPt, &a);
  }
  /// The device's DMA is blocked afterwards. returns 0 or the negative errno
  int detach() noexcept {
    uapi::vfio_device_detach_iommufd_pt d{.argsz = sizeof d, .flags = 0};
    return sys_->ioctl(fd_.get(), uapi::kVfioDeviceDetachIommufdPt, &d);
  }

  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  [[nodiscard]] std::uint32_t id() const noexcept { return id_; }
  [[nodiscard]] const std::string& name() const noexcept { return name_; }

 private:
  Device(Sys& sys, UniqueFd<Sys> fd, std::string name)
      : sys_(&sys), fd_(std::move(fd)), name_(std::move(name)) {}

  Sys* sys_;
  UniqueFd<Sys> fd_;
  std::string name_;
  std::uint32_t id_ = 0;
};

}  // namespace faultline::iommufd
