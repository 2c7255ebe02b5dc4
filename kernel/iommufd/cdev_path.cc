// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/iommufd/cdev_path.h"

#include <filesystem>
#include <system_error>

namespace faultline::iommufd {

Result<std::string> cdev_path(const std::string& device, const std::string& sysfs) {
  namespace fs = std::filesystem;
  if (device.empty()) return fail(0, "a device is named by its PCI address or its VFIO file");
  if (device.front() == '/') return device;
  std::error_code error;
  const fs::path at = fs::path(sysfs) / "bus/pci/devices" / device;
  if (device.find('/') != std::string::npos || !fs::exists(at, error)) {
    return fail(0, device + " is no PCI device of this host (lspci -D lists them)");
  }
  for (const auto& entry : fs::directory_iterator(at / "vfio-dev", error)) {
    return "/dev/vfio/devices/" + entry.path().filename().string();
  }
  const fs::path driver = fs::read_symlink(at / "driver", error).filename();
  if (driver != "vfio-pci") {
    return fail(0, device + " is bound to " + (driver.empty() ? "no driver" : driver.string()) +
                       ", not to vfio-pci: driverctl set-override " + device + " vfio-pci");
  }
  return fail(0, device +
                     " has no VFIO device file: the kernel needs CONFIG_VFIO_DEVICE_CDEV "
                     "(Linux 6.6)");
}

}  // namespace faultline::iommufd
