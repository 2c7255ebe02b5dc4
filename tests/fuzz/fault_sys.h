// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <sys/mman.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "kernel/uapi/fault_abi2.h"
#include "kernel/vfio/fault_queue.h"
#include "tests/fuzz/input.h"

namespace faultline::fuzz {

/// A kernel that is nothing but the two fault regions of one device.
///
/// The producer region ends at a page that nobody may touch; only the calls that a FaultRegion
/// makes do anything.
class FaultSys {
 public:
  static constexpr std::size_t kBytes = 0x4000;
  static constexpr std::uint64_t kProdAt = 0, kConsAt = 0x100000;

  FaultSys() {
    void* at = ::mmap(nullptr, kBytes + kPage4K, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED || mprotect(at, kBytes, PROT_READ | PROT_WRITE) != 0) std::abort();
    end_ = static_cast<unsigned char*>(at) + kBytes;
  }
  FaultSys(const FaultSys&) = delete;
  FaultSys& operator=(const FaultSys&) = delete;

  /// Room for a queue: `bytes` zeroed ones that end where nothing may be touched.
  void clear(std::size_t bytes) {
    if (bytes > kBytes) std::abort();
    producer_ = end_ - bytes;
    std::memset(producer_, 0, bytes);
    std::memset(consumer, 0, sizeof consumer);
  }
  [[nodiscard]] unsigned char* producer() const { return producer_; }

  // The calls.
  std::intptr_t mmap(void*, std::size_t, int, int, int, off_t at) noexcept {
    return reinterpret_cast<std::intptr_t>(at == kProdAt ? producer_ : consumer);
  }
  ssize_t pread(int, void* out, std::size_t size, off_t at) noexcept {
    hold(at == kProdAt + 16 && size == 4, "a read of something else than prod");
    if (fail_reads > 0) return --fail_reads % 2 == 0 ? -EIO : 2;
    std::memcpy(out, &prod, 4);
    return 4;
  }
  ssize_t pwrite(int, const void* in, std::size_t size, off_t at) noexcept {
    hold(at == kConsAt && size == sizeof(uapi::vfio_region_fault_cons),
         "a write of something else");
    uapi::vfio_region_fault_cons written{};
    std::memcpy(&written, in, size);
    hold(written.version == 1, "the ABI is chosen again");
    last_write = written.cons;
    const bool fails = fail_writes > 0 && fail_writes-- > 0;
    if (!fails || failed_writes_count) cons = written.cons;
    ++writes;
    return fails ? -EIO : static_cast<ssize_t>(size);
  }
  int open(const char*, int) noexcept { return -ENOSYS; }
  int close(int) noexcept { return -ENOSYS; }
  int ioctl(int, unsigned long, void*) noexcept { return -ENOSYS; }
  int munmap(void*, std::size_t) noexcept { return 0; }
  ssize_t read(int, void*, std::size_t) noexcept { return -ENOSYS; }
  ssize_t write(int, const void*, std::size_t) noexcept { return -ENOSYS; }
  int eventfd(unsigned, int) noexcept { return -ENOSYS; }
  int epoll_create1(int) noexcept { return -ENOSYS; }
  int epoll_ctl(int, int, int, epoll_event*) noexcept { return -ENOSYS; }
  int epoll_wait(int, epoll_event*, int, int) noexcept { return -ENOSYS; }

  std::uint32_t prod = 0;
  std::uint32_t cons = 0;  ///< as the kernel has it
  std::uint32_t last_write = 0;
  std::uint64_t writes = 0;
  int fail_reads = 0;
  int fail_writes = 0;
  bool failed_writes_count = false;  ///< a write that is said to have failed took effect
  alignas(64) unsigned char consumer[kPage4K] = {};

 private:
  unsigned char* end_ = nullptr;
  unsigned char* producer_ = nullptr;
};
static_assert(Syscalls<FaultSys>);

/// The queue as a restarted engine maps it; `head` bytes lie before the ring.
inline vfio::FaultQueue<FaultSys> map_queue(FaultSys& sys, const vfio::Geometry& geometry,
                                            std::size_t head) {
  vfio::FaultQueue<FaultSys> queue;
  queue.prod_at = FaultSys::kProdAt;
  queue.cons_at = FaultSys::kConsAt;
  queue.geometry = geometry;
  queue.mapped_at = geometry.offset - head;
  using Map = vfio::Mapping<FaultSys>;
  queue.producer = *Map::map(sys, 0, FaultSys::kProdAt, FaultSys::kBytes, PROT_READ, "");
  queue.consumer = *Map::map(sys, 0, FaultSys::kConsAt, kPage4K, PROT_READ, "");
  return queue;
}

/// An empty queue of this shape.
inline vfio::FaultQueue<FaultSys> make_queue(FaultSys& sys, const vfio::Geometry& geometry,
                                             std::size_t head) {
  sys.clear(head + std::size_t{geometry.entries} * geometry.entry_size);
  return map_queue(sys, geometry, head);
}

}  // namespace faultline::fuzz
