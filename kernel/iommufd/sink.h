// SPDX-License-Identifier: BSD-3-Clause
// hot path: one guest's operations into arrays of SMMUv3 commands.
#pragma once

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>

#include "kernel/backend.h"
#include "kernel/iommufd/commands.h"
#include "kernel/iommufd/guest_iommu.h"
#include "kernel/operation.h"
#include "kernel/sys.h"
#include "kernel/uapi/iommufd_nested.h"

namespace faultline::iommufd {

/// The InvalidationSink of a guest on mainline's iommufd: arrays of commands to its vIOMMU.
///
/// An array has at most 63 commands: that many the kernel sends with one CMD_SYNC of the host. What
/// comes to more goes in as many arrays, one after the other.
///
/// Commands by StreamID for streams that the guest does not have succeed without a call, as on
/// hardware: the kernel would refuse the whole array. An array that fails may have been done in
/// part, and the kernel's count says more than that: it is not looked at, and the submission ends
/// there. Nothing may be assumed of it then; whoever submitted covers the guest anew.
///
/// The kernel hides an ATC invalidation that timed out, so SubmitResult::atc_timeout is never set.
///
/// thread   submit and note_asid: the shard of the guest's CommandDuty; set_stage1: the cold lane
///          while that queue is parked
/// source   arm_vsmmu_cache_invalidate() of Linux 7.2
template <Syscalls Sys>
class Sink {
 public:
  static constexpr std::size_t kBatch = 63;

  /// iommu   must outlive the sink
  explicit Sink(GuestIommu<Sys>& iommu) noexcept : iommu_(&iommu) {}

  [[nodiscard]] SinkCaps caps() const noexcept {
    const Offer& offer = iommu_->offer();
    return {.max_batch = kBatch,
            .tlb_all = true,
            .config_caches = true,
            .atc = offer.ats,
            .range = offer.ranges,
            .max_pages = offer.ranges ? 0 : static_cast<std::uint32_t>(kMostSinglePages)};
  }

  /// Do them all, in order; the first failure ends it and nothing may be assumed of any.
  ///
  /// cost     one ioctl for each 63 commands
  /// errors   SubmitResult::error = the positive errno; EINVAL: an operation that no command can
  /// say
  SubmitResult submit(std::span<const Operation> ops) noexcept {
    SubmitResult result;
    std::array<SmmuCommand, kBatch> batch;
    std::size_t n = 0;
    const bool ranges = iommu_->offer().ranges;
    for (const Operation& op : ops) {
      if (skipped(op)) continue;
      const bool said = each_command(op, ranges, [&](const SmmuCommand& command) noexcept {
        if (n == batch.size() && !send({batch.data(), n}, result)) return false;
        if (n == batch.size()) n = 0;
        batch[n++] = command;
        return true;
      });
      if (!said) {
        if (result.error == 0) result.error = EINVAL;
        return result;
      }
    }
    if (n != 0) (void)send({batch.data(), n}, result);
    return result;
  }

  /// TLBI by ASID reaches every device of the vIOMMU in one command: nothing to route by.
  void note_asid(std::size_t /*device*/, std::uint16_t /*asid*/) noexcept {}

  SubmitResult set_stage1(std::size_t device, const Stage1Config& config) noexcept {
    return iommu_->set_stage1(device, config);
  }

 private:
  [[nodiscard]] bool skipped(const Operation& op) const noexcept {
    switch (op.kind) {
      case OperationKind::kAtcInv:
        if (!iommu_->offer().ats) return true;
        [[fallthrough]];
      case OperationKind::kCfgCd:
      case OperationKind::kCfgCdAll:
        return iommu_->find(op.sid) < 0;
      default:
        return false;
    }
  }

  bool send(std::span<SmmuCommand> commands, SubmitResult& result) noexcept {
    const int rc = despite_signals([&] {
      // The kernel writes entry_num: made anew each time, all of it is done again.
      uapi::iommu_hwpt_invalidate i{.size = sizeof i,
                                    .hwpt_id = iommu_->viommu(),
                                    .data_uptr = reinterpret_cast<std::uintptr_t>(commands.data()),
                                    .data_type = uapi::kIommuViommuInvalidateDataArmSmmuv3,
                                    .entry_len = sizeof(SmmuCommand),
                                    .entry_num = static_cast<std::uint32_t>(commands.size()),
                                    .reserved = 0};
      return iommu_->sys().ioctl(iommu_->iommufd(), uapi::kIommuHwptInvalidate, &i);
    });
    ++result.calls;
    ++result.host_syncs;
    if (rc >= 0) return true;
    result.error = -rc;
    return false;
  }

  GuestIommu<Sys>* iommu_;
};

static_assert(InvalidationSink<Sink<LinuxSys>>);

}  // namespace faultline::iommufd
