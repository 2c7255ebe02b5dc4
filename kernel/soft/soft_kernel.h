// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernel/base/clock.h"
#include "kernel/base/result.h"
#include "kernel/soft/dma_bar.h"
#include "kernel/soft/mutation.h"
#include "kernel/soft/user_call.h"

namespace faultline::soft {

struct SoftDeviceConfig {
  std::string name;               ///< as GROUP_GET_DEVICE_FD is asked: "0000:00:01.0"
  unsigned group = 0;             ///< /dev/vfio/<group>
  std::uint32_t stream_id = 0;    ///< the host's
  std::uint32_t atc_entries = 0;  ///< ATS: translations the device caches itself; 0 = no ATS
};

struct SoftKernelConfig {
  std::vector<SoftDeviceConfig> devices;
  std::uint32_t max_fault_abi = 2;  ///< 1: exactly the seed's v7; 2: also doc/fault-abi-2.md
  bool quirks_v7 = false;  ///< answer as v7's code did, where that departs from its documentation;
                           ///< ATS is then off, as it was in Linux 5.1
  std::uint64_t seed = 1;  ///< of how much of its ring a device serves at a time
  std::uint32_t tlb_sets = 64;     ///< of 8; per container; a power of two, or 0: no TLB
  std::uint32_t walk_sets = 64;    ///< of 4; likewise
  std::uint32_t config_sets = 16;  ///< of 4; likewise
  std::uint32_t max_dma_maps = 65535;
  std::uint32_t ledger_entries = 4096;  ///< per device
  Mutation mutation = Mutation::kNone;
  /// Every n-th CACHE_INVALIDATE of a container does nothing and returns -EIO; 0: none does.
  std::uint32_t fail_invalidation_every = 0;
  std::function<Nanos()> clock;  ///< empty: CLOCK_MONOTONIC
  /// Called between an access's translation and the access itself, without locks: lets a test hold
  /// an access in flight. Argument: device.
  std::function<void(std::size_t)> access_hook;
};

/// Counters of the whole kernel; in shared memory, so that they can be read after a fork.
struct SoftKernelStats {
  std::uint64_t invalidations = 0;    ///< CACHE_INVALIDATE calls that did something
  std::uint64_t entries_removed = 0;  ///< by them
  std::uint64_t would_hang = 0;       ///< calls refused that make v7 run away
  std::uint64_t accesses = 0;         ///< DMA requests executed
  std::uint64_t faults = 0;           ///< of them: with an event
  std::uint64_t produced = 0;         ///< records handed to userspace
  std::uint64_t dropped = 0;          ///< events due that were dropped
  std::uint64_t msi = 0;              ///< writes that reached a doorbell
  std::uint64_t bad_index = 0;        ///< impossible indices of drivers
};

class Kernel;

/// The software kernel: the seed's VFIO interface over the two-stage IOMMU model, with devices that
/// issue DMA. Userspace reaches it through SoftSys (in process) or SoftProcess (its own process).
///
/// thread   everything may be called from any thread, except where it says otherwise
class SoftKernel {
 public:
  /// Make all devices with their BARs, fault regions and ledgers. No threads are started and no DMA
  /// happens, so it may be followed by a fork: whatever both sides see is shared memory.
  ///
  /// errors   EINVAL no device, names, groups or StreamIDs that clash, sizes; what mmap says
  static Result<std::unique_ptr<SoftKernel>> create(SoftKernelConfig config);
  ~SoftKernel();
  SoftKernel(const SoftKernel&) = delete;
  SoftKernel& operator=(const SoftKernel&) = delete;

  /// Start, and stop, the devices' threads: from then on they serve their BARs. stop() returns
  /// after the last access; both are idempotent. thread: one at a time
  void start();
  void stop();

  [[nodiscard]] std::size_t devices() const noexcept;
  [[nodiscard]] const SoftKernelConfig& config() const noexcept;

  /// Execute one request of device `i` now, as its thread would: deterministic, needs no threads.
  /// Does not wait for room in an attached ledger: without, that entry is not written.
  DmaCompletion dma(std::size_t i, const DmaRequest& request);

  /// BAR 0 of device `i` as this process maps it (kDmaBarSize), and its ledger for a LedgerReader.
  /// Shared memory: the same pages in every process forked after create().
  [[nodiscard]] void* bar(std::size_t i) noexcept;
  [[nodiscard]] void* ledger(std::size_t i) noexcept;

  /// The BAR's memory, for a VMM that shows it to its guest. Stays the kernel's.
  [[nodiscard]] int bar_fd(std::size_t i) const noexcept;

  /// MSI messages that reached a doorbell: how many, and the last one's data. Shared memory.
  struct Msi {
    std::uint64_t count = 0;
    std::uint64_t data = 0;
  };
  [[nodiscard]] Msi msi(std::size_t i) const noexcept;
  [[nodiscard]] SoftKernelStats stats() const noexcept;

  /// Descriptors that the kernel itself needs; everything else may be closed after a fork.
  [[nodiscard]] std::vector<int> descriptors() const;

  // ---- the kernel side of a system call; returns as the raw call, fds excepted ----------------

  /// errors   -ENOENT no such path; -EBUSY group open already
  int open(const char* path, FilePtr& file) noexcept;
  int ioctl(const FilePtr& file, unsigned long request, UserCall& call) noexcept;
  ssize_t pread(const FilePtr& file, void* out, std::size_t size, off_t at) noexcept;
  ssize_t pwrite(const FilePtr& file, const void* in, std::size_t size, off_t at) noexcept;
  int mmap(const FilePtr& file, std::size_t size, int prot, int flags, off_t at,
           RegionMapping& mapping) noexcept;

 private:
  explicit SoftKernel(std::unique_ptr<Kernel> kernel);
  std::unique_ptr<Kernel> kernel_;
};

}  // namespace faultline::soft
