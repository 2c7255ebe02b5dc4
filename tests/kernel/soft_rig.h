// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernel/soft/soft_kernel.h"
#include "kernel/soft/soft_sys.h"
#include "kernel/uapi/vfio_nested.h"
#include "tests/kernel/soft_guest.h"

namespace faultline::soft {

inline SoftKernelConfig one_device() {
  SoftKernelConfig config;
  config.devices = {{"0000:00:01.0", 1, 0x10, 0}};
  return config;
}

/// A soft kernel in this process.
struct InProcess {
  using Sys = SoftSys;
  /// What a file of the kernel is where an eventfd is due: its number means nothing to Linux.
  static constexpr int kForeignDescriptor = -EBADF;

  explicit InProcess(SoftKernelConfig config)
      : kernel(SoftKernel::create(std::move(config)).value()),
        sys(std::make_unique<SoftSys>(*kernel)) {
    kernel->start();
  }
  [[nodiscard]] SoftKernel& view() const { return *kernel; }

  std::unique_ptr<SoftKernel> kernel;
  std::unique_ptr<SoftSys> sys;
};

/// Calls of the interface with their arguments filled in; each returns what the call returned.
template <class Sys>
struct Calls {
  Sys& sys;

  int set_container(int group, int container) {
    return sys.ioctl(group, uapi::kVfioGroupSetContainer, &container);
  }
  int set_iommu(int container, unsigned type = uapi::kVfioType1NestingIommu) {
    return sys.ioctl(container, uapi::kVfioSetIommu, reinterpret_cast<void*>(std::uintptr_t{type}));
  }
  int get_device(int group, const char* name) {
    std::string copy = name;
    return sys.ioctl(group, uapi::kVfioGroupGetDeviceFd, copy.data());
  }
  int map_dma(int container, void* memory, std::uint64_t iova, std::uint64_t size,
              std::uint32_t flags = 3) {
    uapi::vfio_iommu_type1_dma_map map{sizeof map, flags, reinterpret_cast<std::uintptr_t>(memory),
                                       iova, size};
    return sys.ioctl(container, uapi::kVfioIommuMapDma, &map);
  }
  /// returns  bytes unmapped, or -errno
  std::int64_t unmap_dma(int container, std::uint64_t iova, std::uint64_t size) {
    uapi::vfio_iommu_type1_dma_unmap unmap{sizeof unmap, 0, iova, size};
    const int result = sys.ioctl(container, uapi::kVfioIommuUnmapDma, &unmap);
    return result < 0 ? result : static_cast<std::int64_t>(unmap.size);
  }
  static uapi::vfio_iommu_type1_attach_pasid_table table(std::uint64_t base,
                                                         std::uint8_t config = 1) {
    uapi::vfio_iommu_type1_attach_pasid_table t{};
    t.argsz = sizeof t;
    t.config.version = 1;
    t.config.format = 1;
    t.config.base_ptr = base;
    t.config.config = config;
    t.config.smmuv3.version = 1;
    return t;
  }
  int attach(int container, uapi::vfio_iommu_type1_attach_pasid_table t) {
    return sys.ioctl(container, uapi::kVfioIommuAttachPasidTable, &t);
  }
  int attach(int container, std::uint64_t base, std::uint8_t config = 1) {
    return attach(container, table(base, config));
  }
  int detach(int container) {
    return sys.ioctl(container, uapi::kVfioIommuDetachPasidTable, nullptr);
  }
  int invalidate(int container, uapi::iommu_cache_invalidate_info info) {
    uapi::vfio_iommu_type1_cache_invalidate inv{};
    inv.argsz = sizeof inv;
    inv.info = info;
    inv.info.version = 1;
    return sys.ioctl(container, uapi::kVfioIommuCacheInvalidate, &inv);
  }
  int invalidate_domain(int container, std::uint8_t cache = 1) {
    uapi::iommu_cache_invalidate_info info{};
    info.cache = cache;
    info.granularity = uapi::kIommuInvGranuDomain;
    return invalidate(container, info);
  }
  int invalidate_pasid(int container, std::uint64_t pasid, std::uint8_t cache = 1) {
    uapi::iommu_cache_invalidate_info info{};
    info.cache = cache;
    info.granularity = uapi::kIommuInvGranuPasid;
    info.pasid = pasid;
    return invalidate(container, info);
  }
  int invalidate_pages(int container, std::uint64_t pasid, std::uint64_t addr, std::uint64_t pages,
                       std::uint8_t cache = 1, std::uint64_t granule = 4096,
                       std::uint32_t flags = uapi::kIommuInvAddrFlagsPasid) {
    uapi::iommu_cache_invalidate_info info{};
    info.cache = cache;
    info.granularity = uapi::kIommuInvGranuAddr;
    info.addr_info = {flags, 0, pasid, addr, granule, pages};
    return invalidate(container, info);
  }
  int bind_msi(int container, std::uint64_t iova, std::uint64_t gpa, std::uint64_t size = 4096) {
    uapi::vfio_iommu_type1_bind_msi bind{sizeof bind, 0, iova, gpa, size};
    return sys.ioctl(container, uapi::kVfioIommuBindMsi, &bind);
  }
  int unbind_msi(int container, std::uint64_t iova) {
    uapi::vfio_iommu_type1_unbind_msi unbind{sizeof unbind, 0, iova};
    return sys.ioctl(container, uapi::kVfioIommuUnbindMsi, &unbind);
  }
  int set_eventfd(int device, int fd) {
    struct {
      uapi::vfio_irq_set set;
      std::int32_t fd;
    } argument{{sizeof argument, uapi::kVfioIrqSetDataEventfd | uapi::kVfioIrqSetActionTrigger,
                uapi::kVfioPciDmaFaultIrqIndex, 0, 1},
               fd};
    return sys.ioctl(device, uapi::kVfioDeviceSetIrqs, &argument);
  }
};

/// A guest with one device, assigned, its memory mapped and its BAR programmable.
template <class Where>
class Rig {
 public:
  static constexpr std::uint64_t kRam = 0x40000000;
  static constexpr std::size_t kRamSize = 4UL << 20U;
  static constexpr std::uint16_t kAsid = 5;
  static constexpr off_t kProd = off_t{9} << 40U, kCons = off_t{10} << 40U;

  explicit Rig(SoftKernelConfig config = one_device())
      : name_(config.devices[0].name), where(std::move(config)), sys(*where.sys), calls{sys} {
    container = sys.open("/dev/vfio/vfio", O_RDWR);
    group = sys.open("/dev/vfio/1", O_RDWR);
    EXPECT_EQ(calls.set_container(group, container), 0);
    EXPECT_EQ(calls.set_iommu(container), 0);
    device = calls.get_device(group, name_.c_str());
    EXPECT_GE(device, 0);
    bar = map(device, kDmaBarSize, 0, PROT_READ | PROT_WRITE);
    dma = std::make_unique<DmaClient>(bar);
    EXPECT_TRUE(dma->usable());
    memfd_ = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    EXPECT_EQ(ftruncate(memfd_, kRamSize), 0);
    ram = map(memfd_, kRamSize, 0, PROT_READ | PROT_WRITE);
    EXPECT_EQ(calls.map_dma(container, ram, kRam, kRamSize), 0);
    guest = std::make_unique<GuestTables>(ram, kRamSize, kRam);
    guest->write_cd(kAsid);
  }
  ~Rig() {
    for (const int fd : {device, group, container}) sys.close(fd);
    for (const auto& [at, size] : maps_) sys.munmap(at, size);
    ::close(memfd_);
  }
  Rig(const Rig&) = delete;
  Rig& operator=(const Rig&) = delete;

  void* map(int fd, std::size_t size, off_t at, int prot) {
    const std::intptr_t p = sys.mmap(nullptr, size, prot, MAP_SHARED, fd, at);
    EXPECT_FALSE(mmap_failed(p)) << p;
    maps_.emplace_back(reinterpret_cast<void*>(p), size);
    return reinterpret_cast<void*>(p);
  }

  /// Have the device make one access and wait for it, at most 10 s.
  DmaCompletion run(DmaRequest request) {
    request.cookie = ++cookie_;
    EXPECT_TRUE(dma->submit(request));
    dma->ring();
    DmaCompletion completion;
    for (int i = 0; i < 100; ++i) {
      if (dma->complete({&completion, 1}) == 1) {
        EXPECT_EQ(completion.cookie, request.cookie);
        return completion;
      }
      dma->wait(100'000'000);
    }
    ADD_FAILURE() << "the device did not answer";
    return completion;
  }
  DmaCompletion read(std::uint64_t iova) { return run({.iova = iova}); }
  DmaCompletion write(std::uint64_t iova, std::uint64_t value) {
    return run({.iova = iova, .value = value, .flags = DmaRequest::kWrite});
  }
  /// A page of guest memory holding `value` in its first word.
  std::uint64_t page_with(std::uint64_t value) {
    const std::uint64_t page = guest->page();
    store_relaxed(guest->word(page), value);
    return page;
  }
  /// Bind stage 1 and choose an ABI: faults then arrive.
  void go(std::uint32_t abi = 1) {
    EXPECT_EQ(calls.attach(container, guest->cd()), 0);
    EXPECT_EQ(choose(abi), 4);
  }
  ssize_t choose(std::uint32_t abi) { return sys.pwrite(device, &abi, sizeof abi, kCons); }
  ssize_t consume(std::uint32_t cons) { return sys.pwrite(device, &cons, sizeof cons, kCons + 4); }
  uapi::vfio_region_fault_prod header() {
    uapi::vfio_region_fault_prod h{};
    EXPECT_EQ(sys.pread(device, &h, sizeof h, kProd), static_cast<ssize_t>(sizeof h));
    return h;
  }
  uapi::iommu_fault record(std::uint32_t slot) {
    uapi::iommu_fault f{};
    const auto at = static_cast<off_t>(4096 + slot * sizeof f);
    EXPECT_EQ(sys.pread(device, &f, sizeof f, kProd + at), static_cast<ssize_t>(sizeof f));
    return f;
  }

 private:
  std::string name_;

 public:
  Where where;
  typename Where::Sys& sys;
  Calls<typename Where::Sys> calls;
  int container = -1, group = -1, device = -1;
  void* bar = nullptr;
  void* ram = nullptr;
  std::unique_ptr<DmaClient> dma;
  std::unique_ptr<GuestTables> guest;

 private:
  int memfd_ = -1;
  std::uint64_t cookie_ = 0;
  std::vector<std::pair<void*, std::size_t>> maps_;
};

}  // namespace faultline::soft
