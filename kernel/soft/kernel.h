// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

#include "kernel/base/shared.h"
#include "kernel/soft/container.h"
#include "kernel/soft/device.h"
#include "kernel/soft/soft_kernel.h"

namespace faultline::soft {

/// An IOMMU group. Guarded by the kernel's lock.
struct Group {
  unsigned number = 0;
  std::vector<Device*> devices;
  std::shared_ptr<Container> container;  ///< null: none set
  unsigned users = 0;  ///< v7's container_users: 1 for the container, 1 per open device file
  bool open = false;
};

/// Counters of the control paths; in shared memory.
struct KernelShare {
  std::uint64_t invalidations = 0, entries_removed = 0, would_hang = 0;
};

/// What SoftKernel hides: all devices and groups, and how files are opened and closed.
///
/// thread   any. Lock order: mutex_ → a container's → a unit's; a device's run lock → a unit's
class Kernel {
 public:
  static Result<std::unique_ptr<Kernel>> create(SoftKernelConfig config);
  Kernel(SoftKernelConfig config, SharedMemory share);

  [[nodiscard]] const SoftKernelConfig& config() const noexcept { return config_; }
  [[nodiscard]] std::vector<std::unique_ptr<Device>>& devices() noexcept { return devices_; }
  [[nodiscard]] SoftKernelStats stats() const;

  int open(std::string_view path, FilePtr& file);

  // Of groups and devices, for their files.
  int set_container(Group& group, UserCall& call);
  int unset_container(Group& group);
  int get_device(Group& group, UserCall& call);
  std::uint32_t group_flags(Group& group);
  void group_closed(Group& group);
  void device_closed(Group& group, Device& device);

  std::uint16_t new_vmid() noexcept { return next_vmid_.fetch_add(1, std::memory_order_relaxed); }
  /// Handle of the physical MSI doorbell: nothing is ever stored through it.
  [[nodiscard]] std::uint64_t doorbell() const noexcept {
    return reinterpret_cast<std::uintptr_t>(share_.data());
  }
  void count(std::uint64_t KernelShare::*counter, std::uint64_t n = 1) noexcept {
    std::atomic_ref(static_cast<KernelShare*>(share_.data())->*counter)
        .fetch_add(n, std::memory_order_relaxed);
  }

 private:
  static Result<DeviceMemory> make_memory(const SoftKernelConfig& config);
  [[nodiscard]] DeviceShare& device_share(std::size_t i) const noexcept;
  void drop_user(Group& group);

  const SoftKernelConfig config_;
  SharedMemory share_;  ///< KernelShare, then a DeviceShare each
  std::mutex mutex_;
  std::vector<std::unique_ptr<Device>> devices_;
  std::map<unsigned, Group> groups_;
  std::map<const Device*, unsigned> open_files_;
  std::atomic<std::uint16_t> next_vmid_{1};
};

}  // namespace faultline::soft
