// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/soft/translation_unit.h"

#include "kernel/base/shared.h"

namespace faultline::soft {
namespace {

int read_host(void*, std::uint64_t host, std::uint64_t* value) {
  // A handle is the address; the guest may be writing the word.
  *value = load_acquire(*reinterpret_cast<const std::uint64_t*>(host));
  return 0;
}

}  // namespace

TranslationUnit::TranslationUnit(const SoftKernelConfig& config, std::uint16_t vmid)
    : tlb_(config.tlb_sets),
      walks_(config.walk_sets),
      configs_(config.config_sets),
      maps_(new fl_s2_map[config.max_dma_maps]) {
  const fl_mem mem{&read_host, nullptr};
  const fl_iommu_memory memory{tlb_.data(),     walks_.data(),    configs_.data(),
                               config.tlb_sets, config.walk_sets, config.config_sets};
  // The sizes were checked when the kernel was made.
  static_cast<void>(fl_iommu_init(&iommu, &mem, &memory));
  domain.vmid = vmid;
  fl_stage2_init(&domain.s2, maps_.get(), config.max_dma_maps, doorbells_, kMaxDoorbells);
}

}  // namespace faultline::soft
