// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/iommufd/refusal.h"

#include <array>
#include <cerrno>
#include <cstdio>

namespace faultline::iommufd {
namespace {

constexpr std::array<std::string_view, kRequests> kNames = {
    "open of /dev/iommu",
    "open of the device file",
    "VFIO_DEVICE_BIND_IOMMUFD",
    "VFIO_DEVICE_ATTACH_IOMMUFD_PT",
    "VFIO_DEVICE_DETACH_IOMMUFD_PT",
    "IOMMU_DESTROY",
    "IOMMU_IOAS_ALLOC",
    "IOMMU_IOAS_IOVA_RANGES",
    "IOMMU_IOAS_MAP",
    "IOMMU_IOAS_MAP_FILE",
    "IOMMU_IOAS_UNMAP",
    "IOMMU_GET_HW_INFO",
    "IOMMU_HWPT_ALLOC of the nest parent",
    "IOMMU_VIOMMU_ALLOC",
    "IOMMU_VDEVICE_ALLOC",
    "IOMMU_HWPT_ALLOC of a nested table",
    "IOMMU_VEVENTQ_ALLOC",
    "IOMMU_FAULT_QUEUE_ALLOC",
    "IOMMU_HWPT_INVALIDATE",
};

struct Cause {
  Request request;
  int code;
  std::string_view text;
};

/// source  drivers/iommu/iommufd, drivers/vfio/device_cdev.c and drivers/iommu/arm/arm-smmu-v3 of
///         Linux 7.2
constexpr Cause kCauses[] = {
    {Request::kOpenIommu, ENOENT,
     "this kernel has no iommufd: modprobe iommufd, or build one with CONFIG_IOMMUFD (Debian's "
     "have it off)"},
    {Request::kOpenIommu, ENODEV, "the iommufd module is not there: modprobe iommufd"},
    {Request::kOpenIommu, ENXIO, "the iommufd module is not there: modprobe iommufd"},
    {Request::kOpenIommu, EACCES, "run as root or give this user /dev/iommu"},
    {Request::kOpenIommu, EPERM, "run as root or give this user /dev/iommu"},
    {Request::kOpenDevice, ENOENT,
     "bind the device to vfio-pci; the kernel needs CONFIG_VFIO_DEVICE_CDEV (Linux 6.6)"},
    {Request::kOpenDevice, EACCES, "run as root or give this user the file"},
    {Request::kOpenDevice, EPERM, "run as root or give this user the file"},
    {Request::kOpenDevice, EBUSY, "another program has the device, or its group is in use"},
    {Request::kOpenDevice, ENODEV, "the device has gone"},
    {Request::kBind, ENOTTY, "this is no VFIO device file, or the kernel is older than 6.6"},
    {Request::kBind, EBUSY,
     "the group is not viable: bind every device of its IOMMU group to vfio-pci, and let no other "
     "program have them"},
    {Request::kBind, ENODEV,
     "no IOMMU is in front of the device: is it on, in firmware and kernel?"},
    {Request::kBind, EPERM,
     "the platform does not isolate this device's interrupts (allow_unsafe_interrupts of iommufd "
     "accepts that)"},
    {Request::kBind, EINVAL, "the device is bound already, or its IOMMU is not cache coherent"},
    {Request::kBind, EBADF, "the iommufd descriptor is not one"},
    {Request::kAttach, ENOENT, "the device has no vDEVICE, or the page table has gone"},
    {Request::kAttach, EOPNOTSUPP,
     "page requests were asked for and the device has neither stalls nor PRI"},
    {Request::kAttach, EADDRINUSE,
     "guest memory lies in a range that this device reserves, such as the MSI window"},
    {Request::kAttach, EBUSY, "the device uses PASIDs, or is attached in another way"},
    {Request::kAttach, EINVAL, "the page table is of another IOMMU than the device's"},
    {Request::kDestroy, EBUSY, "something still uses it"},
    {Request::kIoasAlloc, ENOTTY, "/dev/iommu is not an iommufd"},
    {Request::kMap, ENOMEM, "raise the locked-memory limit (ulimit -l), or there is no memory"},
    {Request::kMap, EEXIST, "something is mapped there already"},
    {Request::kMap, EADDRINUSE, "a device reserves part of that range"},
    {Request::kMap, EINVAL, "addresses and sizes must be multiples of the page size"},
    {Request::kMap, EFAULT, "this process has no such memory"},
    {Request::kMapFile, ENOTTY, "maps of files need Linux 6.13"},
    {Request::kMapFile, ENOMEM, "raise the locked-memory limit (ulimit -l), or there is no memory"},
    {Request::kMapFile, EEXIST, "something is mapped there already"},
    {Request::kMapFile, EADDRINUSE, "a device reserves part of that range"},
    {Request::kMapFile, EINVAL,
     "addresses and sizes must be multiples of the page size, and the file a memfd"},
    {Request::kUnmap, ENOENT, "nothing is mapped there, or a mapping would be cut"},
    {Request::kHwInfo, ENOTTY, "what the IOMMU can do is told from Linux 6.6 on"},
    {Request::kHwInfo, EOPNOTSUPP, "this IOMMU's driver does not tell what it can do"},
    {Request::kNestParent, ENOTTY, "nesting needs Linux 6.7"},
    {Request::kNestParent, EOPNOTSUPP,
     "the IOMMU has one stage only (SMMUv3: IDR0 needs S1P and S2P), or its driver cannot nest"},
    {Request::kNestParent, ENOMEM,
     "raise the locked-memory limit (ulimit -l), or there is no memory"},
    {Request::kViommu, ENOTTY, "virtual IOMMUs need Linux 6.13"},
    {Request::kViommu, EOPNOTSUPP,
     "the SMMU can be shared neither coherently (firmware: CANWBS in the IORT) nor by FEAT_S2FWB, "
     "or "
     "the kernel lacks CONFIG_ARM_SMMU_V3_IOMMUFD"},
    {Request::kViommu, EINVAL, "the nest parent is of another SMMU than the device"},
    {Request::kVdevice, ENOTTY, "virtual devices need Linux 6.13"},
    {Request::kVdevice, EEXIST, "the StreamID is taken, or the device has one already"},
    {Request::kVdevice, EOPNOTSUPP, "the device has more than one StreamID"},
    {Request::kVdevice, EINVAL, "the device is behind another IOMMU than the guest's"},
    {Request::kNested, EIO, "the stream table entry has something that the kernel does not take"},
    {Request::kNested, EOPNOTSUPP, "this kernel's driver cannot nest that way"},
    {Request::kVeventq, ENOTTY, "event queues need Linux 6.15"},
    {Request::kVeventq, EEXIST, "the virtual IOMMU has one already"},
    {Request::kVeventq, EINVAL, "a depth from 1 to 524288 is taken"},
    {Request::kVeventq, EOPNOTSUPP, "this IOMMU's driver reports no events"},
    {Request::kFaultQueue, ENOTTY, "fault queues need Linux 6.11"},
    {Request::kInvalidate, EIO, "the array has a command that this kernel does not take"},
    {Request::kInvalidate, ETIMEDOUT, "the IOMMU did not finish in time"},
    {Request::kInvalidate, ENOTTY, "invalidation needs Linux 6.8"},
};

}  // namespace

std::string_view name_of(Request request) noexcept {
  return kNames[static_cast<std::size_t>(request)];
}

std::string_view likely_cause(Request request, int code) noexcept {
  for (const Cause& c : kCauses) {
    if (c.request == request && c.code == code) return c.text;
  }
  switch (code) {
    case EMFILE:
      return "too many open files: ulimit -n";
    case ENOMEM:
      return "there is no memory";
    case EBADF:
      return "the descriptor is not open";
    default:
      return {};
  }
}

tl::unexpected<Error> refused(Request request, int code, const std::string& where) {
  std::string line = where + ": " + std::string(name_of(request)) + " refused";
  if (const std::string_view cause = likely_cause(request, code); !cause.empty()) {
    line += " (" + std::string(cause) + ")";
  }
  return fail(code, std::move(line));
}

std::string hex(std::uint64_t value) {
  std::array<char, 19> text{};
  std::snprintf(text.data(), text.size(), "0x%llx", static_cast<unsigned long long>(value));
  return text.data();
}

}  // namespace faultline::iommufd
