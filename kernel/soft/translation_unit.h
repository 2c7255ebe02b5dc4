// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "kernel/model/fl_iommu.h"
#include "kernel/soft/soft_kernel.h"

namespace faultline::soft {

/// One container's IOMMU: the model, the memory of its caches, and its lock. Each container has its
/// own, so that guests do not share a lock; their VMIDs differ all the same.
struct TranslationUnit {
  TranslationUnit(const SoftKernelConfig& config, std::uint16_t vmid);

  static constexpr std::uint32_t kMaxDoorbells = 16;

  std::mutex mutex;  ///< around every call of the model
  fl_iommu iommu{};
  fl_domain domain{};

 private:
  std::vector<fl_tlb_set> tlb_;
  std::vector<fl_walk_set> walks_;
  std::vector<fl_config_set> configs_;
  std::unique_ptr<fl_s2_map[]> maps_;  // not touched before use: it may be large
  fl_s2_map doorbells_[kMaxDoorbells];
};

}  // namespace faultline::soft
