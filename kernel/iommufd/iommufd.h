// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <fcntl.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kernel/base/result.h"
#include "kernel/base/unique_fd.h"
#include "kernel/base/units.h"
#include "kernel/iommufd/hardware.h"
#include "kernel/iommufd/object.h"
#include "kernel/iommufd/refusal.h"
#include "kernel/sys.h"
#include "kernel/uapi/iommufd_nested.h"

namespace faultline::iommufd {

/// A vEVENTQ or a fault queue and its file, which is closed first: it keeps the object in use.
template <Syscalls Sys>
struct QueueObject {
  Object<Sys> object;
  UniqueFd<Sys> fd;
};

/// One open /dev/iommu: typed calls, one ioctl each. What uses what is GuestIommu's concern.
///
/// Sys      must outlive this object
/// thread   any; the kernel locks
/// source   include/uapi/linux/iommufd.h, drivers/iommu/iommufd/main.c
template <Syscalls Sys>
class Iommufd {
 public:
  static Result<Iommufd> open(Sys& sys, const std::string& path = "/dev/iommu") {
    const int fd = sys.open(path.c_str(), O_RDWR);
    if (fd < 0) return refused(Request::kOpenIommu, -fd, path);
    return Iommufd(sys, fd);
  }
  /// Go on with a descriptor that a VMM or a supervisor passed. It is closed at the end.
  static Iommufd adopt(Sys& sys, int fd) noexcept { return Iommufd(sys, fd); }

  Result<Object<Sys>> alloc_ioas(const std::string& where) {
    uapi::iommu_ioas_alloc a{.size = sizeof a, .flags = 0, .out_ioas_id = 0};
    const int rc = call(uapi::kIommuIoasAlloc, &a);
    return object(Request::kIoasAlloc, rc, a.out_ioas_id, where);
  }

  /// Make guest memory reachable at stage 2.
  ///
  /// gpa, size   multiples of the page size; at  where this process has it mapped
  Result<void> map(std::uint32_t ioas, Gpa gpa, std::uint64_t size, void* at,
                   bool writable = true) {
    uapi::iommu_ioas_map m{.size = sizeof m,
                           .flags = map_flags(writable),
                           .ioas_id = ioas,
                           .reserved = 0,
                           .user_va = reinterpret_cast<std::uintptr_t>(at),
                           .length = size,
                           .iova = gpa.value};
    return done(Request::kMap, call(uapi::kIommuIoasMap, &m), range(gpa, size));
  }
  /// The same straight from a memfd, which need not be mapped here and may go on in another
  /// process.
  Result<void> map_file(std::uint32_t ioas, Gpa gpa, std::uint64_t size, int memfd,
                        std::uint64_t offset, bool writable = true) {
    uapi::iommu_ioas_map_file m{.size = sizeof m,
                                .flags = map_flags(writable),
                                .ioas_id = ioas,
                                .fd = memfd,
                                .start = offset,
                                .length = size,
                                .iova = gpa.value};
    return done(Request::kMapFile, call(uapi::kIommuIoasMapFile, &m), range(gpa, size));
  }
  /// Take guest memory away again. A range that cuts a mapping is refused.
  /// returns  bytes unmapped
  Result<std::uint64_t> unmap(std::uint32_t ioas, Gpa gpa, std::uint64_t size) {
    uapi::iommu_ioas_unmap u{.size = sizeof u, .ioas_id = ioas, .iova = gpa.value, .length = size};
    const int rc = call(uapi::kIommuIoasUnmap, &u);
    if (rc < 0) return refused(Request::kUnmap, -rc, range(gpa, size));
    return u.length;
  }

  /// Where guest memory may lie, given the devices attached so far; inclusive ranges.
  Result<std::vector<uapi::iommu_iova_range>> ranges(std::uint32_t ioas, const std::string& where) {
    std::vector<uapi::iommu_iova_range> out(16);
    // Once too short is normal; twice happens when a device comes in between.
    for (int attempt = 0; attempt < 4; ++attempt) {
      uapi::iommu_ioas_iova_ranges r{.size = sizeof r,
                                     .ioas_id = ioas,
                                     .num_iovas = static_cast<std::uint32_t>(out.size()),
                                     .reserved = 0,
                                     .allowed_iovas = reinterpret_cast<std::uintptr_t>(out.data()),
                                     .out_iova_alignment = 0};
      const int rc = call(uapi::kIommuIoasIovaRanges, &r);
      if (rc < 0 && rc != -EMSGSIZE) return refused(Request::kIovaRanges, -rc, where);
      if (rc == 0 && r.num_iovas <= out.size()) {
        out.resize(r.num_iovas);
        return out;
      }
      if (r.num_iovas > kMostRanges) break;
      out.resize(r.num_iovas);
    }
    return fail(0, where + ": IOMMU_IOAS_IOVA_RANGES has ever more of them");
  }

  /// What stands in front of a device.
  Result<Hardware> hardware(std::uint32_t dev_id, const std::string& where) {
    // Large enough for every type; the kernel zeroes what it does not fill.
    union {
      uapi::iommu_hw_info_arm_smmuv3 smmu;
      uapi::iommu_hw_info_vtd vtd;
    } data{};
    uapi::iommu_hw_info info{};
    info.size = sizeof info;
    info.dev_id = dev_id;
    info.data_len = sizeof data;
    info.data_uptr = reinterpret_cast<std::uintptr_t>(&data);
    const int rc = call(uapi::kIommuGetHwInfo, &info);
    if (rc < 0) return refused(Request::kHwInfo, -rc, where);
    Hardware h;
    h.type = info.out_data_type;
    h.capabilities = info.out_capabilities;
    h.max_pasid_log2 = info.out_max_pasid_log2;
    switch (info.out_data_type) {
      case uapi::kIommuHwInfoTypeNone:
        break;
      case uapi::kIommuHwInfoTypeArmSmmuv3:
        h.kind = Hardware::Kind::kSmmuV3;
        h.smmu = data.smmu;
        break;
      case uapi::kIommuHwInfoTypeIntelVtd:
        h.kind = Hardware::Kind::kVtd;
        h.vtd = data.vtd;
        break;
      default:
        h.kind = Hardware::Kind::kOther;
    }
    return h;
  }

  /// Stage 2 over an IOAS, fit to be the parent of nested tables.
  Result<Object<Sys>> alloc_nest_parent(std::uint32_t dev_id, std::uint32_t ioas,
                                        const std::string& where) {
    uapi::iommu_hwpt_alloc a = hwpt(dev_id, ioas, uapi::kIommuHwptAllocNestParent);
    const int rc = call(uapi::kIommuHwptAlloc, &a);
    return object(Request::kNestParent, rc, a.out_hwpt_id, where);
  }
  Result<Object<Sys>> alloc_viommu(std::uint32_t dev_id, std::uint32_t parent,
                                   const std::string& where) {
    uapi::iommu_viommu_alloc a{};
    a.size = sizeof a;
    a.type = uapi::kIommuViommuTypeArmSmmuv3;
    a.dev_id = dev_id;
    a.hwpt_id = parent;
    const int rc = call(uapi::kIommuViommuAlloc, &a);
    return object(Request::kViommu, rc, a.out_viommu_id, where);
  }
  Result<Object<Sys>> alloc_vdevice(std::uint32_t viommu, std::uint32_t dev_id, StreamId vsid,
                                    const std::string& where) {
    uapi::iommu_vdevice_alloc a{.size = sizeof a,
                                .viommu_id = viommu,
                                .dev_id = dev_id,
                                .out_vdevice_id = 0,
                                .virt_id = vsid.value};
    const int rc = call(uapi::kIommuVdeviceAlloc, &a);
    return object(Request::kVdevice, rc, a.out_vdevice_id, where);
  }

  /// A nested table from stream table words that stage1.h made.
  ///
  /// fault_id  a fault queue for its page requests; 0: none
  /// out       left alone on failure
  /// returns   0 or the negative errno
  int alloc_nested(std::uint32_t dev_id, std::uint32_t viommu, uapi::iommu_hwpt_arm_smmuv3 ste,
                   std::uint32_t fault_id, Object<Sys>& out) noexcept {
    uapi::iommu_hwpt_alloc a =
        hwpt(dev_id, viommu, fault_id != 0 ? uapi::kIommuHwptFaultIdValid : 0);
    a.data_type = uapi::kIommuHwptDataArmSmmuv3;
    a.data_len = sizeof ste;
    a.data_uptr = reinterpret_cast<std::uintptr_t>(&ste);
    a.fault_id = fault_id;
    const int rc = call(uapi::kIommuHwptAlloc, &a);
    if (rc < 0) return rc;
    out = Object<Sys>(*sys_, fd_.get(), a.out_hwpt_id);
    return 0;
  }

  /// depth  events that the kernel keeps before it loses some
  Result<QueueObject<Sys>> alloc_veventq(std::uint32_t viommu, std::uint32_t depth,
                                         const std::string& where) {
    uapi::iommu_veventq_alloc a{};
    a.size = sizeof a;
    a.viommu_id = viommu;
    a.type = uapi::kIommuVeventqTypeArmSmmuv3;
    a.veventq_depth = depth;
    const int rc = call(uapi::kIommuVeventqAlloc, &a);
    if (rc < 0) return refused(Request::kVeventq, -rc, where);
    return file(a.out_veventq_id, a.out_veventq_fd);
  }
  Result<QueueObject<Sys>> alloc_fault_queue(const std::string& where) {
    uapi::iommu_fault_alloc a{.size = sizeof a, .flags = 0, .out_fault_id = 0, .out_fault_fd = 0};
    const int rc = call(uapi::kIommuFaultQueueAlloc, &a);
    if (rc < 0) return refused(Request::kFaultQueue, -rc, where);
    return file(a.out_fault_id, a.out_fault_fd);
  }

  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  [[nodiscard]] Sys& sys() const noexcept { return *sys_; }

 private:
  static constexpr std::uint32_t kMostRanges = 65536;

  Iommufd(Sys& sys, int fd) noexcept : sys_(&sys), fd_(sys, fd) {}

  int call(unsigned long request, void* argument) noexcept {
    return sys_->ioctl(fd_.get(), request, argument);
  }
  static std::uint32_t map_flags(bool writable) noexcept {
    return uapi::kIommuIoasMapFixedIova | uapi::kIommuIoasMapReadable |
           (writable ? uapi::kIommuIoasMapWriteable : 0U);
  }
  static uapi::iommu_hwpt_alloc hwpt(std::uint32_t dev_id, std::uint32_t pt_id,
                                     std::uint32_t flags) noexcept {
    uapi::iommu_hwpt_alloc a{};
    a.size = sizeof a;
    a.flags = flags;
    a.dev_id = dev_id;
    a.pt_id = pt_id;
    return a;
  }
  static std::string range(Gpa gpa, std::uint64_t size) {
    return std::to_string(size) + " bytes of guest memory at " + hex(gpa.value);
  }
  static Result<void> done(Request request, int rc, const std::string& where) {
    if (rc < 0) return refused(request, -rc, where);
    return {};
  }
  Result<Object<Sys>> object(Request request, int rc, std::uint32_t id, const std::string& where) {
    if (rc < 0) return refused(request, -rc, where);
    return Object<Sys>(*sys_, fd_.get(), id);
  }
  QueueObject<Sys> file(std::uint32_t id, std::uint32_t fd) noexcept {
    return {Object<Sys>(*sys_, fd_.get(), id), UniqueFd<Sys>(*sys_, static_cast<int>(fd))};
  }

  Sys* sys_;
  UniqueFd<Sys> fd_;
};

}  // namespace faultline::iommufd
