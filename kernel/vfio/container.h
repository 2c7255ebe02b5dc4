// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <fcntl.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <utility>

#include "kernel/base/result.h"
#include "kernel/base/unique_fd.h"
#include "kernel/base/units.h"
#include "kernel/operation.h"
#include "kernel/sys.h"
#include "kernel/uapi/vfio_nested.h"
#include "kernel/vfio/invalidate.h"
#include "kernel/vfio/profile.h"
#include "kernel/vfio/stage1.h"

namespace faultline::vfio {

/// One VFIO container with its group: the address space of one assigned device.
///
/// v7 binds stage 1 for the whole container, so every device has its own. Order of use: open,
/// attach_group, set_nesting, probe, map_dma…, bind_stage1 whenever the guest changes it.
///
/// Sys      must outlive the container
/// thread   one at a time; invalidations through fd() may run beside map_dma (the kernel locks)
/// source   the seed; v7 13–16/23; drivers/vfio/vfio.c and vfio_iommu_type1.c of Linux 5.1
template <Syscalls Sys>
class Container {
 public:
  /// Open the container and check the interface's version.
  ///
  /// path   "/dev/vfio/vfio"
  static Result<Container> open(Sys& sys, const std::string& path = "/dev/vfio/vfio") {
    const int fd = sys.open(path.c_str(), O_RDWR);
    if (fd < 0) {
      return fail(-fd, "cannot open " + path +
                           (fd == -ENOENT ? " (load the vfio module: modprobe vfio-pci)" : ""));
    }
    Container c(sys, UniqueFd<Sys>(sys, fd), path);
    const int version = c.call(uapi::kVfioGetApiVersion, nullptr);
    if (version < 0) return fail(-version, path + " is not a VFIO container: GET_API_VERSION");
    if (version != uapi::kVfioApiVersion) {
      return fail(0, path + " speaks VFIO API version " + std::to_string(version) +
                         ", this program knows version 0 only");
    }
    return c;
  }

  /// Go on with descriptors of an earlier life (handed back by a supervisor). No call is made.
  static Container adopt(Sys& sys, int container_fd, int group_fd, const std::string& path) {
    Container c(sys, UniqueFd<Sys>(sys, container_fd), path);
    c.group_ = UniqueFd<Sys>(sys, group_fd);
    c.group_path_ = path;
    return c;
  }

  /// Open a group, check that it is viable and put it into this container.
  ///
  /// path    "/dev/vfio/<number>"
  /// errors  a group in use elsewhere, or with a device bound to another driver
  Result<void> attach_group(const std::string& path) {
    if (group_) return fail(0, path_ + " already holds " + group_path_ + ": one per container");
    const int fd = sys_->open(path.c_str(), O_RDWR);
    if (fd < 0) {
      return fail(-fd,
                  "cannot open group " + path + (fd == -EBUSY ? " (another process has it)" : ""));
    }
    UniqueFd<Sys> group(*sys_, fd);
    uapi::vfio_group_status status{.argsz = sizeof status, .flags = 0};
    if (const int rc = sys_->ioctl(fd, uapi::kVfioGroupGetStatus, &status); rc < 0) {
      return fail(-rc, path + " is not a VFIO group: GET_STATUS");
    }
    if ((status.flags & uapi::kVfioGroupFlagsViable) == 0) {
      return fail(0, path + " is not viable: bind every device of the group to vfio-pci");
    }
    if ((status.flags & uapi::kVfioGroupFlagsContainerSet) != 0) {
      return fail(0, path + " is in another container already");
    }
    int container = fd_.get();
    if (const int rc = sys_->ioctl(fd, uapi::kVfioGroupSetContainer, &container); rc < 0) {
      return fail(-rc, path + " cannot join " + path_ + ": SET_CONTAINER");
    }
    group_ = std::move(group);
    group_path_ = path;
    return {};
  }

  /// Choose the nesting type: the host takes stage 2 and leaves stage 1 to the guest.
  Result<void> set_nesting() {
    if (!group_) return fail(0, path_ + " has no group yet: attach one before choosing the IOMMU");
    const int has = sys_->ioctl(fd_.get(), uapi::kVfioCheckExtension, value(kNesting));
    if (has < 0) return fail(-has, path_ + ": CHECK_EXTENSION");
    if (has == 0) {
      return fail(0, path_ + " offers no nested stages (VFIO_TYPE1_NESTING_IOMMU): the kernel " +
                         "lacks the interface or the IOMMU lacks stage 2");
    }
    const int rc = sys_->ioctl(fd_.get(), uapi::kVfioSetIommu, value(kNesting));
    if (rc < 0) return fail(-rc, path_ + " refused nested stages for " + group_path_);
    return {};
  }

  /// Tell v7 from later revisions and learn which invalidations it takes.
  ///
  /// Needs set_nesting(). Nothing is cached yet, so every call here is harmless; on a live
  /// container (after adopt()) they cost a few extra misses.
  ///
  /// errors   a later revision of the series: it shares numbers but not meanings, so it is refused
  Result<KernelProfile> probe() {
    // v8 reads the same 8 bytes as flags = PASID with archid 0, and refuses that flag.
    const int asid = invalidate(Invalidation::pasid(uapi::kIommuCacheInvTypeIotlb, 1));
    if (asid == -EINVAL) {
      return fail(EINVAL, path_ + " takes no invalidation by plain ASID: this is v8 or later of " +
                              "the nested stage series, and only v7 is spoken here");
    }
    if (asid < 0) {
      return fail(-asid, path_ + " has no CACHE_INVALIDATE as v7 has it");
    }
    KernelProfile p;
    p.tlb_domain = invalidate(Invalidation::domain(uapi::kIommuCacheInvTypeIotlb)) == 0;
    p.cd_cache = invalidate(Invalidation::domain(uapi::kIommuCacheInvTypePasid)) == 0;
    p.dev_iotlb = invalidate(Invalidation::pasid(uapi::kIommuCacheInvTypeDevIotlb, 0)) == 0;
    return p;
  }

  /// Make guest memory reachable at stage 2, readable and writable.
  ///
  /// gpa, size   multiples of the page size; at  where this process has it mapped
  Result<void> map_dma(Gpa gpa, std::uint64_t size, void* at) {
    uapi::vfio_iommu_type1_dma_map map{
        .argsz = sizeof map,
        .flags = uapi::kVfioDmaMapFlagRead | uapi::kVfioDmaMapFlagWrite,
        .vaddr = reinterpret_cast<std::uintptr_t>(at),
        .iova = gpa.value,
        .size = size,
    };
    const int rc = call(uapi::kVfioIommuMapDma, &map);
    if (rc == -ENOMEM) {
      return fail(ENOMEM, where("map", gpa.value, size) + " (raise the locked-memory limit)");
    }
    if (rc < 0) return fail(-rc, where("map", gpa.value, size));
    return {};
  }

  /// Take guest memory away again. A range that cuts a mapping is refused (type1 v2 rule).
  ///
  /// returns  bytes unmapped
  Result<std::uint64_t> unmap_dma(Gpa gpa, std::uint64_t size) {
    uapi::vfio_iommu_type1_dma_unmap unmap{
        .argsz = sizeof unmap, .flags = 0, .iova = gpa.value, .size = size};
    const int rc = call(uapi::kVfioIommuUnmapDma, &unmap);
    if (rc < 0) return fail(-rc, where("unmap", gpa.value, size));
    return unmap.size;
  }

  /// Bind, replace or stop the guest's stage 1; may block while the host's command queue drains.
  ///
  /// returns  0 or the negative errno; -EINVAL also for what v7 cannot express (stage1.h)
  int bind_stage1(const Stage1Config& config) noexcept {
    uapi::vfio_iommu_type1_attach_pasid_table attach = pasid_table(config);
    return call(uapi::kVfioIommuAttachPasidTable, &attach);
  }

  /// Drop stage 1; v7 leaves the device with aborted transactions. 0 or the negative errno.
  int detach_stage1() noexcept { return call(uapi::kVfioIommuDetachPasidTable, nullptr); }

  /// Tell the host where the guest's MSI doorbell is: IOVA and GPA of `size` bytes.
  Result<void> bind_msi(Iova iova, Gpa gpa, std::uint64_t size) {
    uapi::vfio_iommu_type1_bind_msi bind{
        .argsz = sizeof bind, .flags = 0, .iova = iova.value, .gpa = gpa.value, .size = size};
    const int rc = call(uapi::kVfioIommuBindMsi, &bind);
    if (rc < 0) return fail(-rc, where("bind the MSI doorbell", iova.value, size));
    return {};
  }

  Result<void> unbind_msi(Iova iova) {
    uapi::vfio_iommu_type1_unbind_msi unbind{
        .argsz = sizeof unbind, .flags = 0, .iova = iova.value};
    const int rc = call(uapi::kVfioIommuUnbindMsi, &unbind);
    if (rc < 0) return fail(-rc, where("unbind the MSI doorbell", iova.value, 0));
    return {};
  }

  /// hot path: see Invalidation::send().
  int invalidate(Invalidation invalidation) noexcept { return invalidation.send(*sys_, fd_.get()); }

  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  [[nodiscard]] int group_fd() const noexcept { return group_.get(); }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

 private:
  static constexpr std::uintptr_t kNesting = uapi::kVfioType1NestingIommu;

  Container(Sys& sys, UniqueFd<Sys> fd, std::string path)
      : sys_(&sys), fd_(std::move(fd)), path_(std::move(path)) {}

  /// An ioctl argument that is the number itself.
  static void* value(std::uintptr_t number) noexcept { return reinterpret_cast<void*>(number); }

  int call(unsigned long request, void* argument) noexcept {
    return sys_->ioctl(fd_.get(), request, argument);
  }

  [[nodiscard]] std::string where(const char* what, std::uint64_t at, std::uint64_t size) const {
    return path_ + (group_path_.empty() ? "" : " (" + group_path_ + ")") + " refused to " + what +
           " " + std::to_string(size) + " bytes at " + hex(at);
  }

  Sys* sys_;
  UniqueFd<Sys> fd_;
  UniqueFd<Sys> group_;
  std::string path_;
  std::string group_path_;
};

}  // namespace faultline::vfio
