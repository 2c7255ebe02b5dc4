// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <sys/mman.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "kernel/base/result.h"
#include "kernel/base/shared.h"
#include "kernel/sys.h"
#include "kernel/uapi/vfio_nested.h"

namespace faultline::vm {

/// QEMU's `edu` device through its VFIO file: a DMA engine with a buffer of 4 KiB.
///
/// A DMA runs when the device's timer does, 100 ms after it was started, whatever its size. One
/// that does not translate QEMU cuts into accesses of 4 bytes, each of which faults.
///
/// source  QEMU docs/specs/edu.rst, hw/misc/edu.c
class Edu {
 public:
  /// fd   of the device, bound to an iommufd and open as long as this object lives
  static Result<Edu> open(int fd, const std::string& name) {
    LinuxSys sys;
    auto config = region(sys, fd, kConfigRegion, name);
    if (!config) return tl::unexpected(std::move(config.error()));
    std::uint16_t command = 0;
    const auto at = static_cast<off_t>(config->offset + kCommand);
    if (sys.pread(fd, &command, sizeof command, at) != sizeof command) {
      return fail(EIO, name + ": reading its configuration");
    }
    command = static_cast<std::uint16_t>(command | kMemoryAndMaster);
    if (sys.pwrite(fd, &command, sizeof command, at) != sizeof command) {
      return fail(EIO, name + ": enabling bus mastering");
    }
    auto bar = region(sys, fd, 0, name);
    if (!bar) return tl::unexpected(std::move(bar.error()));
    const std::intptr_t mapped = sys.mmap(nullptr, bar->size, PROT_READ | PROT_WRITE, MAP_SHARED,
                                          fd, static_cast<off_t>(bar->offset));
    if (mmap_failed(mapped)) return fail(static_cast<int>(-mapped), name + ": mapping BAR 0");
    Edu edu(reinterpret_cast<std::byte*>(mapped), bar->size);
    if ((edu.reg32(kIdentity) & 0xffffU) != 0x00edU) return fail(ENODEV, name + " is no edu");
    return edu;
  }
  Edu(Edu&& other) noexcept : bar_(std::exchange(other.bar_, nullptr)), size_(other.size_) {}
  Edu& operator=(Edu&&) = delete;
  Edu(const Edu&) = delete;
  Edu& operator=(const Edu&) = delete;
  ~Edu() {
    if (bar_ != nullptr) munmap(bar_, size_);
  }

  /// Start a DMA: the device's buffer to memory, or memory to the buffer.
  void start(std::uint64_t iova, std::uint64_t bytes, bool write) {
    reg64(kSource) = write ? kBuffer : iova;
    reg64(kDestination) = write ? iova : kBuffer;
    reg64(kCount) = bytes;
    // The command starts it: after the rest.
    store_release(reg64(kStart), kGo | (write ? kToMemory : 0));
  }
  [[nodiscard]] bool busy() const { return (load_acquire(reg64(kStart)) & kGo) != 0; }

 private:
  static constexpr std::uint32_t kConfigRegion = 7;
  static constexpr std::uint64_t kCommand = 4;
  static constexpr std::uint16_t kMemoryAndMaster = 6;
  static constexpr std::uint64_t kIdentity = 0, kSource = 0x80, kDestination = 0x88, kCount = 0x90,
                                 kStart = 0x98, kBuffer = 0x40000;
  static constexpr std::uint64_t kGo = 1, kToMemory = 2;

  Edu(std::byte* bar, std::size_t size) : bar_(bar), size_(size) {}

  static Result<uapi::vfio_region_info> region(LinuxSys& sys, int fd, std::uint32_t index,
                                               const std::string& name) {
    uapi::vfio_region_info info{};
    info.argsz = sizeof info;
    info.index = index;
    if (const int rc = sys.ioctl(fd, uapi::kVfioDeviceGetRegionInfo, &info); rc < 0) {
      return fail(-rc, name + ": VFIO_DEVICE_GET_REGION_INFO");
    }
    return info;
  }
  [[nodiscard]] std::uint64_t& reg64(std::uint64_t at) const {
    return *reinterpret_cast<std::uint64_t*>(bar_ + at);
  }
  [[nodiscard]] std::uint32_t reg32(std::uint64_t at) const {
    return load_relaxed(*reinterpret_cast<std::uint32_t*>(bar_ + at));
  }

  std::byte* bar_;
  std::size_t size_;
};

}  // namespace faultline::vm
