// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <fcntl.h>

#include <cstdint>
#include <string>
#include <vector>

#include "kernel/base/unique_fd.h"
#include "kernel/sys.h"
#include "kernel/uapi/vfio_nested.h"

namespace faultline {

/// What a kernel can do for us, asked of it and never guessed from version numbers.
struct KernelReport {
  int open_error = 0;     ///< errno of opening the VFIO container; 0: it is there
  int api_version = -1;   ///< of VFIO, or the negative errno
  bool type1 = false;     ///< stage 2 by DMA maps
  bool type1v2 = false;   ///< unmaps may not cut a mapping
  bool nesting = false;   ///< the seed's two stages can be chosen
  int iommufd_error = 0;  ///< errno of opening /dev/iommu; 0: it is there

  /// Whether the seed's interface may be there at all. Which revision it is, and which of its
  /// invalidations work, shows only with a group attached (vfio::Container::probe()).
  [[nodiscard]] bool seed_possible() const noexcept {
    return open_error == 0 && api_version == uapi::kVfioApiVersion && nesting;
  }
};

/// Ask the kernel behind `sys`. Opens and closes /dev/vfio/vfio and /dev/iommu; changes nothing.
///
/// cost     about six system calls
/// thread   any
template <Syscalls Sys>
KernelReport probe_kernel(Sys& sys, const std::string& container = "/dev/vfio/vfio") {
  KernelReport report;
  const int vfio = sys.open(container.c_str(), O_RDWR);
  if (vfio < 0) {
    report.open_error = -vfio;
  } else {
    const UniqueFd<Sys> fd(sys, vfio);
    report.api_version = sys.ioctl(vfio, uapi::kVfioGetApiVersion, nullptr);
    const auto has = [&](std::uintptr_t type) {
      // The argument is the number itself.
      return sys.ioctl(vfio, uapi::kVfioCheckExtension, reinterpret_cast<void*>(type)) > 0;
    };
    report.type1 = has(uapi::kVfioType1Iommu);
    report.type1v2 = has(uapi::kVfioType1v2Iommu);
    report.nesting = has(uapi::kVfioType1NestingIommu);
  }
  const int iommufd = sys.open("/dev/iommu", O_RDWR);
  if (iommufd < 0) {
    report.iommufd_error = -iommufd;
  } else {
    sys.close(iommufd);
  }
  return report;
}

/// The report as lines for the operator: what is there, what is missing, what to do about it.
[[nodiscard]] std::vector<std::string> describe(const KernelReport& report);

}  // namespace faultline
