// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "kernel/soft/device.h"
#include "kernel/soft/file.h"
#include "kernel/soft/kernel.h"

namespace faultline::soft {

/// /dev/vfio/vfio.
class ContainerFile : public File {
 public:
  explicit ContainerFile(std::shared_ptr<Container> container) : container_(std::move(container)) {}
  int ioctl(unsigned long request, UserCall& call) noexcept override {
    return container_->ioctl(request, call);
  }
  [[nodiscard]] std::shared_ptr<Container> container() const { return container_; }

 private:
  std::shared_ptr<Container> container_;
};

/// /dev/vfio/<n>.
class GroupFile : public File {
 public:
  GroupFile(Kernel& kernel, Group& group) noexcept : kernel_(kernel), group_(group) {}
  ~GroupFile() override { kernel_.group_closed(group_); }
  int ioctl(unsigned long request, UserCall& call) noexcept override;

 private:
  Kernel& kernel_;
  Group& group_;
};

/// What GROUP_GET_DEVICE_FD gives: regions and interrupts of one device.
///
/// Regions: 0 the BAR, 7 a small configuration space, 9 and 10 the fault regions.
/// source   v7's vfio_pci_ioctl(), vfio_pci_rw(), vfio_pci_mmap()
class DeviceFile : public File {
 public:
  static constexpr std::uint32_t kBar = 0, kConfig = 7, kProducer = 9, kConsumer = 10;
  static constexpr std::uint32_t kRegions = 11;
  static constexpr unsigned kOffsetShift = 40;

  DeviceFile(Kernel& kernel, Group& group, Device& device) noexcept
      : kernel_(kernel), group_(group), device_(device) {}
  ~DeviceFile() override { kernel_.device_closed(group_, device_); }

  int ioctl(unsigned long request, UserCall& call) noexcept override;
  ssize_t pread(void* out, std::size_t size, off_t at) noexcept override;
  ssize_t pwrite(const void* in, std::size_t size, off_t at) noexcept override;
  int mmap(std::size_t size, int prot, int flags, off_t at,
           RegionMapping& mapping) noexcept override;

 private:
  int get_info(UserCall& call);
  int get_region_info(UserCall& call);
  std::vector<std::byte> capabilities(std::uint32_t index);
  int get_irq_info(UserCall& call);
  int set_irqs(UserCall& call);
  int set_dma_fault_irq(std::uint32_t data, std::uint32_t count, UserCall& call);
  [[nodiscard]] bool mutated(Mutation mutation) const {
    return kernel_.config().mutation == mutation;
  }

  Kernel& kernel_;
  Group& group_;
  Device& device_;
};

}  // namespace faultline::soft
