// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <string>

#include "kernel/base/result.h"

namespace faultline::iommufd {

/// The VFIO device file of what an operator named.
///
/// device   a PCI address, "0000:01:00.0", or the file itself, "/dev/vfio/devices/vfio0"
/// sysfs    where sysfs is mounted
/// errors   no such device; not bound to vfio-pci; a kernel without device files
Result<std::string> cdev_path(const std::string& device, const std::string& sysfs = "/sys");

}  // namespace faultline::iommufd
