// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <utility>

#include "kernel/iommufd/iommufd.h"
#include "kernel/sys.h"
#include "kernel/uapi/abi.h"
#include "kernel/uapi/iommufd_nested.h"

namespace faultline::vm {

/// The ioctl of kernels with CONFIG_IOMMUFD_TEST, by which their mock devices are made and driven.
///
/// source  Linux drivers/iommu/iommufd/iommufd_test.h
struct iommu_test_cmd {
  std::uint32_t size;
  std::uint32_t op;
  std::uint32_t id;
  std::uint32_t reserved;
  std::uint32_t arg[12];  ///< a union of what each operation takes
  std::uint32_t last;
  std::uint32_t padding;
};
ABI_STRUCT(iommu_test_cmd, 72);
ABI_FIELD(iommu_test_cmd, arg, 16, 48);
ABI_FIELD(iommu_test_cmd, last, 64, 4);

inline constexpr unsigned long kIommuTestCmd = uapi::iommufd_io(32);
inline constexpr std::uint32_t kMockDomain = 2, kMockDomainReplace = 10, kTriggerIopf = 15,
                               kTriggerVevent = 17;
inline constexpr std::uint32_t kSelftest = 0xdeadbeef;         ///< vIOMMU and invalidation type
inline constexpr std::uint32_t kSelftestVeventq = 0xbeefbeef;  ///< vEVENTQ type
inline constexpr std::uint32_t kSelftestTable = 0xdead;        ///< nested table type

/// An iommufd with one mock device; its objects go with its descriptor.
class MockKernel {
 public:
  explicit MockKernel(LinuxSys& sys) : sys_(&sys) {
    auto opened = iommufd::Iommufd<LinuxSys>::open(sys);
    if (!opened) return;
    iommufd_.emplace(std::move(*opened));
    uapi::iommu_ioas_alloc ioas{.size = sizeof ioas, .flags = 0, .out_ioas_id = 0};
    if (ioctl(uapi::kIommuIoasAlloc, &ioas) != 0) return;
    iommu_test_cmd made = command(kMockDomain, ioas.out_ioas_id, {});
    if (ioctl(kIommuTestCmd, &made) != 0) return;
    stdev_ = made.arg[0];
    device_ = made.arg[2];
    uapi::iommu_hwpt_alloc parent{};
    parent.size = sizeof parent;
    parent.flags = uapi::kIommuHwptAllocNestParent;
    parent.dev_id = device_;
    parent.pt_id = ioas.out_ioas_id;
    if (ioctl(uapi::kIommuHwptAlloc, &parent) != 0) return;
    uapi::iommu_viommu_alloc viommu{};
    viommu.size = sizeof viommu;
    viommu.type = kSelftest;
    viommu.dev_id = device_;
    viommu.hwpt_id = parent.out_hwpt_id;
    if (ioctl(uapi::kIommuViommuAlloc, &viommu) != 0) return;
    viommu_ = viommu.out_viommu_id;
    uapi::iommu_vdevice_alloc vdevice{};
    vdevice.size = sizeof vdevice;
    vdevice.viommu_id = viommu_;
    vdevice.dev_id = device_;
    vdevice.virt_id = kVirtId;
    if (ioctl(uapi::kIommuVdeviceAlloc, &vdevice) == 0) ready_ = true;
  }

  static constexpr std::uint64_t kVirtId = 0x42;

  /// A nested table attached to the device; 0 on failure.
  std::uint32_t attach_nested(std::uint32_t fault_queue) {
    const std::uint32_t data[2] = {0xbadbeef, 0};
    uapi::iommu_hwpt_alloc nested{};
    nested.size = sizeof nested;
    nested.flags = fault_queue != 0 ? uapi::kIommuHwptFaultIdValid : 0;
    nested.dev_id = device_;
    nested.pt_id = viommu_;
    nested.data_type = kSelftestTable;
    nested.data_len = sizeof data;
    nested.data_uptr = reinterpret_cast<std::uintptr_t>(data);
    nested.fault_id = fault_queue;
    if (ioctl(uapi::kIommuHwptAlloc, &nested) != 0) return 0;
    iommu_test_cmd attach = command(kMockDomainReplace, stdev_, {nested.out_hwpt_id});
    return ioctl(kIommuTestCmd, &attach) == 0 ? nested.out_hwpt_id : 0;
  }
  int page_request(std::uint32_t pasid, std::uint32_t group, std::uint32_t perm,
                   std::uint64_t addr) {
    iommu_test_cmd c = command(kTriggerIopf, 0,
                               {device_, pasid, group, perm, static_cast<std::uint32_t>(addr),
                                static_cast<std::uint32_t>(addr >> 32U)});
    return ioctl(kIommuTestCmd, &c);
  }
  int event() {
    iommu_test_cmd c = command(kTriggerVevent, 0, {device_});
    return ioctl(kIommuTestCmd, &c);
  }
  int ioctl(unsigned long request, void* argument) {
    return sys_->ioctl(iommufd_->fd(), request, argument);
  }

  [[nodiscard]] bool ready() const { return ready_; }
  [[nodiscard]] std::uint32_t device() const { return device_; }
  [[nodiscard]] std::uint32_t viommu() const { return viommu_; }
  [[nodiscard]] iommufd::Iommufd<LinuxSys>& iommufd() { return *iommufd_; }

 private:
  static iommu_test_cmd command(std::uint32_t op, std::uint32_t id,
                                std::initializer_list<std::uint32_t> args) {
    iommu_test_cmd c{};
    c.size = sizeof c;
    c.op = op;
    c.id = id;
    std::size_t i = 0;
    for (const std::uint32_t a : args) c.arg[i++] = a;
    return c;
  }

  LinuxSys* sys_;
  std::optional<iommufd::Iommufd<LinuxSys>> iommufd_;
  std::uint32_t stdev_ = 0, device_ = 0, viommu_ = 0;
  bool ready_ = false;
};

}  // namespace faultline::vm
