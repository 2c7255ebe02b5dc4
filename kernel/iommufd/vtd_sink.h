// SPDX-License-Identifier: BSD-3-Clause
// hot path: operations into arrays of VT-d stage-1 invalidations.
#pragma once

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "kernel/backend.h"
#include "kernel/operation.h"
#include "kernel/sys.h"
#include "kernel/uapi/iommufd_nested.h"

namespace faultline::iommufd {

/// The InvalidationSink over VT-d stage-1 page tables that a VMM has nested and attached.
///
/// There is no ASID, no context descriptor and no ATC command here: a table is one address space,
/// the kernel removes device TLB entries along and caches of the configuration when a table is
/// attached. So every operation on the TLB goes to every table, and the others are nothing.
/// Attaching tables is the VMM's: set_stage1() refuses.
///
/// thread   the shard of the guest's CommandDuty
/// source   intel_nested_cache_invalidate_user() of Linux 7.2
template <Syscalls Sys>
class VtdSink {
 public:
  static constexpr std::size_t kBatch = 63;

  /// iommufd, tables   the VMM's descriptor and the ids of its nested page tables
  VtdSink(Sys& sys, int iommufd, std::vector<std::uint32_t> tables)
      : sys_(&sys), iommufd_(iommufd), tables_(std::move(tables)) {}

  [[nodiscard]] SinkCaps caps() const noexcept {
    return {.max_batch = kBatch,
            .tlb_all = true,
            .config_caches = true,
            .atc = false,
            .range = true,
            .max_pages = 0};
  }

  SubmitResult submit(std::span<const Operation> ops) noexcept {
    SubmitResult result;
    std::array<Entry, kBatch> batch;
    std::size_t n = 0;
    for (const Operation& op : ops) {
      if (op.kind == OperationKind::kCfgCd || op.kind == OperationKind::kCfgCdAll ||
          op.kind == OperationKind::kAtcInv) {
        continue;
      }
      if (n == batch.size()) {
        if (!send({batch.data(), n}, result)) return result;
        n = 0;
      }
      batch[n++] = entry(op);
    }
    if (n != 0) (void)send({batch.data(), n}, result);
    return result;
  }

  void note_asid(std::size_t /*device*/, std::uint16_t /*asid*/) noexcept {}
  SubmitResult set_stage1(std::size_t /*device*/, const Stage1Config& /*config*/) noexcept {
    return {.error = EOPNOTSUPP};
  }

 private:
  using Entry = uapi::iommu_hwpt_vtd_s1_invalidate;
  static constexpr unsigned kPageLog2 = 12;

  /// What has no range that fits is the whole table: address 0 with all pages.
  static Entry entry(const Operation& op) noexcept {
    Entry e{.addr = 0, .npages = ~std::uint64_t{0}, .flags = 0, .reserved = 0};
    const bool by_address = op.kind == OperationKind::kTlbVa || op.kind == OperationKind::kTlbVaa;
    if (!by_address || op.pages == 0 || op.granule_log2 < kPageLog2) return e;
    const unsigned shift = op.granule_log2 - kPageLog2;
    if (shift > 20 || op.pages >> (52 - shift) != 0) return e;
    e.addr = op.addr & ~std::uint64_t{0xfff};
    e.npages = op.pages << shift;
    e.flags = op.leaf ? uapi::kIommuVtdInvFlagsLeaf : 0;
    return e;
  }

  bool send(std::span<Entry> entries, SubmitResult& result) noexcept {
    for (const std::uint32_t table : tables_) {
      const int rc = despite_signals([&] {
        // The kernel writes entry_num.
        uapi::iommu_hwpt_invalidate i{.size = sizeof i,
                                      .hwpt_id = table,
                                      .data_uptr = reinterpret_cast<std::uintptr_t>(entries.data()),
                                      .data_type = uapi::kIommuHwptInvalidateDataVtdS1,
                                      .entry_len = sizeof(Entry),
                                      .entry_num = static_cast<std::uint32_t>(entries.size()),
                                      .reserved = 0};
        return sys_->ioctl(iommufd_, uapi::kIommuHwptInvalidate, &i);
      });
      ++result.calls;
      ++result.host_syncs;
      if (rc < 0) {
        result.error = -rc;
        return false;
      }
    }
    return true;
  }

  Sys* sys_;
  int iommufd_;
  std::vector<std::uint32_t> tables_;
};

static_assert(InvalidationSink<VtdSink<LinuxSys>>);

}  // namespace faultline::iommufd
