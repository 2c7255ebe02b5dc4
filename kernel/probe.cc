// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/probe.h"

#include <cerrno>
#include <cstring>

namespace faultline {
namespace {

std::string missing(const std::string& path, int error, const std::string& hint) {
  std::string line = path + ": " + std::strerror(error);
  if (error == ENOENT) line += " (" + hint + ")";
  if (error == EACCES || error == EPERM) line += " (run as root, or give this user the file)";
  return line;
}

}  // namespace

std::vector<std::string> describe(const KernelReport& report) {
  std::vector<std::string> lines;
  if (report.open_error != 0) {
    lines.push_back(missing("/dev/vfio/vfio", report.open_error, "modprobe vfio-pci"));
  } else if (report.api_version != uapi::kVfioApiVersion) {
    lines.push_back("VFIO: API version " + std::to_string(report.api_version) +
                    ", this program knows 0 only");
  } else {
    lines.push_back(std::string("VFIO: type 1 ") + (report.type1 ? "yes" : "no") + ", type 1 v2 " +
                    (report.type1v2 ? "yes" : "no"));
    lines.push_back(report.nesting
                        ? "nested stages: offered; the revision shows once a group is attached"
                        : "nested stages: not offered; use a kernel with the v7 series or with "
                          "the module, or --kernel soft");
  }
  lines.push_back(report.iommufd_error == 0
                      ? "iommufd: there"
                      : missing("/dev/iommu", report.iommufd_error, "CONFIG_IOMMUFD"));
  return lines;
}

}  // namespace faultline
